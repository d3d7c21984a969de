//! What is refused, and in which words.

use http::StatusCode;
use serde_json::json;

use super::*;

#[tokio::test]
async fn what_is_out_of_date_or_doubtful_is_warned_of() {
    let f = Fixture::new().await;
    let warnings = |answer: &Answer| -> Vec<String> {
        let all = answer.headers.get_all("warning").into_iter();
        all.map(|value| value.to_str().expect("text").to_owned()).collect()
    };
    let endpoints = f.get("/api/v1/namespaces/a/endpoints").await;
    assert_eq!(
        warnings(&endpoints),
        ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""]
    );
    let mut doubtful = deployment("d", 1);
    doubtful["spec"]["template"]["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    doubtful["spec"]["surprise"] = json!(1);
    let path = "/apis/apps/v1/namespaces/a/deployments";
    let made = f.post(path, doubtful).await;
    assert_eq!(
        warnings(&made),
        [
            "299 - \"unknown field \\\"spec.surprise\\\"\"",
            "299 - \"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \\\"kubernetes.io/os\\\" \
             instead\""
        ]
    );
    // Whoever changes something else has heard it before.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    assert!(warnings(&f.patch(&format!("{path}/d"), "merge", labels).await).is_empty());
    let broken = f
        .send_with(
            "POST",
            path,
            &[("content-type", "application/json")],
            b"{\"a\": 1,}".to_vec(),
        )
        .await;
    let message = broken.message();
    let words = "json parse error: invalid character '}' looking for beginning of object key string";
    assert!(message.contains(words), "{message}");
}

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

#[tokio::test]
async fn says_no_in_kubernetes_words() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let cases = [
        (
            "GET",
            "/api/v1/namespaces/a/configmaps/none",
            "",
            404,
            "configmaps \"none\" not found",
        ),
        (
            "GET",
            "/apis/apps/v1/namespaces/a/deployments/none",
            "",
            404,
            "deployments.apps \"none\" not found",
        ),
        (
            "GET",
            "/api/v1/namespaces/a/gadgets",
            "",
            404,
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/apis/none/v1/gadgets",
            "",
            404,
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/api/v1/configmaps/x",
            "",
            404,
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/api/v1/namespaces/a/nodes",
            "",
            404,
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/nowhere",
            "",
            404,
            "the server could not find the requested resource",
        ),
        (
            "POST",
            "/api/v1/configmaps",
            "{}",
            405,
            "create is not supported on resources of kind \"configmaps\"",
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/configmaps",
            "{}",
            405,
            "update is not supported on resources of kind \"configmaps\"",
        ),
        (
            "POST",
            MAPS,
            r#"{"apiVersion":"apps/v1","kind":"ConfigMap","metadata":{"name":"y"}}"#,
            400,
            "the API version in the data (apps/v1) does not match the expected API version (v1)",
        ),
        (
            "POST",
            MAPS,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"y"}}"#,
            400,
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (v1.ConfigMap): unknown conversion",
        ),
        (
            "POST",
            MAPS,
            r#"{"metadata":{"name":"y","namespace":"b"}}"#,
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/configmaps/x",
            r#"{"metadata":{"name":"y"}}"#,
            400,
            "the name of the object (y) does not match the name on the URL (x)",
        ),
        (
            "POST",
            MAPS,
            r#"{"metadata":{"name":"y","resourceVersion":"4"}}"#,
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "POST",
            "/apis/apps/v1/namespaces/a/deployments",
            r#"{"metadata":{"name":"y"},"spec":{"replicas":"two"}}"#,
            400,
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
    ];
    for (method, target, body, code, message) in cases {
        let answer = f
            .send_with(method, target, &[("content-type", "application/json")], body.into())
            .await;
        assert_eq!(
            (answer.code.as_u16(), answer.message()),
            (code, message.to_owned()),
            "{method} {target} {body}"
        );
        assert_eq!(
            (answer.at("/kind"), answer.at("/status")),
            (json!("Status"), json!("Failure"))
        );
    }
}

#[tokio::test]
async fn bodies_that_are_not_json_are_shown_by_their_first_bytes() {
    let f = Fixture::new().await;
    let answer = f
        .send_with(
            "POST",
            MAPS,
            &[("content-type", "application/json")],
            b"{\"a\":".to_vec(),
        )
        .await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let message = answer.message();
    assert!(
        message.starts_with("the object provided is unrecognized (must be of type ConfigMap): "),
        "{message}"
    );
    assert!(message.ends_with("(7b2261223a)"), "{message}");
}

/// As in Kubernetes nothing that is sent is unpacked, so that a small body cannot become a large one.
#[tokio::test]
async fn compressed_bodies_are_no_objects() {
    let f = Fixture::new().await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut bomb, &vec![b' '; 8 << 20]).expect("memory takes it");
    let bomb = bomb.finish().expect("memory takes it");
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    f.config_map("x", json!({})).await;
    for (method, target, media, says) in [
        ("POST", MAPS.to_owned(), "application/json", "(1f8b"),
        ("POST", MAPS.to_owned(), "application/yaml", ""),
        ("POST", MAPS.to_owned(), "application/vnd.kubernetes.protobuf", ""),
        ("PATCH", format!("{MAPS}/x"), "application/merge-patch+json", ""),
        (
            "PATCH",
            format!("{MAPS}/x?fieldManager=test"),
            "application/apply-patch+yaml",
            "",
        ),
        ("DELETE", format!("{MAPS}/x"), "application/json", ""),
    ] {
        let headers = [("content-type", media), ("content-encoding", "gzip")];
        let answer = f.send_with(method, &target, &headers, bomb.clone()).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{method} {media}: {answer:?}");
        assert_eq!(answer.at("/kind"), "Status", "{method} {media}");
        assert!(answer.message().contains(says), "{method} {media}: {answer:?}");
    }
    assert_eq!(f.get(MAPS).await.names(), ["x"]);
}

#[tokio::test]
async fn deep_nesting_is_refused_and_nothing_panics() {
    let f = Fixture::new().await;
    let deep = format!(
        "{{\"metadata\":{{\"name\":\"x\"}},\"data\":{}{}}}",
        "{\"a\":".repeat(10_000),
        "}".repeat(10_000)
    );
    let answer = f
        .send_with("POST", MAPS, &[("content-type", "application/json")], deep.into())
        .await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let names = ["..", ".", "a%2Fb", "%25", "%00"];
    for name in names {
        let code = f.get(&format!("{MAPS}/{name}")).await.code;
        assert!(
            code == StatusCode::BAD_REQUEST || code == StatusCode::NOT_FOUND,
            "{name}: {code}"
        );
    }
}

#[tokio::test]
async fn authorization_comes_before_the_body_and_says_what_is_missing() {
    let f = Fixture::new().await;
    let send = |method: &str, target: &str| {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .body(Body::from("not json"))
            .expect("a request");
        f.request(user("nobody"), request)
    };
    let cases = [
        (
            "POST",
            MAPS,
            "configmaps is forbidden: User \"nobody\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"a\"",
        ),
        (
            "GET",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "deployments.apps \"d\" is forbidden: User \"nobody\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"a\"",
        ),
        (
            "GET",
            "/api/v1/nodes",
            "nodes is forbidden: User \"nobody\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        (
            "GET",
            "/metrics",
            "forbidden: User \"nobody\" cannot get path \"/metrics\"",
        ),
    ];
    for (method, target, message) in cases {
        let answer = send(method, target).await;
        assert_eq!(
            (answer.code, answer.message()),
            (StatusCode::FORBIDDEN, message.to_owned()),
            "{target}"
        );
    }
    assert_eq!(send("GET", "/healthz").await.code, StatusCode::OK);
}

#[tokio::test]
async fn strangers_are_anonymous_and_false_credentials_are_not() {
    let f = Fixture::new().await;
    let get = |target: &str| Request::get(target).body(Body::empty()).expect("a request");
    let anonymous = f.request(stranger(), get("/api/v1/nodes")).await;
    assert_eq!(anonymous.code, StatusCode::FORBIDDEN);
    assert!(anonymous.message().contains("User \"system:anonymous\""));
    assert_eq!(f.request(stranger(), get("/readyz")).await.code, StatusCode::OK);
    let refused = Caller::Connection {
        certified: Certified::Refused,
        loopback: true,
        peer: None,
    };
    assert_eq!(
        f.request(refused, get("/api/v1/nodes")).await.code,
        StatusCode::UNAUTHORIZED
    );
    let mut token = get("/api/v1/nodes");
    token
        .headers_mut()
        .insert("authorization", "Bearer nonsense".parse().expect("a header"));
    assert_eq!(f.request(stranger(), token).await.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_answer_carries_an_id() {
    let f = Fixture::new().await;
    assert_eq!(f.get("/version").await.headers["audit-id"].len(), 36);
    let own = f
        .send_with("GET", "/version", &[("audit-id", "mine")], Vec::new())
        .await;
    assert_eq!(own.headers["audit-id"], "mine");
}

#[tokio::test]
async fn a_caller_acts_as_another_only_if_it_may() {
    let f = Fixture::new().await;
    let ask = |caller: &str, as_: &'static str| {
        let request = Request::get("/api/v1/nodes").header("impersonate-user", as_);
        f.request(user(caller), request.body(Body::empty()).expect("a request"))
    };
    let refused = ask("nobody", "tester").await;
    let message = "users \"tester\" is forbidden: User \"nobody\" cannot impersonate resource \"users\" in API group \"\" \
                   at the cluster scope";
    assert_eq!(
        (refused.code, refused.message()),
        (StatusCode::FORBIDDEN, message.to_owned())
    );
    let as_nobody = ask("tester", "nobody").await;
    assert!(
        as_nobody.message().contains("User \"nobody\" cannot list"),
        "{}",
        as_nobody.message()
    );
    assert_eq!(ask("tester", "jane").await.code, StatusCode::OK);
}

#[tokio::test]
async fn patches_that_make_no_sense_are_refused_in_kubernetes_words() {
    let f = Fixture::new().await;
    let target = "/apis/apps/v1/namespaces/a/deployments/d";
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}});
    let made = f.post("/apis/apps/v1/namespaces/a/deployments", made).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let generic = "the server rejected our request due to an error in our request";
    let cases = [
        (
            "json",
            json!([{"op": "test", "path": "/spec/replicas", "value": 9}]),
            422,
            generic,
        ),
        ("json", json!([{"op": "remove", "path": "/spec/none"}]), 422, generic),
        (
            "json",
            json!({"op": "test"}),
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "merge",
            json!([]),
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            "strategic-merge",
            json!("x"),
            400,
            "json: cannot unmarshal string into Go value of type map[string]interface {}",
        ),
        (
            "strategic-merge",
            json!({"spec": {"replicas": "x", "paused": true}}),
            422,
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[paused:true replicas:x]]\": unrecognized type: int32",
        ),
        (
            "strategic-merge",
            json!({"metadata": {"name": "e"}}),
            400,
            "the name of the object (e) does not match the name on the URL (d)",
        ),
        (
            "merge",
            json!({"metadata": {"namespace": "b"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "merge",
            json!({"metadata": {"uid": "u"}}),
            422,
            "Deployment.apps \"d\" is invalid: metadata.uid: Invalid value: \"u\": field is immutable",
        ),
    ];
    for (kind, patch, code, message) in cases {
        let answer = f.patch(target, kind, patch.clone()).await;
        assert_eq!(
            (answer.code.as_u16(), answer.message()),
            (code, message.to_owned()),
            "{kind} {patch}"
        );
    }
    let other = json!({"kind": "Pod", "apiVersion": "v2"});
    let kept = f.patch(target, "strategic-merge", other).await;
    assert_eq!(
        (kept.code, kept.at("/kind"), kept.at("/apiVersion")),
        (StatusCode::OK, json!("Deployment"), json!("apps/v1"))
    );
}

#[tokio::test]
async fn a_label_selector_that_cannot_be_read_is_told_once() {
    let f = Fixture::new().await;
    let answer = f.get(&format!("{MAPS}?labelSelector=a%20in")).await;
    let message = "unable to parse requirement: found '' expected: '('".to_owned();
    assert_eq!((answer.code, answer.message()), (StatusCode::BAD_REQUEST, message));
}
