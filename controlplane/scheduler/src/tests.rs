//! The whole loop against the fake API server.

use std::{sync::atomic::Ordering, time::Duration};

use api::Object;
use client::fake::Fake;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": DEFAULT_SCHEDULER, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
}

struct Running {
    fake: Fake,
    shutdown: CancellationToken,
    scheduler: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(fake: Fake) -> Self {
        let shutdown = CancellationToken::new();
        let config = Config {
            client: fake.client(),
            informers: Informers::new(fake.client(), TaskTracker::new(), shutdown.clone()),
            scheduler_name: DEFAULT_SCHEDULER.to_owned(),
            clock: Clock::anchored(Timestamp::UNIX_EPOCH),
        };
        let scheduler = tokio::spawn(run(config, shutdown.clone()));
        Self {
            fake,
            shutdown,
            scheduler,
        }
    }

    fn pod(&self, name: &str) -> Object {
        self.fake.get(&kinds::POD, "ns", name).unwrap()
    }

    async fn bound(&self, name: &str) {
        let bound = |pod: &Object| pod.name() != name || pod.str_at("spec.nodeName").is_some();
        self.fake.wait_for(&kinds::POD, |pods| pods.iter().all(bound)).await;
    }

    /// Bindings that the server refused.
    fn refused(&self) -> usize {
        let rejected = |event: &Object| {
            event
                .str_at("message")
                .is_some_and(|m| m.starts_with("binding rejected"))
        };
        self.fake
            .all(&kinds::EVENT)
            .iter()
            .filter(|event| rejected(event))
            .count()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.scheduler.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_once_and_at_once() {
    let fake = Fake::new();
    fake.put(&kinds::NODE, node("n", "64"));
    let running = Running::start(fake);
    let start = Instant::now();
    for n in 0..50 {
        running.fake.put(&kinds::POD, pod(&format!("p{n}"), "1"));
    }
    for n in 0..50 {
        running.bound(&format!("p{n}")).await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    let announced = |events: &[Object]| {
        events
            .iter()
            .filter(|e| e.str_at("reason") == Some("Scheduled"))
            .count()
            == 50
    };
    running.fake.wait_for(&kinds::EVENT, announced).await;
    assert_eq!(running.refused(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_says_why_and_is_bound_when_there_is_room() {
    let fake = Fake::new();
    fake.put(&kinds::NODE, node("n", "1"));
    fake.put(&kinds::POD, pod("first", "1"));
    let running = Running::start(fake);
    running.bound("first").await;
    running.fake.put(&kinds::POD, pod("second", "1"));
    let said = |pods: &[Object]| pods.iter().any(|pod| !pod.list_at("status.conditions").is_empty());
    running.fake.wait_for(&kinds::POD, said).await;
    let condition = running.pod("second").list_at("status.conditions")[0].clone();
    assert_eq!(
        (condition["reason"].as_str(), condition["message"].as_str()),
        (
            Some("Unschedulable"),
            Some("0/1 nodes are available: 1 Insufficient cpu.")
        )
    );
    running.fake.remove(&kinds::POD, "ns", "first");
    running.bound("second").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_binding_is_tried_again_and_holds_nothing() {
    let fake = Fake::new();
    fake.put(&kinds::NODE, node("n", "1"));
    fake.refuse_creates.store(2, Ordering::Relaxed);
    let running = Running::start(fake);
    running.fake.put(&kinds::POD, pod("p", "1"));
    running.bound("p").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_schedulers_and_gated_pods_are_left_alone() {
    let fake = Fake::new();
    fake.put(&kinds::NODE, node("n", "8"));
    let running = Running::start(fake);
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = "mine".into();
    running.fake.put(&kinds::POD, other);
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    running.fake.put(&kinds::POD, gated.clone());
    running.fake.put(&kinds::POD, pod("plain", "1"));
    running.bound("plain").await;
    assert_eq!(
        (
            running.pod("other").str_at("spec.nodeName"),
            running.pod("gated").str_at("spec.nodeName")
        ),
        (None, None)
    );
    gated["spec"]["schedulingGates"] = json!([]);
    running.fake.put(&kinds::POD, gated);
    running.bound("gated").await;
    running.stop().await;
}
