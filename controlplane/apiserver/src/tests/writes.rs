//! create, update and patch.

use http::StatusCode;
use serde_json::{Value, json};

use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

#[tokio::test]
async fn create_stamps_what_is_the_servers() {
    let f = Fixture::new().await;
    let mut body = config_map("x", json!({"k": "v"}));
    body["metadata"]["uid"] = "mine".into();
    body["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    body["metadata"]["managedFields"] = json!([{"manager": "me"}]);
    let answer = f.post(MAPS, body).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let made = answer.json();
    let metadata = &made["metadata"];
    assert_eq!(metadata["namespace"], "a");
    assert_eq!(metadata["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    // What makes no sense is passed over; what was created is the creator's.
    assert_eq!(metadata["managedFields"][0]["manager"], "unknown");
    assert!(metadata.get("generation").is_none());
    assert!(!answer.revision().is_empty());
    assert_eq!(f.get(&format!("{MAPS}/x")).await.json(), made);
}

#[tokio::test]
async fn create_makes_up_names() {
    let f = Fixture::new().await;
    let body = json!({"metadata": {"generateName": "x-"}});
    let names: Vec<String> = [f.post(MAPS, body.clone()).await, f.post(MAPS, body).await]
        .iter()
        .map(|a| a.at("/metadata/name").as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(names.iter().all(|n| n.starts_with("x-") && n.len() == 7), "{names:?}");
    assert_ne!(names[0], names[1]);
}

#[tokio::test]
async fn create_refuses_a_name_that_is_taken() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let again = f.post(MAPS, config_map("x", json!({}))).await;
    assert_eq!(again.code, StatusCode::CONFLICT);
    assert_eq!(again.at("/reason"), "AlreadyExists");
    assert_eq!(again.message(), "configmaps \"x\" already exists");
}

#[tokio::test]
async fn dry_runs_store_nothing() {
    let f = Fixture::new().await;
    let made = f.post(&format!("{MAPS}?dryRun=All"), config_map("x", json!({}))).await;
    assert_eq!(made.code, StatusCode::CREATED);
    assert_eq!(f.get(&format!("{MAPS}/x")).await.code, StatusCode::NOT_FOUND);
    let kept = f.config_map("y", json!({"k": "1"})).await;
    let target = format!("{MAPS}/y?dryRun=All");
    assert_eq!(
        f.put(&target, config_map("y", json!({"k": "2"}))).await.at("/data/k"),
        "2"
    );
    assert_eq!(
        f.patch(&target, "merge", json!({"data": {"k": "3"}}))
            .await
            .at("/data/k"),
        "3"
    );
    assert_eq!(f.delete(&target).await.code, StatusCode::OK);
    assert_eq!(f.get(&format!("{MAPS}/y")).await.json(), kept.json());
    let again = f.post(&format!("{MAPS}?dryRun=All"), config_map("y", json!({}))).await;
    assert_eq!(again.code, StatusCode::CONFLICT);
}

#[tokio::test]
async fn field_validation_is_as_strict_as_asked() {
    let f = Fixture::new().await;
    let mut body = config_map("x", json!({}));
    body["foo"] = 1.into();
    let strict = f.post(&format!("{MAPS}?fieldValidation=Strict"), body.clone()).await;
    assert_eq!(strict.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        strict.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\""
    );
    let warned = f.post(MAPS, body.clone()).await;
    assert_eq!(warned.code, StatusCode::CREATED);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"foo\\\"\"");
    assert!(warned.json().get("foo").is_none());
    body["metadata"]["name"] = "y".into();
    let ignored = f.post(&format!("{MAPS}?fieldValidation=Ignore"), body).await;
    assert!(ignored.headers.get("warning").is_none());
}

#[tokio::test]
async fn updates_compare_the_resource_version() {
    let f = Fixture::new().await;
    let first = f.config_map("x", json!({"k": "1"})).await.json();
    let target = format!("{MAPS}/x");
    let mut second = first.clone();
    second["data"]["k"] = "2".into();
    let updated = f.put(&target, second).await;
    assert_eq!((updated.code, updated.at("/data/k")), (StatusCode::OK, json!("2")));
    let stale = f.put(&target, first.clone()).await;
    assert_eq!(stale.code, StatusCode::CONFLICT);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    let unconditional = f.put(&target, config_map("x", json!({"k": "3"}))).await;
    assert_eq!(unconditional.code, StatusCode::OK);
    assert_eq!(unconditional.at("/metadata/uid"), first["metadata"]["uid"]);
    assert_eq!(
        unconditional.at("/metadata/creationTimestamp"),
        first["metadata"]["creationTimestamp"]
    );
}

#[tokio::test]
async fn updates_of_another_uid_are_refused() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let mut other = config_map("x", json!({"k": "v"}));
    other["metadata"]["uid"] = "other".into();
    let answer = f.put(&format!("{MAPS}/x"), other).await;
    assert_eq!(answer.code, StatusCode::CONFLICT);
    assert!(
        answer
            .message()
            .contains("Precondition failed: UID in precondition: other"),
        "{}",
        answer.message()
    );
}

#[tokio::test]
async fn writes_that_change_nothing_commit_nothing() {
    let f = Fixture::new().await;
    let made = f.config_map("x", json!({"k": "v"})).await;
    let target = format!("{MAPS}/x");
    assert_eq!(f.put(&target, made.json()).await.revision(), made.revision());
    assert_eq!(
        f.patch(&target, "merge", json!({"data": {"k": "v"}})).await.revision(),
        made.revision()
    );
    assert_eq!(f.get(&target).await.revision(), made.revision());
}

#[tokio::test]
async fn updates_need_an_object_to_update() {
    let f = Fixture::new().await;
    let answer = f.put(&format!("{MAPS}/x"), config_map("x", json!({}))).await;
    assert_eq!(
        (answer.code, answer.message()),
        (StatusCode::NOT_FOUND, "configmaps \"x\" not found".to_owned())
    );
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let made = f.put("/apis/coordination.k8s.io/v1/namespaces/a/leases/l", lease).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
}

#[tokio::test]
async fn generation_follows_the_spec() {
    let f = Fixture::new().await;
    let target = "/apis/apps/v1/namespaces/a/deployments";
    let made = f.post(target, deployment("d", 1)).await;
    assert_eq!(made.at("/metadata/generation"), 1, "{made:?}");
    let one = format!("{target}/d");
    let labelled = f
        .patch(&one, "merge", json!({"metadata": {"labels": {"x": "y"}}}))
        .await;
    assert_eq!(labelled.at("/metadata/generation"), 1);
    let scaled = f.patch(&one, "merge", json!({"spec": {"replicas": 5}})).await;
    assert_eq!(scaled.at("/metadata/generation"), 2);
    let status = f
        .patch(
            &format!("{one}/status"),
            "merge",
            json!({"status": {"replicas": 5}, "spec": {"replicas": 9}}),
        )
        .await;
    assert_eq!(
        (status.code, status.at("/metadata/generation")),
        (StatusCode::OK, json!(2))
    );
    assert_eq!(
        (status.at("/status/replicas"), status.at("/spec/replicas")),
        (json!(5), json!(5))
    );
}

#[tokio::test]
async fn patches_of_every_type_apply() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "1", "gone": "x"})).await;
    let target = format!("{MAPS}/x");
    let merged = f
        .patch(&target, "merge", json!({"data": {"gone": null, "m": "2"}}))
        .await;
    assert_eq!(merged.at("/data"), json!({"k": "1", "m": "2"}));
    let op = json!([{"op": "replace", "path": "/data/k", "value": "3"}]);
    assert_eq!(f.patch(&target, "json", op).await.at("/data/k"), "3");
    let deployments = "/apis/apps/v1/namespaces/a/deployments";
    f.post(deployments, deployment("d", 1)).await;
    let container = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}, {"name": "e", "image": "k"}]}}}});
    let merged = f.patch(&format!("{deployments}/d"), "strategic-merge", container).await;
    let images: Vec<Value> = merged
        .at("/spec/template/spec/containers")
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| json!([c["name"], c["image"]]))
        .collect();
    assert_eq!(images, [json!(["c", "j"]), json!(["e", "k"])]);
}

#[tokio::test]
async fn patches_that_do_not_fit_are_refused() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "1"})).await;
    let target = format!("{MAPS}/x");
    let failed = f
        .patch(
            &target,
            "json",
            json!([{"op": "test", "path": "/data/k", "value": "9"}]),
        )
        .await;
    assert_eq!(failed.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        failed.message(),
        "the server rejected our request due to an error in our request"
    );
    let broken = f
        .send_with(
            "PATCH",
            &target,
            &[("content-type", "application/merge-patch+json")],
            b"{".to_vec(),
        )
        .await;
    assert_eq!(broken.code, StatusCode::BAD_REQUEST);
    let wrong = f.patch(&target, "merge", json!({"data": 3})).await;
    assert_eq!(wrong.code, StatusCode::UNPROCESSABLE_ENTITY);
    let unknown = f
        .send_with(
            "PATCH",
            &target,
            &[("content-type", "application/apply-patch+cbor")],
            b"{}".to_vec(),
        )
        .await;
    assert_eq!(
        (unknown.code, unknown.at("/reason")),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, json!("UnsupportedMediaType"))
    );
    let strict = format!("{target}?fieldValidation=Strict");
    let unknown = f.patch(&strict, "merge", json!({"foo": 1})).await;
    assert_eq!(unknown.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        unknown
            .message()
            .contains("strict decoding error: unknown field \"foo\""),
        "{}",
        unknown.message()
    );
    let stale = f
        .patch(
            &target,
            "merge",
            json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "2"}}),
        )
        .await;
    assert_eq!(stale.code, StatusCode::CONFLICT);
    assert_eq!(f.get(&target).await.at("/data/k"), "1");
}

#[tokio::test]
async fn concurrent_patches_all_happen() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let target = format!("{MAPS}/x");
    let patches = (0..5).map(|n| {
        let (f, target) = (&f, &target);
        async move {
            f.patch(target, "merge", json!({"data": {format!("k{n}"): "v"}}))
                .await
                .code
        }
    });
    let codes = futures::future::join_all(patches).await;
    assert!(codes.iter().all(|code| *code == StatusCode::OK), "{codes:?}");
    assert_eq!(
        f.get(&target).await.at("/data").as_object().map(serde_json::Map::len),
        Some(5)
    );
}

#[tokio::test]
async fn scales_what_has_replicas() {
    let f = Fixture::new().await;
    let deployments = "/apis/apps/v1/namespaces/a/deployments";
    f.post(deployments, deployment("d", 1)).await;
    let target = format!("{deployments}/d/scale");
    let scale = f.get(&target).await;
    assert_eq!(
        (scale.at("/kind"), scale.at("/spec/replicas")),
        (json!("Scale"), json!(1))
    );
    assert_eq!(scale.at("/status/selector"), "app=d");
    let mut more = scale.json();
    more["spec"]["replicas"] = 4.into();
    assert_eq!(f.put(&target, more.clone()).await.at("/spec/replicas"), 4);
    assert_eq!(f.put(&target, more).await.code, StatusCode::CONFLICT);
    assert_eq!(
        f.patch(&target, "merge", json!({"spec": {"replicas": 2}}))
            .await
            .at("/spec/replicas"),
        2
    );
    assert_eq!(f.get(&format!("{deployments}/d")).await.at("/spec/replicas"), 2);
    let negative = f.patch(&target, "merge", json!({"spec": {"replicas": -1}})).await;
    assert_eq!(negative.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(f.get("/api/v1/namespaces/a/configmaps/x/scale").await.code == StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_field_error_is_told_at_once() {
    let f = Fixture::new().await;
    let mut bad = deployment("d", -1);
    bad["spec"]["template"]["spec"]["containers"][0]["name"] = "Bad Name".into();
    bad["metadata"]["name"] = "UPPER".into();
    let answer = f.post("/apis/apps/v1/namespaces/a/deployments", bad).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    let causes = answer.at("/details/causes");
    let fields: Vec<&str> = causes
        .as_array()
        .expect("causes")
        .iter()
        .filter_map(|c| c["field"].as_str())
        .collect();
    for field in [
        "metadata.name",
        "spec.replicas",
        "spec.template.spec.containers[0].name",
    ] {
        assert!(fields.contains(&field), "{field} not in {fields:?}");
    }
}

#[tokio::test]
async fn a_slice_without_endpoints_says_that_it_has_none() {
    let f = Fixture::new().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices";
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"},
        "addressType": "IPv4"});
    let made = f.post(slices, slice.clone()).await;
    assert_eq!((made.code, made.at("/endpoints")), (StatusCode::CREATED, json!([])));
    let owned = made.at("/metadata/managedFields/0/fieldsV1");
    assert_eq!(owned, json!({"f:addressType": {}}));
    for endpoints in [Value::Null, json!([])] {
        let mut same = slice.clone();
        same["endpoints"] = endpoints;
        let answer = f.put(&format!("{slices}/x"), same).await;
        assert_eq!(answer.json(), made.json());
    }
}

#[tokio::test]
async fn what_lies_in_no_namespace_loses_the_one_it_names() {
    let f = Fixture::new().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({"metadata": {"name": "r", "namespace": "a"}, "rules": []});
    let made = f.post(roles, role.clone()).await;
    assert_eq!(
        (made.code, made.at("/metadata/namespace")),
        (StatusCode::CREATED, json!(null)),
        "{made:?}"
    );
    let target = format!("{roles}/r");
    let put = f.put(&target, role).await;
    assert_eq!((put.code, put.revision()), (StatusCode::OK, made.revision()));
    let patched = f
        .patch(
            &target,
            "merge",
            json!({"metadata": {"namespace": "b", "labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(
        (patched.code, patched.at("/metadata/namespace")),
        (StatusCode::OK, json!(null))
    );
}

#[tokio::test]
async fn what_an_update_may_create_it_creates_from_what_was_read_once() {
    let f = Fixture::new().await;
    let target = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/r";
    let role = json!({"metadata": {"name": "r", "resourceVersion": "7"}, "rules": []});
    let made = f.put(target, role.clone()).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    f.delete(target).await;
    // Unless it is meant for that very object.
    let mut meant = role;
    meant["metadata"]["uid"] = made.at("/metadata/uid");
    let refused = f.put(target, meant).await;
    assert_eq!(refused.code, StatusCode::CONFLICT, "{refused:?}");
    assert!(refused.message().contains("Precondition failed: UID in precondition"));
}

#[tokio::test]
async fn a_new_object_s_resource_version_is_the_store_s_to_refuse() {
    let f = Fixture::new().await;
    let mut map = config_map("x", json!({}));
    map["metadata"]["resourceVersion"] = json!("7");
    let dry = f.post(&format!("{MAPS}?dryRun=All"), map.clone()).await;
    assert_eq!(dry.code, StatusCode::CREATED, "nothing is stored: {dry:?}");
    assert_eq!(f.post(MAPS, map.clone()).await.code, StatusCode::INTERNAL_SERVER_ERROR);
    map["metadata"]["labels"] = json!({"-": "wrong"});
    assert_eq!(f.post(MAPS, map).await.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_status_that_is_left_out_is_an_empty_one() {
    let f = Fixture::new().await;
    let deployments = "/apis/apps/v1/namespaces/a/deployments";
    let made = f.post(deployments, deployment("d", 1)).await;
    let put = f.put(&format!("{deployments}/d/status"), deployment("d", 1)).await;
    assert_eq!((put.code, put.revision()), (StatusCode::OK, made.revision()), "{put:?}");
}

#[tokio::test]
async fn updates_that_may_create_all_happen() {
    let f = Fixture::new().await;
    let target = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/r";
    let role = |nth: usize| json!({"metadata": {"name": "r", "labels": {"nth": nth.to_string()}}, "rules": []});
    let puts = futures::future::join_all((0..4).map(|nth| f.put(target, role(nth)))).await;
    let created = puts.iter().filter(|put| put.code == StatusCode::CREATED).count();
    let updated = puts.iter().filter(|put| put.code == StatusCode::OK).count();
    assert_eq!((created, updated), (1, 3), "{puts:?}");
}
