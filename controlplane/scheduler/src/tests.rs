//! The whole loop against a small API server in memory.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::*;

/// Objects by collection and name, and every change of them in order.
#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Value>,
    history: Vec<(String, &'static str, Value)>,
    bindings: usize,
    refuse_bindings: usize,
}

#[derive(Clone)]
struct Fake {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<usize>,
}

type Answer = http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

impl Fake {
    fn new() -> Self {
        Self {
            state: Arc::default(),
            revision: watch::Sender::new(0),
        }
    }

    fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.state.lock();
        let revision = state.history.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let key = (
            plural.to_owned(),
            object["metadata"]["name"].as_str().unwrap().to_owned(),
        );
        let kind = if state.objects.insert(key, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.history.push((plural.to_owned(), kind, object));
        self.revision.send_replace(revision);
    }

    fn remove(&self, plural: &str, name: &str) {
        let mut state = self.state.lock();
        let mut object = state.objects.remove(&(plural.to_owned(), name.to_owned())).unwrap();
        let revision = state.history.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        state.history.push((plural.to_owned(), "DELETED", object));
        self.revision.send_replace(revision);
    }

    fn pod(&self, name: &str) -> Value {
        self.state.lock().objects[&("pods".to_owned(), name.to_owned())].clone()
    }

    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let mut revision = self.revision.subscribe();
        let wait = async {
            while !done(self) {
                revision.changed().await.unwrap();
            }
        };
        timeout(Duration::from_secs(1000), wait)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn client(&self) -> Client {
        let fake = self.clone();
        let serve = move |request: http::Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, std::io::Error>(fake.serve(request).await) }
        };
        Client::new(kube::Client::new(tower::service_fn(serve), "default"))
    }

    async fn serve(&self, request: http::Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path: Vec<&str> = parts.uri.path().trim_start_matches("/api/v1/").split('/').collect();
        let query = parts.uri.query().unwrap_or("");
        match (parts.method.as_str(), path.as_slice()) {
            ("GET", [plural]) if query.contains("watch=true") => self.watch(plural, query),
            ("GET", [plural]) => {
                let state = self.state.lock();
                let items: Vec<_> = state
                    .objects
                    .iter()
                    .filter(|((p, _), _)| p == plural)
                    .map(|(_, o)| o)
                    .collect();
                answer(
                    200,
                    &json!({"metadata": {"resourceVersion": state.history.len().to_string()}, "items": items}),
                )
            }
            ("POST", ["namespaces", _, "pods", name, "binding"]) => {
                let binding: Value = serde_json::from_slice(&body).unwrap();
                {
                    let mut state = self.state.lock();
                    if state.refuse_bindings > 0 {
                        state.refuse_bindings -= 1;
                        return answer(500, &json!({"code": 500, "reason": "InternalError", "message": "no"}));
                    }
                    state.bindings += 1;
                }
                let mut pod = self.pod(name);
                assert_eq!(pod["metadata"]["uid"], binding["metadata"]["uid"]);
                assert_eq!(pod["spec"]["nodeName"], Value::Null, "bound twice");
                pod["spec"]["nodeName"] = binding["target"]["name"].clone();
                self.put("pods", pod);
                answer(201, &json!({"kind": "Status", "status": "Success"}))
            }
            ("PATCH", ["namespaces", _, "pods", name, "status"]) => {
                let patch: Value = serde_json::from_slice(&body).unwrap();
                let mut pod = self.pod(name);
                pod["status"]["conditions"] = patch["status"]["conditions"].clone();
                self.put("pods", pod.clone());
                answer(200, &pod)
            }
            ("POST", ["namespaces", _, "events"]) => {
                let event: Value = serde_json::from_slice(&body).unwrap();
                self.put("events", event.clone());
                answer(201, &event)
            }
            ("PATCH", ["namespaces", _, "events", _]) => answer(200, &json!({})),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn watch(&self, plural: &str, query: &str) -> Answer {
        let from: usize = query
            .split('&')
            .find_map(|p| p.strip_prefix("resourceVersion="))
            .unwrap()
            .parse()
            .unwrap();
        let (fake, plural) = (self.clone(), plural.to_owned());
        let lines = futures::stream::unfold((from, self.revision.subscribe()), move |(from, mut revision)| {
            let (fake, plural) = (fake.clone(), plural.clone());
            async move {
                revision.wait_for(|at| *at > from).await.ok()?;
                let state = fake.state.lock();
                let news = state.history[from..].iter().filter(|(p, ..)| *p == plural);
                let text: String = news
                    .map(|(_, kind, o)| json!({"type": kind, "object": o}).to_string() + "\n")
                    .collect();
                let at = state.history.len();
                drop(state);
                Some((
                    Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(text))),
                    (at, revision),
                ))
            }
        });
        http::Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
    }
}

fn answer(code: u16, body: &Value) -> Answer {
    let mut response = http::Response::new(http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

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

    async fn bound(&self, name: &str) {
        self.fake
            .until(&format!("{name} bound"), |fake| {
                fake.pod(name)["spec"]["nodeName"].is_string()
            })
            .await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.scheduler.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_once_and_at_once() {
    let fake = Fake::new();
    fake.put("nodes", node("n", "64"));
    let running = Running::start(fake);
    let start = Instant::now();
    for n in 0..50 {
        running.fake.put("pods", pod(&format!("p{n}"), "1"));
    }
    for n in 0..50 {
        running.bound(&format!("p{n}")).await;
    }
    assert_eq!(
        (start.elapsed(), running.fake.state.lock().bindings),
        (Duration::ZERO, 50)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_says_why_and_is_bound_when_there_is_room() {
    let fake = Fake::new();
    fake.put("nodes", node("n", "1"));
    fake.put("pods", pod("first", "1"));
    let running = Running::start(fake);
    running.bound("first").await;
    running.fake.put("pods", pod("second", "1"));
    let condition = |fake: &Fake| fake.pod("second")["status"]["conditions"][0].clone();
    running
        .fake
        .until("condition", |fake| condition(fake)["reason"] == "Unschedulable")
        .await;
    assert_eq!(
        condition(&running.fake)["message"],
        "0/1 nodes are available: 1 Insufficient cpu."
    );
    running.fake.remove("pods", "first");
    running.bound("second").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_binding_is_tried_again_and_holds_nothing() {
    let fake = Fake::new();
    fake.put("nodes", node("n", "1"));
    fake.state.lock().refuse_bindings = 2;
    let running = Running::start(fake);
    running.fake.put("pods", pod("p", "1"));
    running.bound("p").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_schedulers_and_gated_pods_are_left_alone() {
    let fake = Fake::new();
    fake.put("nodes", node("n", "8"));
    let running = Running::start(fake);
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = "mine".into();
    running.fake.put("pods", other);
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    running.fake.put("pods", gated.clone());
    running.fake.put("pods", pod("plain", "1"));
    running.bound("plain").await;
    assert_eq!(running.fake.pod("other")["spec"]["nodeName"], Value::Null);
    assert_eq!(running.fake.pod("gated")["spec"]["nodeName"], Value::Null);
    gated["spec"]["schedulingGates"] = json!([]);
    running.fake.put("pods", gated);
    running.bound("gated").await;
    running.stop().await;
}
