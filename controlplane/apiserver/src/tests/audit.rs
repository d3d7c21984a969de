//! The audit log of requests, over HTTP: what a policy wants of them and nothing more.

use std::path::PathBuf;
use std::time::Duration;

use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Fixture, Given, config_map, stranger, user};
use crate::audit::{Config, log::Output, policy::Policy};
use crate::http::body::Body;
use crate::registry::virtuals::{Passing, Request as Asked, Response as Told, Virtual, VirtualContext, VirtualRoute};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, nonResourceURLs: ["/metrics"]}
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: Request
  omitStages: [RequestReceived]
  verbs: [create]
- level: RequestResponse
  omitStages: [RequestReceived]
  omitManagedFields: true
  resources: [{group: "", resources: [configmaps]}]
- {level: Metadata, omitStages: [RequestReceived]}
"#;

/// Panics.
struct Breaks;

#[async_trait::async_trait]
impl Virtual for Breaks {
    async fn call(&self, _: VirtualContext, _: Asked) -> Result<Told, api::Status> {
        panic!("a handler breaks");
    }
}

fn breaks() -> VirtualRoute {
    VirtualRoute {
        group: "test.example.com",
        version: "v1",
        resource: "breaks",
        subresource: None,
        namespaced: false,
        kind: "Break",
        kind_group_version: None,
        definition: None,
        verbs: &["list"],
        passing: Passing::Unseen,
        handler: std::sync::Arc::new(Breaks),
    }
}

#[tokio::test]
async fn a_panic_has_a_stage_of_its_own() {
    let (fixture, path) = audited().await;
    let broken = fixture.get("/apis/test.example.com/v1/breaks").await;
    assert_eq!(broken.code, StatusCode::INTERNAL_SERVER_ERROR);
    fixture.get("/version").await;
    let events = events(&fixture, &path, 2).await;
    assert_eq!(events[0]["stage"], "Panic");
    assert_eq!(events[0]["responseStatus"]["code"], 500);
    assert_eq!(events[0]["responseStatus"]["message"], "APIServer panic'd");
    assert_eq!(events[1]["stage"], "ResponseComplete");
}

/// A server whose audit log is a file, and that file.
async fn audited() -> (Fixture, PathBuf) {
    let path = std::env::temp_dir().join(format!("wherry-audit-{}.log", crate::random_uuid()));
    let output = Output {
        path: Some(path.clone()),
        max_size: 100,
        max_backups: 0,
        max_age: 0,
    };
    let policy = Policy::parse(POLICY).expect("a policy");
    let given = Given {
        audit: Some(Config { policy, output }),
        virtuals: Box::new(|_| vec![breaks()]),
        ..Given::default()
    };
    (Fixture::made(given).await, path)
}

/// The events, once there are as many; the file is removed.
async fn events(fixture: &Fixture, path: &PathBuf, count: usize) -> Vec<Value> {
    let audit = fixture.server.shared.audit.as_ref().expect("there is an audit log");
    let [written, lost] = audit.log.counters();
    let all = async {
        while written.get() < count as u64 {
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), all).await;
    assert_eq!(lost.get(), 0);
    let text = std::fs::read_to_string(path).expect("the log");
    std::fs::remove_file(path).expect("it can be removed");
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    assert_eq!(events.len(), count, "{text}");
    events
}

#[tokio::test]
async fn bodies_are_written_as_far_as_the_policy_wants_them() {
    let (fixture, path) = audited().await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hunter2"}});
    fixture.post("/api/v1/namespaces/a/secrets", secret).await;
    fixture.config_map("x", json!({"k": "v"})).await;
    fixture
        .patch(
            "/api/v1/namespaces/a/configmaps/x",
            "merge",
            json!({"data": {"k": "w"}}),
        )
        .await;
    fixture.get("/api/v1/namespaces/a/configmaps/gone").await;
    fixture.get("/metrics").await;
    let events = events(&fixture, &path, 5).await;
    assert!(!events.iter().any(|event| event.to_string().contains("hunter2")));
    let brief = |event: &Value| {
        let has = |field: &str| event.get(field).is_some();
        format!(
            "{} {} {} {} {} {} {}",
            event["stage"].as_str().expect("a stage"),
            event["verb"].as_str().expect("a verb"),
            event["objectRef"]["resource"].as_str().expect("a resource"),
            event["objectRef"]["name"].as_str().unwrap_or("-"),
            event["responseStatus"]["code"],
            has("requestObject"),
            has("responseObject"),
        )
    };
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        [
            "RequestReceived create secrets - null false false",
            "ResponseComplete create secrets s 201 false false",
            "ResponseComplete create configmaps x 201 true false",
            "ResponseComplete patch configmaps x 200 true true",
            "ResponseComplete get configmaps gone 404 false true",
        ]
    );
    assert_eq!(events[0]["auditID"], events[1]["auditID"]);
    let patch = &events[3];
    assert_eq!(patch["requestObject"], json!({"data": {"k": "w"}}));
    assert_eq!(patch["responseObject"]["data"], json!({"k": "w"}));
    assert_eq!(patch["responseObject"]["metadata"].get("managedFields"), None);
    assert_eq!(patch["user"]["username"], "tester");
    assert_eq!(patch["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(patch["requestReceivedTimestamp"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(events[4]["responseStatus"]["reason"], "NotFound");
}

#[tokio::test]
async fn who_is_refused_is_written_down_too() {
    let (fixture, path) = audited().await;
    let pods = |header: (&str, &str)| {
        let request = Request::get("/api/v1/namespaces/a/pods").header(header.0, header.1);
        request.body(Body::empty()).expect("a request")
    };
    let refused = fixture
        .request(stranger(), pods(("authorization", "Bearer nonsense")))
        .await;
    assert_eq!(refused.code, StatusCode::UNAUTHORIZED);
    let forbidden = fixture.request(user("nobody"), pods(("user-agent", "curl/8"))).await;
    assert_eq!(forbidden.code, StatusCode::FORBIDDEN);
    let acted = fixture.request(user("jane"), pods(("impersonate-user", "bob"))).await;
    assert_eq!(acted.code, StatusCode::OK);
    let events = events(&fixture, &path, 3).await;
    assert_eq!(events[0]["user"], json!({}));
    assert_eq!(events[0]["stage"], "ResponseStarted");
    assert_eq!(
        events[0]["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );
    assert_eq!(events[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(
        (&events[1]["userAgent"], &events[1]["sourceIPs"]),
        (&json!("curl/8"), &json!(["127.0.0.1"]))
    );
    assert_eq!(events[1]["responseStatus"]["code"], 403);
    assert_eq!(events[2]["user"]["username"], "jane");
    assert_eq!(events[2]["impersonatedUser"]["username"], "bob");
}

#[tokio::test]
async fn a_watch_is_written_down_at_its_begin_and_at_its_end() {
    let (fixture, path) = audited().await;
    let watch = fixture.watch("/api/v1/namespaces/a/configmaps?watch=1").await;
    drop(watch);
    let body = config_map("x", json!({}));
    fixture.post("/api/v1/namespaces/a/configmaps", body).await;
    let events = events(&fixture, &path, 3).await;
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete", "ResponseComplete"]);
    assert_eq!(events[1]["verb"], "watch");
    assert_eq!(events[1]["responseStatus"]["code"], 200);
}
