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
    let offered = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    for media in ["text/plain", "text/yaml", "application/cbor"] {
        let refused = f
            .send_with("POST", MAPS, &[("content-type", media)], b"x".to_vec())
            .await;
        assert_eq!(refused.code, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{media}");
        assert!(refused.message().ends_with(offered), "{}", refused.message());
        let refused = f.send_with("GET", MAPS, &[("accept", media)], Vec::new()).await;
        assert_eq!(refused.code, StatusCode::NOT_ACCEPTABLE, "{media}");
        assert_eq!(
            refused.message(),
            format!("only the following media types are accepted: {offered}")
        );
    }
    let falls_through = "application/cbor,application/json";
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
    let cases: [(&[u8], &str); 3] = [
        (
            b"junk",
            "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a \
             protobuf message, expected prefix [107 56 115 0] (6a756e6b)",
        ),
        (
            b"k8s\0\x0a\xff",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: unexpected EOF",
        ),
        (
            b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\0",
            "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (v1.ConfigMap): unknown \
             conversion",
        ),
    ];
    for (body, message) in cases {
        let refused = f.send_with("POST", MAPS, &headers, body.to_vec()).await;
        assert_eq!(
            (refused.code, refused.message()),
            (StatusCode::BAD_REQUEST, message.to_owned())
        );
    }
}

const PROTOBUF: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf");

/// What an answer in protobuf stands for.
fn decoded(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], PROTOBUF.1, "{answer:?}");
    schema::protobuf::decode(&answer.bytes).expect("protobuf")
}

#[tokio::test]
async fn protobuf_comes_out() {
    let f = Fixture::new().await;
    let made = f.config_map("x", json!({"k": "v"})).await.json();
    let target = format!("{MAPS}/x");
    assert_eq!(
        decoded(&f.send_with("GET", &target, &[PROTOBUF], Vec::new()).await),
        made
    );
    let headers = [PROTOBUF, ("content-type", "application/merge-patch+json")];
    let patched = f
        .send_with("PATCH", &target, &headers, b"{\"data\":{\"k\":\"w\"}}".to_vec())
        .await;
    assert_eq!(decoded(&patched)["data"]["k"], "w");
    let headers = [PROTOBUF, ("content-type", "application/json")];
    let body = config_map("y", json!({})).to_string().into_bytes();
    let created = f.send_with("POST", MAPS, &headers, body).await;
    assert_eq!(
        (created.code, &decoded(&created)["metadata"]["name"]),
        (StatusCode::CREATED, &json!("y"))
    );
    let deleted = f.send_with("DELETE", &target, &[PROTOBUF], Vec::new()).await;
    assert_eq!(decoded(&deleted)["status"], "Success");
    let gone = f.send_with("GET", &target, &[PROTOBUF], Vec::new()).await;
    let status = decoded(&gone);
    assert_eq!(gone.code, StatusCode::NOT_FOUND);
    assert_eq!(
        (&status["kind"], &status["reason"]),
        (&json!("Status"), &json!("NotFound"))
    );
    assert_eq!(status["details"]["name"], "x");
}

#[tokio::test]
async fn parts_of_objects_come_out_as_protobuf_too() {
    let f = Fixture::new().await;
    f.post("/apis/apps/v1/namespaces/a/deployments", deployment("d", 3))
        .await;
    let target = "/apis/apps/v1/namespaces/a/deployments/d/scale";
    let scale = decoded(&f.send_with("GET", target, &[PROTOBUF], Vec::new()).await);
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(3))
    );
    let mut encoder = schema::protobuf::Encoder::default();
    let wanted =
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "d"}, "spec": {"replicas": 5}});
    let body = encoder.object(wanted.to_string().as_bytes()).expect("a Scale").to_vec();
    let headers = [PROTOBUF, ("content-type", PROTOBUF.1)];
    let put = f.send_with("PUT", target, &headers, body).await;
    assert_eq!(decoded(&put)["spec"]["replicas"], 5);
}

/// A list in JSON as it is in protobuf, whose items name no kind.
async fn list(f: &Fixture, target: &str) -> Value {
    let mut list = f.get(target).await.json();
    for item in list["items"].as_array_mut().expect("items") {
        let item = item.as_object_mut().expect("an object");
        item.remove("kind");
        item.remove("apiVersion");
    }
    list
}

#[tokio::test]
async fn lists_come_out_as_protobuf() {
    let f = Fixture::new().await;
    let empty = f.send_with("GET", MAPS, &[PROTOBUF], Vec::new()).await;
    assert_eq!(decoded(&empty)["kind"], "ConfigMapList");
    for n in 0..4 {
        f.config_map(&format!("m{n}"), json!({"k": n.to_string()})).await;
    }
    let short = format!("{MAPS}?limit=2");
    let page = decoded(&f.send_with("GET", &short, &[PROTOBUF], Vec::new()).await);
    assert_eq!(page["metadata"]["remainingItemCount"], 2);
    assert_eq!(page, list(&f, &short).await);
    // Longer than what is held.
    for n in 4..10 {
        f.config_map(&format!("m{n}"), json!({"k": "x".repeat(120_000)})).await;
    }
    let first = f.send_with("GET", MAPS, &[PROTOBUF], Vec::new()).await;
    assert_eq!(decoded(&first), list(&f, MAPS).await);
    let again = f.send_with("GET", MAPS, &[PROTOBUF], Vec::new()).await;
    assert_eq!(again.bytes, first.bytes);
    let accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let metadata = f.send_with("GET", MAPS, &[("accept", accept)], Vec::new()).await;
    let metadata = decoded(&metadata);
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"].as_array().map(Vec::len), Some(10));
    assert_eq!(metadata["items"][3]["metadata"]["name"], "m3");
    let past = format!(
        "{MAPS}?resourceVersionMatch=Exact&resourceVersion={}",
        page["metadata"]["resourceVersion"].as_str().expect("a revision")
    );
    let past_list = f.send_with("GET", &past, &[PROTOBUF], Vec::new()).await;
    assert_eq!(decoded(&past_list), list(&f, &past).await);
}

#[tokio::test]
async fn one_event_comes_out_as_protobuf_in_both_its_groups() {
    let f = Fixture::new().await;
    let core = json!({
        "metadata": {"name": "e", "namespace": "a"}, "reason": "Started", "message": "it runs", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "a", "name": "p"}, "source": {"component": "me"}, "count": 3,
    });
    f.post("/api/v1/namespaces/a/events", core).await;
    for (target, field) in [("/api/v1/events", "message"), ("/apis/events.k8s.io/v1/events", "note")] {
        let list = f.send_with("GET", target, &[PROTOBUF], Vec::new()).await;
        assert_eq!(decoded(&list)["items"][0][field], "it runs", "{target}");
    }
}

#[tokio::test]
async fn tables_are_never_protobuf() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let table = "as=Table;v=v1;g=meta.k8s.io";
    let alone = format!("application/vnd.kubernetes.protobuf;{table}");
    let refused = f.send_with("GET", MAPS, &[("accept", &alone)], Vec::new()).await;
    assert_eq!(
        (refused.code, refused.at("/reason")),
        (StatusCode::NOT_ACCEPTABLE, json!("NotAcceptable"))
    );
    let or_json = format!("{alone},application/json;{table}");
    assert_eq!(
        f.send_with("GET", MAPS, &[("accept", &or_json)], Vec::new())
            .await
            .at("/kind"),
        "Table"
    );
}

#[tokio::test]
async fn metadata_is_asked_for_as_what_it_is() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let cases = [
        (
            MAPS.to_owned(),
            "PartialObjectMetadata",
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            format!("{MAPS}/x"),
            "PartialObjectMetadataList",
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
    ];
    for (target, kind, message) in cases {
        let accept = format!("application/json;as={kind};g=meta.k8s.io;v=v1");
        let refused = f.send_with("GET", &target, &[("accept", &accept)], Vec::new()).await;
        assert_eq!(
            (refused.code, refused.message()),
            (StatusCode::NOT_ACCEPTABLE, message.to_owned())
        );
    }
}

#[tokio::test]
async fn discovery_comes_out_as_protobuf() {
    let f = Fixture::new().await;
    for (path, kind) in [
        ("/apis", "APIGroupList"),
        ("/apis/apps", "APIGroup"),
        ("/apis/apps/v1", "APIResourceList"),
    ] {
        let protobuf = decoded(&f.send_with("GET", path, &[PROTOBUF], Vec::new()).await);
        let json = f.get(path).await.json();
        assert_eq!(protobuf["kind"], kind);
        assert_eq!(protobuf, json, "{path}");
    }
    // Without a version in its envelope, as Kubernetes' is.
    let versions = f.send_with("GET", "/api", &[PROTOBUF], Vec::new()).await;
    assert!(
        versions
            .bytes
            .starts_with(b"k8s\0\x0a\x0f\x0a\0\x12\x0bAPIVersions\x12"),
        "{:?}",
        versions.bytes
    );
    let aggregated = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = f.send_with("GET", "/apis", &[("accept", aggregated)], Vec::new()).await;
    assert_eq!(groups.headers["content-type"], aggregated);
    let groups = schema::protobuf::decode(&groups.bytes).expect("protobuf");
    assert_eq!(groups["items"][0]["versions"][0]["freshness"], "Current");
    let unknown = f
        .send_with("GET", "/apis", &[("accept", "text/html")], Vec::new())
        .await;
    assert_eq!(unknown.code, StatusCode::NOT_ACCEPTABLE);
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
    for (target, field) in [
        ("/apis/events.k8s.io/v1/events", "reportingController"),
        ("/api/v1/events", "reportingComponent"),
    ] {
        let selected = f.get(&format!("{target}?fieldSelector={field}%3Dtest/kubelet")).await;
        assert_eq!(selected.names(), ["s"], "{target}");
    }
    let regarding = "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp,reason%3DStarted";
    assert_eq!(f.get(regarding).await.names(), ["e"]);
    let refused = f.get("/api/v1/events?fieldSelector=reportingController%3Dx").await;
    assert_eq!(refused.message(), "field label not supported: reportingController");
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
    let curl = [("user-agent", "curl/8.5.0")];
    let list = f.send_with("GET", MAPS, &curl, Vec::new()).await;
    assert!(list.bytes.starts_with(b"{\n  \""), "{:?}", list.bytes);
    assert_eq!(list.json(), f.get(MAPS).await.json());
    let plain = f
        .send_with("GET", &format!("{MAPS}?pretty=false"), &curl, Vec::new())
        .await;
    assert!(plain.bytes.starts_with(b"{\"kind"));
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
                peer: None,
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

#[tokio::test]
async fn reviews_go_in_and_come_out_as_protobuf() {
    let reviews: crate::Virtuals = Box::new(|_| crate::authz::virtuals(Arc::new(AllButNobody)));
    let f = Fixture::with(Arc::new(Memory::default()), Vec::new(), reviews).await;
    let review = json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    let mut encoder = schema::protobuf::Encoder::default();
    let body = encoder
        .object(review.to_string().as_bytes())
        .expect("a review")
        .to_vec();
    let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [PROTOBUF, ("content-type", PROTOBUF.1)];
    let answer = f.send_with("POST", target, &headers, body).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let answer = decoded(&answer);
    assert_eq!(
        (&answer["kind"], &answer["status"]["allowed"]),
        (&review["kind"], &json!(true))
    );
    assert_eq!(answer["spec"]["resourceAttributes"]["resource"], "pods");
    let headers = [
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        ("content-type", "application/json"),
    ];
    let refused = f
        .send_with("POST", target, &headers, review.to_string().into_bytes())
        .await;
    assert_eq!(
        (refused.code, refused.at("/reason")),
        (StatusCode::NOT_ACCEPTABLE, json!("NotAcceptable"))
    );
}
