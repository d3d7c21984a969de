//! Disruption budgets: their status is counted from the pods, and evictions never take more than they allow.

use api::{NamespacedName, Object};
use client::{Error, Patch, kinds};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{NAMESPACE, Plane, until};

const EVICTION: &str = "eviction";

fn at(name: &str) -> NamespacedName {
    NamespacedName::new(NAMESPACE, name)
}

impl Plane {
    async fn budget(&self, spec: Value) {
        let budget =
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec});
        self.admin
            .create(&kinds::POD_DISRUPTION_BUDGET, Some(NAMESPACE), &budget)
            .await
            .unwrap();
    }

    async fn ready_pod(&self, name: &str) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        self.admin.create(&kinds::POD, Some(NAMESPACE), &pod).await.unwrap();
        self.make_ready(name).await;
    }

    async fn make_ready(&self, name: &str) {
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        self.admin
            .patch(&kinds::POD, &at(name), Some("status"), Patch::Strategic(status))
            .await
            .unwrap();
    }

    async fn evict(&self, name: &str) -> Result<(), Error> {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        self.admin
            .create_sub(&kinds::POD, &at(name), EVICTION, &eviction)
            .await
            .map(drop)
    }

    /// Waits for counts of the budget: pods expected, healthy and wanted healthy, disruptions allowed.
    async fn counted(&self, expected: [i64; 4]) {
        let budgets = self.follow(&kinds::POD_DISRUPTION_BUDGET).await;
        until(&budgets, |all| {
            let counts = ["expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed"]
                .map(|field| all[0].i64_at(&format!("status.{field}")).unwrap_or(-1));
            if counts == expected {
                Ok(())
            } else {
                Err(format!("{counts:?} is not {expected:?}"))
            }
        })
        .await;
    }
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "web"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_take_what_the_budget_allows_and_no_more() {
    let plane = Plane::start().await;
    let names: Vec<String> = (0..8).map(|nth| format!("p{nth}")).collect();
    join_all(names.iter().map(|name| plane.ready_pod(name))).await;
    plane.budget(json!({"minAvailable": 5, "selector": selector()})).await;
    plane.counted([8, 8, 5, 3]).await;
    let outcomes = join_all(names.iter().map(|name| plane.evict(name))).await;
    let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 3, "as many as were allowed");
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.code(), Some(429), "{error}");
        let words = "Cannot evict pod as it would violate the pod's disruption budget.";
        assert_eq!(error.to_string(), words);
    }
    plane.counted([5, 5, 5, 0]).await;
    plane.ready_pod("another").await;
    plane.counted([6, 6, 5, 1]).await;
    plane.evict("another").await.unwrap();
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_taken_of_what_the_controllers_want() {
    let plane = Plane::start().await;
    plane
        .budget(json!({"maxUnavailable": "50%", "selector": selector()}))
        .await;
    plane.counted([0, 0, 0, 0]).await;
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"}, "spec": {
        "replicas": 4, "selector": selector(), "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    plane
        .admin
        .create(&kinds::REPLICA_SET, Some(NAMESPACE), &set)
        .await
        .unwrap();
    plane.counted([4, 0, 2, 0]).await;
    let pods = plane.follow(&kinds::POD).await;
    until(&pods, |all| {
        if all.len() == 4 {
            Ok(())
        } else {
            Err(format!("{} pods", all.len()))
        }
    })
    .await;
    let names: Vec<String> = pods.list().iter().map(|(_, pod)| pod.name().to_owned()).collect();
    join_all(names.iter().map(|name| plane.make_ready(name))).await;
    plane.counted([4, 4, 2, 2]).await;
    let condition = |budget: &Object| budget.list_at("status.conditions")[0]["reason"].clone();
    let budget: Object = plane.admin.get(&kinds::POD_DISRUPTION_BUDGET, &at("b")).await.unwrap();
    assert_eq!(condition(&budget), "SufficientPods");
    plane.stop().await;
}
