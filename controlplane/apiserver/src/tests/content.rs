//! What goes in and comes out: media types, forms, versions, compression.

use http::StatusCode;
use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

#[tokio::test]
async fn yaml_goes_in_and_comes_out() {
    let f = Fixture::new().await;
    let body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  k: \"1\"\n".to_vec();
    let made = f
        .send_with("POST", MAPS, &[("content-type", "application/yaml")], body)
        .await;
    assert_eq!((made.code, made.at("/data/k")), (StatusCode::CREATED, json!("1")));
    let yaml = f
        .send_with(
            "GET",
            &format!("{MAPS}/x"),
            &[("accept", "application/yaml")],
            Vec::new(),
        )
        .await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    let text = String::from_utf8(yaml.bytes.to_vec()).expect("text");
    assert!(text.contains("kind: ConfigMap") && text.contains("name: x"), "{text}");
}

#[tokio::test]
async fn media_types_that_are_not_spoken_are_refused() {
    let f = Fixture::new().await;
    let body = f
        .send_with(
            "POST",
            MAPS,
            &[("content-type", "text/plain")],
            b"kind: ConfigMap".to_vec(),
        )
        .await;
    assert_eq!(body.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(
        body.message()
            .contains("accepted media types include: application/json, application/yaml")
    );
    let accept = f
        .send_with(
            "GET",
            MAPS,
            &[("accept", "application/vnd.kubernetes.protobuf")],
            Vec::new(),
        )
        .await;
    assert_eq!(accept.code, StatusCode::NOT_ACCEPTABLE);
    let falls_through = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(
        f.send_with("GET", MAPS, &[("accept", falls_through)], Vec::new())
            .await
            .code,
        StatusCode::OK
    );
}

#[tokio::test]
async fn protobuf_goes_in() {
    let f = Fixture::new().await;
    let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01x\x12\x06\x0a\x01k\x12\x01v\x1a\0\"\0"
        .to_vec();
    let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
    let made = f.send_with("POST", MAPS, &headers, body).await;
    assert_eq!(
        (made.code, made.at("/metadata/name"), made.at("/data")),
        (StatusCode::CREATED, json!("x"), json!({"k": "v"}))
    );
    let junk = f.send_with("POST", MAPS, &headers, b"junk".to_vec()).await;
    assert_eq!(junk.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn tables_have_rows_and_what_was_asked_of_the_object() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "v"})).await;
    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let list = f.send_with("GET", MAPS, &table, Vec::new()).await;
    assert_eq!(
        (list.at("/kind"), list.at("/apiVersion")),
        (json!("Table"), json!("meta.k8s.io/v1"))
    );
    assert_eq!(list.at("/rows/0/cells/0"), "x");
    assert_eq!(list.at("/rows/0/object/kind"), "PartialObjectMetadata");
    assert!(list.at("/metadata/resourceVersion").is_string());
    for (include, kind) in [
        ("None", Value::Null),
        ("Metadata", "PartialObjectMetadata".into()),
        ("Object", "ConfigMap".into()),
    ] {
        let one = f
            .send_with("GET", &format!("{MAPS}/x?includeObject={include}"), &table, Vec::new())
            .await;
        assert_eq!(one.at("/rows/0/object/kind"), kind, "{include}");
    }
    assert_eq!(
        f.get(&format!("{MAPS}?includeObject=All")).await.code,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "v"})).await;
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    let list = f.send_with("GET", MAPS, &accept, Vec::new()).await;
    assert_eq!(list.at("/kind"), "PartialObjectMetadataList");
    assert_eq!(
        (list.at("/items/0/metadata/name"), list.at("/items/0/data")),
        (json!("x"), Value::Null)
    );
}

#[tokio::test]
async fn one_event_is_served_in_both_its_groups() {
    let f = Fixture::new().await;
    let core = json!({
        "metadata": {"name": "e", "namespace": "a"}, "reason": "Started", "message": "it runs", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "a", "name": "p"}, "source": {"component": "me"}, "count": 3,
    });
    let made = f.post("/api/v1/namespaces/a/events", core).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let new = f.get("/apis/events.k8s.io/v1/namespaces/a/events/e").await;
    assert_eq!(
        (new.at("/apiVersion"), new.at("/kind")),
        (json!("events.k8s.io/v1"), json!("Event"))
    );
    assert_eq!(
        (new.at("/note"), new.at("/regarding/name")),
        (json!("it runs"), json!("p"))
    );
    assert_eq!(new.at("/deprecatedCount"), 3);
    assert_eq!(new.revision(), made.revision());
    let series = json!({
        "metadata": {"name": "s", "namespace": "a"}, "reason": "Pulled", "note": "again", "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "a", "name": "p"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test/kubelet", "reportingInstance": "n1", "action": "Pulling",
    });
    let made = f.post("/apis/events.k8s.io/v1/namespaces/a/events", series).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let old = f.get("/api/v1/namespaces/a/events/s").await;
    assert_eq!(
        (old.at("/message"), old.at("/involvedObject/name")),
        (json!("again"), json!("p"))
    );
    let list = f.get("/apis/events.k8s.io/v1/events").await;
    assert_eq!(
        (list.names(), list.at("/items/0/apiVersion")),
        (vec!["e".to_owned(), "s".to_owned()], json!("events.k8s.io/v1"))
    );
    let label = json!({"metadata": {"labels": {"seen": "yes"}}});
    let patched = f
        .patch("/apis/events.k8s.io/v1/namespaces/a/events/s", "merge", label)
        .await;
    assert_eq!(
        (patched.at("/note"), patched.at("/apiVersion")),
        (json!("again"), json!("events.k8s.io/v1")),
        "{patched:?}"
    );
    let frozen = f
        .patch(
            "/apis/events.k8s.io/v1/namespaces/a/events/s",
            "merge",
            json!({"note": "other"}),
        )
        .await;
    assert_eq!(frozen.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        f.get("/api/v1/namespaces/a/events?fieldSelector=involvedObject.name%3Dp")
            .await
            .names(),
        ["e", "s"]
    );
}

#[tokio::test]
async fn pretty_is_for_people() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let pretty = f.get(&format!("{MAPS}/x?pretty=true")).await;
    assert!(pretty.bytes.starts_with(b"{\n  \""));
}

#[tokio::test]
async fn large_answers_are_compressed_for_remote_clients_that_ask() {
    let f = Fixture::new().await;
    for n in 0..6 {
        f.config_map(&format!("m{n}"), json!({"k": "x".repeat(30_000)})).await;
    }
    let admin = Certified::As(Arc::new(UserInfo {
        username: "tester".into(),
        ..UserInfo::default()
    }));
    let ask = |loopback: bool| {
        let request = Request::get(MAPS)
            .header("accept-encoding", "gzip")
            .body(Body::empty())
            .expect("a request");
        f.request(
            Caller::Connection {
                certified: admin.clone(),
                loopback,
            },
            request,
        )
    };
    assert!(ask(true).await.headers.get("content-encoding").is_none());
    let far = ask(false).await;
    assert_eq!(far.headers["content-encoding"], "gzip");
    assert!(far.bytes.len() < 10_000);
}

#[tokio::test]
async fn huge_bodies_are_refused() {
    let f = Fixture::new().await;
    let answer = f.post(MAPS, config_map("x", json!({"k": "x".repeat(4 << 20)}))).await;
    assert_eq!(
        (answer.code, answer.at("/reason")),
        (StatusCode::PAYLOAD_TOO_LARGE, json!("RequestEntityTooLarge"))
    );
    assert_eq!(answer.message(), "Request entity too large: limit is 3145728");
}
