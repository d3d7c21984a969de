//! The request path from end to end, in this process, over the in-memory store.

mod aggregation;
mod apply;
mod audit;
mod certificates;
mod components;
mod content;
mod conversion;
mod custom;
mod deletes;
mod discovery;
mod flow_control;
mod history;
pub(crate) mod hooks;
mod lists;
mod logs;
mod managed;
mod pods;
mod policies;
mod refusals;
mod sockets;
mod streams;
mod watches;
mod webhooks;
mod workloads;
mod writes;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api::time::Timestamp;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, BodyStream};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use store::Backend;
use store::memory::Memory;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::oidc::keys::Pace;
use crate::authn::{AUTHENTICATED, Certified, UserInfo};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::http::body::Body;
use crate::http::pipeline::{Caller, handle};
use crate::server::{ApiServer, Config, Parts};

/// Lets everybody do everything, but for the user `nobody`, and but for creating for the user `patcher`.
struct AllButNobody;

#[async_trait]
impl Authorizer for AllButNobody {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match attributes.user.username.as_str() {
            "nobody" | "system:anonymous" => Decision::NoOpinion(String::new()),
            "patcher" if attributes.verb == "create" => Decision::NoOpinion(String::new()),
            _ => Decision::Allow,
        }
    }
}

/// A server with the built-in kinds, no admission, and a user who may do everything.
pub(super) struct Fixture {
    pub(super) server: Arc<ApiServer>,
    pub(super) backend: Arc<Memory>,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A response, its body collected.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    pub(super) fn at(&self, pointer: &str) -> Value {
        self.json().pointer(pointer).cloned().unwrap_or_default()
    }

    pub(super) fn message(&self) -> String {
        self.at("/message").as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn revision(&self) -> String {
        self.at("/metadata/resourceVersion")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Names of a list's items.
    pub(super) fn names(&self) -> Vec<String> {
        let json = self.json();
        let items = json["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

pub(super) fn time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a timestamp")
}

pub(super) fn user(name: &str) -> Caller {
    let groups = vec![AUTHENTICATED.to_owned()];
    Caller::Internal(Arc::new(UserInfo {
        username: name.to_owned(),
        groups,
        ..UserInfo::default()
    }))
}

/// How often issuers of tokens are asked: as often as somebody wants.
const PACE: Pace = Pace {
    retry: Duration::from_millis(20),
    again: Duration::ZERO,
    refresh: Duration::from_secs(3600),
    patience: Duration::from_secs(5),
};

/// What a fixture may be given.
pub(super) struct Given {
    pub(super) backend: Arc<Memory>,
    pub(super) client_ca: Vec<CertificateDer<'static>>,
    pub(super) virtuals: crate::Virtuals,
    pub(super) audit: Option<crate::audit::Config>,
    /// A certificate for aggregated servers.
    pub(super) proxy_client: Option<crate::ProxyClient>,
    /// How many requests it serves at once.
    pub(super) max_inflight: crate::MaxInflight,
    /// What is asked about the health of others.
    pub(super) checks: Vec<crate::http::health::Check>,
    /// Who is believed beside.
    pub(super) authentication: crate::authn::Config,
}

impl Default for Given {
    fn default() -> Self {
        Given {
            backend: Arc::default(),
            client_ca: Vec::new(),
            virtuals: Box::new(|_| Vec::new()),
            audit: None,
            proxy_client: None,
            max_inflight: crate::MaxInflight::default(),
            checks: Vec::new(),
            authentication: crate::authn::Config::fixed(Default::default()),
        }
    }
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::over(Arc::new(Memory::default())).await
    }

    /// Over a store that has been used.
    pub(super) async fn over(backend: Arc<Memory>) -> Self {
        Self::trusting(backend, Vec::new()).await
    }

    /// With authorities whose client certificates are believed.
    pub(super) async fn trusting(backend: Arc<Memory>, client_ca: Vec<CertificateDer<'static>>) -> Self {
        Self::with(backend, client_ca, Box::new(|_| Vec::new())).await
    }

    /// With endpoints of the test's own.
    pub(super) async fn with(
        backend: Arc<Memory>,
        client_ca: Vec<CertificateDer<'static>>,
        virtuals: crate::Virtuals,
    ) -> Self {
        let given = Given {
            backend,
            client_ca,
            virtuals,
            ..Given::default()
        };
        Self::made(given).await
    }

    /// Keeps APIServices, which a fixture does not by itself.
    pub(super) fn aggregate(&self) {
        tokio::spawn(crate::aggregation::run(
            self.server.shared.clone(),
            self.shutdown.clone(),
        ));
    }

    pub(super) async fn made(given: Given) -> Self {
        let Given {
            backend,
            client_ca,
            virtuals,
            audit,
            proxy_client,
            max_inflight,
            checks,
            authentication,
        } = given;
        let shutdown = CancellationToken::new();
        let config = Config {
            backend: backend.clone(),
            version: "v1.36.2+wherry".to_owned(),
            clock: Arc::new(time),
            client_ca,
            proxy_client,
            max_inflight,
            authentication,
            authorization: crate::authz::Config::fixed(Default::default()),
            service_accounts: crate::tokens::Config {
                key: String::new(),
                issuer: "https://test".to_owned(),
                audiences: Vec::new(),
                jwks_uri: String::new(),
            },
            service_range: "10.96.0.0/16".parse().expect("a range"),
            kubernetes_address: Ipv4Addr::new(10, 96, 0, 1),
            node_ports: 30000..=32767,
            admission: Vec::new(),
            virtuals,
            checks,
            audit,
            sign_in: None,
            pages: None,
        };
        let server = ApiServer::assemble(config, TaskTracker::new(), shutdown.clone(), |beginning| {
            let outside = beginning.outside(PACE);
            Ok(Parts {
                resources: crate::resources::catalogue(beginning.deps),
                admission: Vec::new(),
                authorizer: Arc::new(AllButNobody),
                tokens: Some(outside.clone()),
                outside,
                virtuals: Vec::new(),
                published: Vec::new(),
                sessions: None,
            })
        })
        .expect("the server starts");
        server.wait_ready().await;
        Fixture {
            server,
            backend,
            shutdown,
        }
    }

    pub(super) async fn request(&self, caller: Caller, request: Request<Body>) -> Answer {
        let response = handle(self.server.shared.clone(), caller, request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body is whole").to_bytes();
        Answer {
            code: parts.status,
            headers: parts.headers,
            bytes,
        }
    }

    /// As the test's user, with headers as `name: value` lines.
    pub(super) async fn send_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.request(user("tester"), request.body(Body::from(body)).expect("a request"))
            .await
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.send_with("GET", target, &[], Vec::new()).await
    }

    pub(super) async fn delete(&self, target: &str) -> Answer {
        self.send_with("DELETE", target, &[], Vec::new()).await
    }

    pub(super) async fn post(&self, target: &str, body: Value) -> Answer {
        self.send_with(
            "POST",
            target,
            &[("content-type", "application/json")],
            body.to_string().into(),
        )
        .await
    }

    pub(super) async fn put(&self, target: &str, body: Value) -> Answer {
        self.send_with(
            "PUT",
            target,
            &[("content-type", "application/json")],
            body.to_string().into(),
        )
        .await
    }

    /// A patch of a type: `json`, `merge` or `strategic-merge`.
    pub(super) async fn patch(&self, target: &str, patch_type: &str, body: Value) -> Answer {
        let media = format!("application/{patch_type}-patch+json");
        self.send_with("PATCH", target, &[("content-type", &media)], body.to_string().into())
            .await
    }

    /// How many keys the store has below a prefix.
    pub(super) async fn backend_range(&self, prefix: &str) -> usize {
        let range = self
            .backend
            .range(prefix, store::Page::all(), None)
            .await
            .expect("a range");
        range.items.len()
    }

    /// Creates a ConfigMap in the namespace `a`.
    pub(super) async fn config_map(&self, name: &str, data: Value) -> Answer {
        let answer = self
            .post("/api/v1/namespaces/a/configmaps", config_map(name, data))
            .await;
        assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
        answer
    }

    /// Begins a watch.
    pub(super) async fn watch(&self, target: &str) -> Events {
        self.watch_with(target, "application/json").await
    }

    /// Begins a watch in protobuf.
    pub(super) async fn watch_frames(&self, target: &str, accept: &str) -> Frames {
        let request = Request::get(target).header("accept", accept).body(Body::empty());
        let request = request.expect("a request");
        let response = handle(self.server.shared.clone(), user("tester"), request).await;
        assert_eq!(
            response.headers()["content-type"],
            "application/vnd.kubernetes.protobuf;stream=watch"
        );
        Frames {
            body: BodyStream::new(response.into_body()),
            pending: Vec::new(),
        }
    }

    pub(super) async fn watch_with(&self, target: &str, accept: &str) -> Events {
        let request = Request::get(target)
            .header("accept", accept)
            .body(Body::empty())
            .expect("a request");
        let response = handle(self.server.shared.clone(), user("tester"), request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Events {
            body: BodyStream::new(response.into_body()),
            pending: Vec::new(),
        }
    }
}

/// The events of a watch in protobuf.
pub(super) struct Frames {
    body: BodyStream<Body>,
    pending: Vec<u8>,
}

impl Frames {
    /// The next event: its type and its object.
    pub(super) async fn next_frame(&mut self) -> (String, Value) {
        loop {
            if let Some((length, rest)) = self.pending.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let event = rest[..length].to_vec();
                    self.pending.drain(..4 + length);
                    // Field 1 is the type; the object in its envelope stands at the end.
                    let type_ = String::from_utf8(event[2..2 + usize::from(event[1])].to_vec()).expect("text");
                    let at = event.windows(4).position(|part| part == b"k8s\0").expect("an envelope");
                    return (type_, schema::protobuf::decode(&event[at..]).expect("an object"));
                }
            }
            let frame = self
                .body
                .next()
                .await
                .expect("the watch goes on")
                .expect("it is not cut off");
            self.pending.extend_from_slice(&frame.into_data().expect("data"));
        }
    }
}

/// The events of a watch.
pub(super) struct Events {
    body: BodyStream<Body>,
    pending: Vec<Value>,
}

impl Events {
    /// The next event; `None` when the watch has ended.
    pub(super) async fn next(&mut self) -> Option<Value> {
        while self.pending.is_empty() {
            let frame = self
                .body
                .next()
                .await?
                .expect("the watch is not cut off")
                .into_data()
                .expect("data");
            let lines = frame.split(|b| *b == b'\n').filter(|line| !line.is_empty());
            self.pending = lines
                .map(|line| serde_json::from_slice(line).expect("an event"))
                .collect();
        }
        Some(self.pending.remove(0))
    }

    /// The next event as `TYPE name`.
    pub(super) async fn brief(&mut self) -> String {
        let event = self.next().await.expect("the watch goes on");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap_or_default())
            .trim_end()
            .to_owned()
    }
}

pub(super) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A pod that every rule accepts.
pub(super) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

/// A deployment that every rule accepts.
pub(super) fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

/// A caller over the network who showed nothing.
pub(super) fn stranger() -> Caller {
    Caller::Connection {
        certified: Certified::No,
        loopback: true,
        peer: None,
    }
}

#[tokio::test]
async fn the_store_is_the_only_state() {
    let fixture = Fixture::new().await;
    fixture.config_map("x", json!({"k": "v"})).await;
    let range = fixture
        .backend
        .range("core/configmaps/", store::Page::all(), None)
        .await
        .expect("a range");
    assert_eq!(range.items.len(), 1);
    assert_eq!(&*range.items[0].key, "core/configmaps/a/x");
    assert!(!String::from_utf8_lossy(&range.items[0].value).contains("resourceVersion"));
}
