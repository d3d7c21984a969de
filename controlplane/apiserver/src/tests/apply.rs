//! Server-side apply from end to end.

use serde_json::json;

use super::managed::books;
use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";
const PODS: &str = "/api/v1/namespaces/a/pods";

impl Fixture {
    /// Applies a configuration; `query` names the manager.
    async fn apply(&self, target: &str, query: &str, body: Value) -> Answer {
        self.apply_text(target, query, &body.to_string()).await
    }

    async fn apply_text(&self, target: &str, query: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/apply-patch+yaml")];
        self.send_with("PATCH", &format!("{target}?{query}"), &headers, body.into())
            .await
    }
}

#[tokio::test]
async fn an_apply_creates_then_changes_then_does_nothing() {
    let f = Fixture::new().await;
    let target = format!("{MAPS}/x");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  labels: {app: web}\ndata:\n  a: one\n";
    let made = f.apply_text(&target, "fieldManager=me", yaml).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.at("/metadata/uid").as_str().map(str::len), Some(36));
    assert_eq!(
        made.at("/metadata/managedFields"),
        json!([{
            "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "me", "operation": "Apply",
            "time": "2026-01-01T00:00:00Z",
            "fieldsV1": {"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:app": {}}}},
        }])
    );
    let again = f.apply_text(&target, "fieldManager=me", yaml).await;
    assert_eq!(again.code, StatusCode::OK);
    assert_eq!(again.json(), made.json());
    let less = f
        .apply(&target, "fieldManager=me", config_map("x", json!({"b": "two"})))
        .await;
    assert_eq!(less.at("/data"), json!({"b": "two"}));
    assert!(less.json()["metadata"].get("labels").is_none());
    assert_eq!(books(&less), ["me Apply: {\"f:data\":{\"f:b\":{}}}"]);
    assert_ne!(less.revision(), made.revision());
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let f = Fixture::new().await;
    let target = format!("{MAPS}/x");
    f.apply(
        &target,
        "fieldManager=one",
        config_map("x", json!({"a": "1", "b": "1"})),
    )
    .await;
    f.patch(
        &format!("{target}?fieldManager=edit"),
        "merge",
        json!({"data": {"b": "2"}}),
    )
    .await;
    let config = config_map("x", json!({"a": "9", "b": "9"}));
    let refused = f.apply(&target, "fieldManager=two", config.clone()).await;
    assert_eq!(
        refused.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 2 conflicts: conflicts with \"edit\" using v1:\n- .data.b\nconflicts with \"one\":\n- .data.a",
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"edit\" using v1", "field": ".data.b"},
                {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a"},
            ]},
        })
    );
    let forced = f.apply(&target, "fieldManager=two&force=true", config).await;
    assert_eq!(forced.at("/data"), json!({"a": "9", "b": "9"}));
    assert_eq!(books(&forced), ["two Apply: {\"f:data\":{\"f:a\":{},\"f:b\":{}}}"]);
    // Who asks for what is there already shares it, without conflict.
    let shared = f
        .apply(&target, "fieldManager=three", config_map("x", json!({"a": "9"})))
        .await;
    assert_eq!(shared.code, StatusCode::OK);
    assert_eq!(books(&shared).len(), 2);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let f = Fixture::new().await;
    let target = format!("{MAPS}/x");
    let good = config_map("x", json!({"k": "v"}));
    let changed = |pointer: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(pointer).expect("it is there") = value;
        body
    };
    let with_uid = |uid: &str| {
        let mut body = good.clone();
        body["metadata"]["uid"] = uid.into();
        body
    };
    let cases = [
        (
            "",
            good.clone(),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "fieldManager=me",
            changed("/kind", "Pod".into()),
            400,
            "invalid object type: /v1, Kind=Pod",
        ),
        (
            "fieldManager=me",
            changed("/apiVersion", "apps/v1".into()),
            400,
            "invalid object type: apps/v1, Kind=ConfigMap",
        ),
        (
            "fieldManager=me",
            changed("/metadata/name", "y".into()),
            400,
            "the name of the object (y) does not match the name on the URL (x)",
        ),
        (
            "fieldManager=me",
            changed("/metadata", json!({})),
            400,
            "the name of the object (x based on URL) was undeterminable: Internal error occurred: name must be provided",
        ),
        (
            "fieldManager=me",
            changed("/metadata", json!({"name": "x", "managedFields": []})),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=me",
            changed("/metadata", json!({"name": "x", "namespace": "b"})),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "fieldManager=me",
            changed("/data", json!({"k": 1})),
            500,
            "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .data.k: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            "fieldManager=me",
            with_uid("u"),
            409,
            "Operation cannot be fulfilled on configmaps \"x\": uid mismatch: the provided object specified uid u, and no existing \
             object was found",
        ),
    ];
    for (query, body, code, message) in cases {
        let answer = f.apply(&target, query, body).await;
        assert_eq!((answer.code.as_u16(), &*answer.message()), (code, message));
    }
    assert_eq!(f.get(&target).await.code, StatusCode::NOT_FOUND);
    for (body, message) in [("{", "error encoding patch: "), ("- a", "error decoding patch: ")] {
        let answer = f.apply_text(&target, "fieldManager=me", body).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST);
        assert!(answer.message().starts_with(message), "{answer:?}");
    }
    let twice = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"1\",\"a\":\"2\"}}";
    let strict = f
        .apply_text(&target, "fieldManager=me&fieldValidation=Strict", twice)
        .await;
    assert_eq!(
        strict.message(),
        "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 1: key \"a\" already set in map"
    );
    let warned = f.apply_text(&target, "fieldManager=me", twice).await;
    assert_eq!(warned.headers["warning"], "299 - \"duplicate field \\\"data.a\\\"\"");
    let other = f
        .send_with(
            "PATCH",
            &target,
            &[("content-type", "application/apply-patch+json")],
            b"{}".to_vec(),
        )
        .await;
    assert_eq!(other.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(other.message().ends_with("application/apply-patch+yaml"), "{other:?}");
}

#[tokio::test]
async fn an_apply_may_state_what_it_is_based_on() {
    let f = Fixture::new().await;
    let made = f.config_map("x", json!({"k": "1"})).await;
    let target = format!("{MAPS}/x");
    let based_on = |revision: &str| {
        let mut body = config_map("x", json!({"n": "1"}));
        body["metadata"]["resourceVersion"] = revision.into();
        body
    };
    let stale = f.apply(&target, "fieldManager=me", based_on("1")).await;
    assert_eq!(
        (stale.code, stale.at("/reason")),
        (StatusCode::CONFLICT, "Conflict".into())
    );
    let current = f.apply(&target, "fieldManager=me", based_on(&made.revision())).await;
    assert_eq!(current.code, StatusCode::OK, "{current:?}");
    let mut other = config_map("x", json!({"n": "2"}));
    other["metadata"]["uid"] = "another".into();
    let other = f.apply(&target, "fieldManager=me", other).await;
    assert_eq!(other.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        other.message(),
        "ConfigMap \"x\" is invalid: metadata.uid: Invalid value: \"another\": field is immutable"
    );
}

#[tokio::test]
async fn dry_runs_of_applies_store_nothing() {
    let f = Fixture::new().await;
    let target = format!("{MAPS}/x");
    let query = "fieldManager=me&dryRun=All";
    let made = f.apply(&target, query, config_map("x", json!({"k": "1"}))).await;
    assert_eq!(made.code, StatusCode::CREATED);
    assert_eq!(f.get(&target).await.code, StatusCode::NOT_FOUND);
    let kept = f.config_map("x", json!({"k": "1"})).await;
    let changed = f.apply(&target, query, config_map("x", json!({"n": "2"}))).await;
    assert_eq!(changed.at("/data"), json!({"k": "1", "n": "2"}));
    assert_eq!(f.get(&target).await.json(), kept.json());
}

#[tokio::test]
async fn applied_objects_are_defaulted_and_validated() {
    let f = Fixture::new().await;
    let target = format!("{DEPLOYMENTS}/d");
    let made = f.apply(&target, "fieldManager=me", deployment("d", 2)).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.at("/spec/revisionHistoryLimit"), 10);
    assert_eq!(made.at("/metadata/generation"), 1);
    insta::assert_snapshot!(books(&made).join("\n"));
    let mut other = deployment("d", 2);
    other["spec"]["template"]["spec"]["containers"] = json!([{"name": "c", "image": ""}]);
    let invalid = f.apply(&target, "fieldManager=me", other).await;
    assert_eq!(invalid.code, StatusCode::UNPROCESSABLE_ENTITY, "{invalid:?}");
    // Defaults are nobody's, so that whoever wants them otherwise meets no conflict.
    let mut other = deployment("d", 2);
    other["spec"]["revisionHistoryLimit"] = 3.into();
    let other = f.apply(&target, "fieldManager=two", other).await;
    assert_eq!(other.at("/spec/revisionHistoryLimit"), 3, "{other:?}");
    assert_eq!(other.at("/metadata/generation"), 2);
}

#[tokio::test]
async fn a_status_is_applied_by_its_own_endpoint() {
    let f = Fixture::new().await;
    f.post(PODS, pod("p")).await;
    let status = |spec: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec,
        "status": {"conditions": [{"type": "example.com/x", "status": "True"}]}})
    };
    let target = format!("{PODS}/p/status");
    let applied = f
        .apply(&target, "fieldManager=me", status(json!({"nodeName": "n"})))
        .await;
    assert_eq!(applied.code, StatusCode::OK, "{applied:?}");
    assert!(applied.json()["spec"].get("nodeName").is_none());
    let mine = books(&applied)
        .into_iter()
        .find(|line| line.starts_with("me"))
        .expect("an entry");
    assert_eq!(
        mine,
        "me Apply status: {\"f:status\":{\"f:conditions\":{\"k:{\\\"type\\\":\\\"example.com/x\\\"}\":{\".\":{},\"f:status\":{},\"f:type\":{}}}}}"
    );
    // By the object's own endpoint nobody comes to own a status.
    let config = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"phase": "Failed"}});
    let whole = f.apply(&format!("{PODS}/p"), "fieldManager=two", config).await;
    let theirs = books(&whole)
        .into_iter()
        .find(|line| line.starts_with("two"))
        .expect("an entry");
    assert_eq!(theirs, "two Apply: {\"f:metadata\":{\"f:labels\":{\"f:a\":{}}}}");
    assert_eq!(whole.at("/status/phase"), "Pending");
    let absent = f
        .apply(
            &format!("{PODS}/q/status"),
            "fieldManager=me",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q"}}),
        )
        .await;
    assert_eq!(absent.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_scale_can_be_applied() {
    let f = Fixture::new().await;
    let target = format!("{DEPLOYMENTS}/d");
    f.apply(&target, "fieldManager=me", deployment("d", 1)).await;
    let scale = |replicas: i64| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
        "spec": {"replicas": replicas}})
    };
    let of_scale = format!("{target}/scale");
    let refused = f.apply(&of_scale, "fieldManager=hpa", scale(5)).await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas"
    );
    let wrong = f.apply(&of_scale, "fieldManager=hpa", deployment("d", 1)).await;
    assert_eq!(wrong.message(), "invalid object type: apps/v1, Kind=Deployment");
    let forced = f.apply(&of_scale, "fieldManager=hpa&force=true", scale(5)).await;
    assert_eq!(forced.at("/spec/replicas"), 5, "{forced:?}");
    let now = f.get(&target).await;
    assert_eq!(now.at("/spec/replicas"), 5);
    let lines = books(&now);
    assert_eq!(lines[0], "hpa Apply scale: {\"f:spec\":{\"f:replicas\":{}}}");
    assert!(
        lines[1].starts_with("me Apply: ") && !lines[1].contains("f:replicas"),
        "{lines:?}"
    );
    // The owner of the replicas gives them up by not naming them: they stay, since another owns them.
    let mut without = deployment("d", 1);
    without["spec"].as_object_mut().expect("a spec").remove("replicas");
    let left = f.apply(&target, "fieldManager=me", without).await;
    assert_eq!(left.at("/spec/replicas"), 5, "{left:?}");
}

#[tokio::test]
async fn who_may_patch_may_not_for_that_reason_create() {
    let f = Fixture::new().await;
    let request = |caller| {
        let request = Request::patch(format!("{MAPS}/x?fieldManager=me"))
            .header("content-type", "application/apply-patch+yaml")
            .body(Body::from(config_map("x", json!({})).to_string().into_bytes()))
            .expect("a request");
        f.request(user(caller), request)
    };
    let refused = request("patcher").await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(
        refused.message().contains("cannot create resource \"configmaps\""),
        "{refused:?}"
    );
    assert_eq!(request("tester").await.code, StatusCode::CREATED);
    assert_eq!(request("patcher").await.code, StatusCode::OK);
}

/// kubectl rewrites the books of client-side apply by a JSON patch before it applies.
#[tokio::test]
async fn kubectl_moves_from_client_side_apply() {
    let f = Fixture::new().await;
    let target = format!("{MAPS}/x");
    let last = config_map("x", json!({"a": "1", "b": "1"}));
    let mut body = last.clone();
    body["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    let made = f
        .post(&format!("{MAPS}?fieldManager=kubectl-client-side-apply"), body)
        .await;
    let mut books_of = made.at("/metadata/managedFields");
    books_of[0]["manager"] = "kubectl".into();
    books_of[0]["operation"] = "Apply".into();
    let ops = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": books_of},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made.revision()},
    ]);
    let moved = f.patch(&format!("{target}?fieldManager=kubectl"), "json", ops).await;
    assert_eq!(moved.code, StatusCode::OK, "{moved:?}");
    assert!(books(&moved)[0].starts_with("kubectl Apply: "), "{moved:?}");
    let applied = f
        .apply(&target, "fieldManager=kubectl", config_map("x", json!({"a": "2"})))
        .await;
    assert_eq!(applied.at("/data"), json!({"a": "2"}), "{applied:?}");
    assert_eq!(books(&applied), ["kubectl Apply: {\"f:data\":{\"f:a\":{}}}"]);
}

#[tokio::test]
async fn events_of_both_groups_know_their_managers() {
    let f = Fixture::new().await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Tested", "message": "old",
        "type": "Normal", "involvedObject": {"kind": "Pod", "name": "p", "namespace": "a"}, "source": {"component": "test"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1});
    let made = f.post("/api/v1/namespaces/a/events", event).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let target = "/apis/events.k8s.io/v1/namespaces/a/events/e";
    let patched = f
        .patch(&format!("{target}?fieldManager=other"), "merge", json!({"note": "new"}))
        .await;
    assert_eq!(patched.code, StatusCode::OK, "{patched:?}");
    let entries = patched.at("/metadata/managedFields");
    let of = |manager: &str| {
        let found = entries
            .as_array()
            .into_iter()
            .flatten()
            .find(|entry| entry["manager"] == manager);
        found.cloned().unwrap_or_default()
    };
    assert_eq!(of("other")["apiVersion"], "events.k8s.io/v1");
    assert_eq!(of("other")["fieldsV1"], json!({"f:note": {}}));
    let before = of("unknown");
    assert_eq!(before["apiVersion"], "v1");
    assert!(
        before["fieldsV1"].get("f:reason").is_some() && before["fieldsV1"].get("f:message").is_none(),
        "{before}"
    );
}
