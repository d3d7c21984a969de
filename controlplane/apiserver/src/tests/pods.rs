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
    assert_eq!(stored.at("/metadata/generation"), 1);
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
async fn a_binding_may_be_created_beside_its_pod() {
    let virtuals: crate::Virtuals = Box::new(|_| vec![crate::pods::bindings()]);
    let f = Fixture::with(Arc::default(), Vec::new(), virtuals).await;
    let target = "/api/v1/namespaces/a/bindings";
    assert_eq!(f.post(target, binding("n1")).await.code, StatusCode::NOT_FOUND);
    f.post(PODS, pod("p")).await;
    let mut nameless = binding("n1");
    nameless["metadata"] = json!({});
    assert_eq!(f.post(target, nameless).await.code, StatusCode::BAD_REQUEST);
    let bound = f.post(target, binding("n1")).await;
    assert_eq!(
        (bound.code, bound.at("/status")),
        (StatusCode::CREATED, json!("Success")),
        "{bound:?}"
    );
    assert_eq!(f.get(&format!("{PODS}/p")).await.at("/spec/nodeName"), "n1");
    assert_eq!(f.post(target, binding("n2")).await.code, StatusCode::CONFLICT);
    assert_eq!(f.get(target).await.code, StatusCode::METHOD_NOT_ALLOWED);
    let offered = f.get("/api/v1").await.at("/resources");
    let offered = offered.as_array().expect("resources");
    let own = offered
        .iter()
        .find(|resource| resource["name"] == "bindings")
        .expect("it is offered");
    let wanted = json!({"name": "bindings", "singularName": "binding", "namespaced": true, "kind": "Binding",
        "verbs": ["create"]});
    assert_eq!(own, &wanted);
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
    let going = f.get(&format!("{PODS}/p")).await;
    assert_eq!(going.at("/metadata/deletionGracePeriodSeconds"), 7);
    let conditions = going.at("/status/conditions");
    let why = |condition: &&Value| condition["type"] == "DisruptionTarget";
    let condition = conditions.as_array().expect("conditions").iter().find(why).cloned();
    assert_eq!(
        condition.map(|c| c["reason"].clone()),
        Some(json!("EvictionByEvictionAPI"))
    );
}

#[tokio::test]
async fn an_eviction_that_is_only_tried_or_of_another_pod_changes_nothing() {
    let f = Fixture::new().await;
    let before = f.post(PODS, pod("p")).await.revision();
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let tried = f.post(&format!("{PODS}/p/eviction?dryRun=All"), eviction("p")).await;
    assert_eq!(tried.code, StatusCode::CREATED);
    let other = f.post(&format!("{PODS}/p/eviction"), eviction("q")).await;
    assert_eq!(
        (other.code, other.message().as_str()),
        (
            StatusCode::BAD_REQUEST,
            "name in URL does not match name in Eviction object"
        )
    );
    let stale = json!({"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"uid": "another"}}});
    assert_eq!(
        f.post(&format!("{PODS}/p/eviction"), stale).await.code,
        StatusCode::CONFLICT
    );
    assert_eq!(f.get(&format!("{PODS}/p")).await.revision(), before);
    assert_eq!(
        f.post(&format!("{PODS}/none/eviction"), eviction("none")).await.code,
        StatusCode::NOT_FOUND
    );
}
