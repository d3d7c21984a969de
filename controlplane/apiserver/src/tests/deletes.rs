//! delete and deletecollection: at once, gracefully, and by finalizers.

use http::StatusCode;
use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const PODS: &str = "/api/v1/namespaces/a/pods";

async fn delete_with(f: &Fixture, target: &str, options: Value) -> Answer {
    f.send_with(
        "DELETE",
        target,
        &[("content-type", "application/json")],
        options.to_string().into(),
    )
    .await
}

#[tokio::test]
async fn a_plain_object_goes_at_once() {
    let f = Fixture::new().await;
    let made = f.config_map("x", json!({})).await;
    let answer = f.delete(&format!("{MAPS}/x")).await;
    assert_eq!(answer.code, StatusCode::OK);
    assert_eq!(
        (answer.at("/kind"), answer.at("/status")),
        (json!("Status"), json!("Success"))
    );
    assert_eq!(
        answer.at("/details"),
        json!({"name": "x", "kind": "configmaps", "uid": made.at("/metadata/uid")})
    );
    assert_eq!(f.get(&format!("{MAPS}/x")).await.code, StatusCode::NOT_FOUND);
    assert_eq!(f.delete(&format!("{MAPS}/x")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn preconditions_are_kept() {
    let f = Fixture::new().await;
    let made = f.config_map("x", json!({})).await;
    let target = format!("{MAPS}/x");
    let cases = [
        (json!({"preconditions": {"uid": "other"}}), StatusCode::CONFLICT),
        (json!({"preconditions": {"resourceVersion": "1"}}), StatusCode::CONFLICT),
        (
            json!({"preconditions": {"uid": made.at("/metadata/uid"), "resourceVersion": made.revision()}}),
            StatusCode::OK,
        ),
    ];
    for (options, code) in cases {
        assert_eq!(delete_with(&f, &target, options.clone()).await.code, code, "{options}");
    }
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let f = Fixture::new().await;
    let mut held = config_map("x", json!({}));
    held["metadata"]["finalizers"] = json!(["a.test/one", "a.test/two"]);
    f.post(MAPS, held).await;
    let target = format!("{MAPS}/x");
    let marked = f.delete(&target).await;
    assert_eq!(marked.at("/metadata/deletionTimestamp"), "2026-01-01T00:00:00Z");
    assert_eq!(marked.at("/metadata/deletionGracePeriodSeconds"), 0);
    assert_eq!(f.delete(&target).await.revision(), marked.revision());
    let added = f
        .patch(
            &target,
            "merge",
            json!({"metadata": {"finalizers": ["a.test/one", "a.test/new"]}}),
        )
        .await;
    assert_eq!(added.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        added
            .message()
            .contains("no new finalizers can be added if the object is being deleted"),
        "{added:?}"
    );
    let one = f
        .patch(&target, "merge", json!({"metadata": {"finalizers": ["a.test/two"]}}))
        .await;
    assert_eq!(one.code, StatusCode::OK);
    assert_eq!(f.get(&target).await.code, StatusCode::OK);
    let last = f
        .patch(&target, "merge", json!({"metadata": {"finalizers": null}}))
        .await;
    assert_eq!(last.code, StatusCode::OK);
    assert_eq!(f.get(&target).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn propagation_is_a_finalizer_for_the_garbage_collector() {
    let f = Fixture::new().await;
    for (name, policy, finalizer) in [("o", "Orphan", "orphan"), ("f", "Foreground", "foregroundDeletion")] {
        f.config_map(name, json!({})).await;
        let answer = delete_with(&f, &format!("{MAPS}/{name}"), json!({"propagationPolicy": policy})).await;
        assert_eq!(answer.at("/metadata/finalizers"), json!([finalizer]), "{policy}");
        assert!(answer.at("/metadata/deletionTimestamp").is_string());
    }
    f.config_map("b", json!({})).await;
    let answer = delete_with(&f, &format!("{MAPS}/b"), json!({"propagationPolicy": "Background"})).await;
    assert_eq!(answer.at("/status"), "Success");
}

#[tokio::test]
async fn a_running_pod_is_given_its_grace_period() {
    let f = Fixture::new().await;
    f.post(PODS, pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(
        f.post(&format!("{PODS}/p/binding"), binding).await.code,
        StatusCode::CREATED
    );
    let target = format!("{PODS}/p");
    let marked = f.delete(&target).await;
    assert_eq!(
        marked.at("/metadata/deletionTimestamp"),
        "2026-01-01T00:00:30Z",
        "{marked:?}"
    );
    assert_eq!(marked.at("/metadata/deletionGracePeriodSeconds"), 30);
    let longer = delete_with(&f, &target, json!({"gracePeriodSeconds": 60})).await;
    assert_eq!(longer.revision(), marked.revision());
    let shorter = delete_with(&f, &target, json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter.at("/metadata/deletionTimestamp"), "2026-01-01T00:00:05Z");
    let last = delete_with(&f, &target, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!((last.code, last.at("/kind")), (StatusCode::OK, json!("Pod")));
    assert_eq!(f.get(&target).await.code, StatusCode::NOT_FOUND);
}

/// What watchers are told of a pod: the kind of event, and the grace period that the pod then has.
async fn graces(f: &Fixture, from: &str, count: usize) -> Vec<(Value, Value)> {
    let mut events = f.watch(&format!("{PODS}?watch=1&resourceVersion={from}")).await;
    let mut told = Vec::new();
    while told.len() < count {
        let event = events.next().await.expect("an event");
        let grace = &event["object"]["metadata"]["deletionGracePeriodSeconds"];
        told.push((event["type"].clone(), grace.clone()));
    }
    told
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once_and_watchers_see_it_marked() {
    let f = Fixture::new().await;
    let made = f.post(PODS, pod("p")).await;
    let target = format!("{PODS}/p");
    let dry = f.delete(&format!("{target}?dryRun=All")).await;
    assert_eq!(dry.at("/metadata/deletionGracePeriodSeconds"), 0, "{dry:?}");
    assert_eq!(f.get(&target).await.json(), made.json());
    let gone = f.delete(&target).await;
    assert_eq!(gone.code, StatusCode::OK);
    assert_eq!(gone.at("/metadata/deletionTimestamp"), "2026-01-01T00:00:00Z");
    assert_eq!(f.get(&target).await.code, StatusCode::NOT_FOUND);
    let told = graces(&f, &made.revision(), 2).await;
    assert_eq!(told, [(json!("MODIFIED"), json!(0)), (json!("DELETED"), json!(0))]);
}

#[tokio::test]
async fn the_end_of_a_grace_period_is_told_before_a_pod_is_gone() {
    let f = Fixture::new().await;
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = json!("n1");
    let made = f.post(PODS, bound).await;
    let target = format!("{PODS}/p");
    f.delete(&target).await;
    delete_with(&f, &target, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(f.get(&target).await.code, StatusCode::NOT_FOUND);
    let told = graces(&f, &made.revision(), 3).await;
    let expected = [("MODIFIED", 30), ("MODIFIED", 0), ("DELETED", 0)];
    assert_eq!(told, expected.map(|(kind, grace)| (json!(kind), json!(grace))));
}

#[tokio::test]
async fn a_namespace_goes_when_its_content_has_gone() {
    let f = Fixture::new().await;
    f.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    let marked = f.delete("/api/v1/namespaces/n").await;
    assert_eq!(marked.at("/status/phase"), "Terminating", "{marked:?}");
    assert_eq!(
        f.get("/api/v1/namespaces/n").await.at("/spec/finalizers"),
        json!(["kubernetes"])
    );
    let mut done = marked.json();
    done["spec"]["finalizers"] = json!([]);
    let finalized = f.put("/api/v1/namespaces/n/finalize", done).await;
    assert_eq!(finalized.code, StatusCode::OK, "{finalized:?}");
    assert_eq!(f.get("/api/v1/namespaces/n").await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_first_delete_of_a_namespace_only_marks_it() {
    let f = Fixture::new().await;
    let made = f.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    let mut emptied = made.json();
    emptied["spec"]["finalizers"] = json!([]);
    assert_eq!(
        f.put("/api/v1/namespaces/n/finalize", emptied).await.code,
        StatusCode::OK
    );
    let marked = f.delete("/api/v1/namespaces/n").await;
    assert_eq!(marked.at("/status/phase"), "Terminating", "{marked:?}");
    assert_eq!(f.get("/api/v1/namespaces/n").await.code, StatusCode::OK);
    assert_eq!(f.delete("/api/v1/namespaces/n").await.code, StatusCode::OK);
    assert_eq!(f.get("/api/v1/namespaces/n").await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let f = Fixture::new().await;
    for name in ["a", "b", "c"] {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"go": if name == "b" { "no" } else { "yes" }});
        f.post(MAPS, map).await;
    }
    let answer = f.delete(&format!("{MAPS}?labelSelector=go%3Dyes")).await;
    assert_eq!(
        (answer.code, answer.at("/kind")),
        (StatusCode::OK, json!("ConfigMapList"))
    );
    assert_eq!(answer.names(), ["a", "c"]);
    assert_eq!(f.get(MAPS).await.names(), ["b"]);
}

#[tokio::test]
async fn what_goes_gracefully_may_only_be_hurried() {
    let f = Fixture::new().await;
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = json!("n1");
    f.post(PODS, bound).await;
    let target = format!("{PODS}/p");
    let marked = f.delete(&target).await;
    // What becomes of dependents was decided when it began to go.
    let later = delete_with(&f, &target, json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(
        (later.revision(), later.at("/metadata/finalizers")),
        (marked.revision(), json!(null))
    );
    // A negative period is one of a second.
    let hurried = delete_with(&f, &target, json!({"gracePeriodSeconds": -1})).await;
    assert_eq!(hurried.at("/metadata/deletionGracePeriodSeconds"), 1, "{hurried:?}");
    assert_eq!(hurried.at("/metadata/deletionTimestamp"), "2026-01-01T00:00:01Z");
    assert_eq!(f.get(&target).await.code, StatusCode::OK);
}
