//! Binding and eviction of pods.

use http::StatusCode;
use serde_json::json;

use super::*;

const PODS: &str = "/api/v1/namespaces/a/pods";

fn binding(node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let f = Fixture::new().await;
    f.post(PODS, pod("p")).await;
    let target = format!("{PODS}/p/binding");
    let bound = f.post(&target, binding("n1")).await;
    assert_eq!(
        (bound.code, bound.at("/status")),
        (StatusCode::CREATED, json!("Success")),
        "{bound:?}"
    );
    let stored = f.get(&format!("{PODS}/p")).await;
    assert_eq!(stored.at("/spec/nodeName"), "n1");
    let conditions = stored.at("/status/conditions");
    let scheduled = conditions
        .as_array()
        .expect("conditions")
        .iter()
        .find(|c| c["type"] == "PodScheduled")
        .cloned();
    assert_eq!(scheduled.map(|c| c["status"].clone()), Some(json!("True")));
    let again = f.post(&target, binding("n2")).await;
    assert_eq!(again.code, StatusCode::CONFLICT);
    assert_eq!(
        again.message(),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
}

#[tokio::test]
async fn bindings_need_a_pod_and_a_node() {
    let f = Fixture::new().await;
    assert_eq!(
        f.post(&format!("{PODS}/p/binding"), binding("n1")).await.code,
        StatusCode::NOT_FOUND
    );
    f.post(PODS, pod("p")).await;
    assert_eq!(
        f.post(&format!("{PODS}/p/binding"), binding("")).await.code,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(f.get(&format!("{PODS}/p")).await.at("/spec/nodeName"), Value::Null);
}

#[tokio::test]
async fn an_eviction_deletes_with_its_options() {
    let f = Fixture::new().await;
    f.post(PODS, pod("p")).await;
    f.post(&format!("{PODS}/p/binding"), binding("n1")).await;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 7},
    });
    let evicted = f.post(&format!("{PODS}/p/eviction"), eviction).await;
    assert_eq!(
        (evicted.code, evicted.at("/status")),
        (StatusCode::CREATED, json!("Success")),
        "{evicted:?}"
    );
    assert_eq!(
        f.get(&format!("{PODS}/p"))
            .await
            .at("/metadata/deletionGracePeriodSeconds"),
        7
    );
}
