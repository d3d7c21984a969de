//! `pods/exec`, `pods/attach` and `pods/portforward`: the client's connection, once upgraded, is joined to one to the node
//! that runs the pod. What travels on it (SPDY or WebSocket frames) is between client and node.

use std::sync::Arc;

use api::names::GroupResource;
use api::{Object, Status};
use async_trait::async_trait;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log::{container, refused};
use crate::aggregation::without_bearer;
use crate::http::body::Body;
use crate::http::dial::Dialer;
use crate::http::query::Query;
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute};

/// How much of a node's error text is passed on, in bytes.
const MAX_ERROR: usize = 16 * 1024;
/// What is moved at once.
const BUFFER: usize = 64 * 1024;

/// Headers by which client and node agree on what they speak.
const AGREEMENT: [&str; 5] = [
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Exec,
    Attach,
    PortForward,
}

/// Joins clients to nodes.
struct Streams {
    what: What,
    dialer: Arc<dyn Dialer>,
    tasks: TaskTracker,
}

/// The routes over a dialer; joined connections are tasks of `tasks`.
pub fn routes(dialer: &Arc<dyn Dialer>, tasks: &TaskTracker) -> Vec<VirtualRoute> {
    let route = |what, subresource, kind| VirtualRoute {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: Some(subresource),
        namespaced: true,
        kind,
        kind_group_version: None,
        definition: None,
        verbs: &["create", "get"],
        passing: Passing::Connect,
        handler: Arc::new(Streams {
            what,
            dialer: dialer.clone(),
            tasks: tasks.clone(),
        }),
    };
    vec![
        route(What::Exec, "exec", "PodExecOptions"),
        route(What::Attach, "attach", "PodAttachOptions"),
        route(What::PortForward, "portforward", "PodPortForwardOptions"),
    ]
}

#[async_trait]
impl Virtual for Streams {
    async fn call(&self, cx: VirtualContext, mut request: Request) -> Result<Response, Status> {
        let pods = GroupResource::new("", "pods");
        let pod = cx.reader.get_fresh(&pods, cx.namespace.as_deref(), &cx.name).await?;
        let pod = pod.ok_or_else(|| Status::not_found(&pods, &cx.name))?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let target = target(self.what, &pod, cx.namespace.as_deref().unwrap_or_default(), &query)?;
        let node = pod.str_at("spec.nodeName").unwrap_or_default();
        if node.is_empty() {
            return Err(Status::bad_request(format!(
                "pod {} does not have a host assigned",
                cx.name
            )));
        }
        if !request.headers().contains_key(UPGRADE) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let client = client.ok_or_else(|| Status::bad_request("the connection does not speak HTTP/1.1"))?;
        let node = self.ask(node, request.method(), &target, request.headers()).await?;
        Ok(self.join(client, node, cx.ending))
    }
}

impl Streams {
    /// Asks a node for the stream; its answer, if it agrees to upgrade.
    async fn ask(
        &self,
        node: &str,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<http::Response<Incoming>, Status> {
        let stream = self.dialer.dial(node).await?;
        let lost = |error: hyper::Error| {
            tracing::debug!(%error, node, "a node did not answer for a stream");
            Status::service_unavailable(format!("node {node:?} did not answer"))
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(lost)?;
        self.tasks.spawn(async move {
            // Whoever reads the stream sees how it ends.
            let _ = connection.with_upgrades().await;
        });
        let mut request = HttpRequest::new(Empty::<bytes::Bytes>::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = target
            .parse()
            .map_err(|_| Status::bad_request("the options make no request"))?;
        *request.headers_mut() = agreement(headers);
        let response = sender.send_request(request).await.map_err(lost)?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(response),
            code => {
                let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
                let body = body.map(|b| b.to_bytes()).unwrap_or_default();
                Err(refused(code, String::from_utf8_lossy(&body).trim()))
            }
        }
    }

    /// Joins the two connections once both have been upgraded, until either ends or the server does.
    fn join(&self, client: OnUpgrade, mut node: http::Response<Incoming>, ending: CancellationToken) -> Response {
        let upgraded = hyper::upgrade::on(&mut node);
        self.tasks.spawn(async move {
            let join = async {
                let (client, node) = tokio::try_join!(client, upgraded)?;
                let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
                // Either side may break off at any time.
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut node, BUFFER, BUFFER).await;
                Ok::<(), hyper::Error>(())
            };
            if let Some(Err(error)) = ending.run_until_cancelled(Box::pin(join)).await {
                tracing::debug!(%error, "a connection to a node was not upgraded");
            }
        });
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = node.status();
        *response.headers_mut() = std::mem::take(node.headers_mut());
        response
    }
}

/// The headers that a node is sent: nothing of who asks, which has been decided.
fn agreement(headers: &HeaderMap) -> HeaderMap {
    let mut sent = HeaderMap::new();
    sent.insert(HOST, HeaderValue::from_static("kubelet"));
    sent.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let names = AGREEMENT.map(HeaderName::from_static);
    for name in names.iter().chain([&UPGRADE]) {
        for value in headers.get_all(name) {
            sent.append(name, value.clone());
        }
    }
    without_bearer(&mut sent);
    sent
}

/// The node's path for a request, with the options as nodes know them.
fn target(what: What, pod: &Object, namespace: &str, query: &Query<'_>) -> Result<String, Status> {
    let name = pod.name();
    let mut options = Vec::new();
    if what == What::PortForward {
        for port in query.all("ports").flat_map(|ports| ports.split(',')) {
            let number: Result<u16, _> = port.parse();
            let number = number.map_err(|_| Status::bad_request(format!("port {port:?} is not a port")))?;
            options.push(format!("port={number}"));
        }
        return Ok(format!("/portForward/{namespace}/{name}?{}", options.join("&")));
    }
    let container = container(pod, query.get("container"))?;
    let flag = |name: &str| query.flag(name);
    let tty = flag("tty");
    let asked = [
        ("input", flag("stdin")),
        ("output", flag("stdout")),
        ("error", flag("stderr") && !tty),
        ("tty", tty),
    ];
    if !asked.iter().take(3).any(|(_, wanted)| *wanted) {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    options.extend(
        asked
            .iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(name, _)| format!("{name}=1")),
    );
    if what == What::Attach {
        return Ok(format!("/attach/{namespace}/{name}/{container}?{}", options.join("&")));
    }
    options.extend(query.all("command").map(|word| format!("command={}", encode(word))));
    if query.get("command").is_none() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    Ok(format!("/exec/{namespace}/{name}/{container}?{}", options.join("&")))
}

/// Escapes everything that could be taken for a part of the query.
fn encode(word: &str) -> String {
    let mut encoded = String::with_capacity(word.len());
    for byte in word.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                    encoded.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Object {
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        Object::from_value(pod).expect("a pod")
    }

    #[test]
    fn asks_nodes_in_their_own_terms() {
        let cases: [(What, &str, Result<&str, &str>); 8] = [
            (
                What::Exec,
                "container=b&command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=true&stderr=true",
                Ok("/exec/ns/p/b?input=1&output=1&error=1&command=sh&command=-c&command=echo%20a%26b"),
            ),
            (
                What::Exec,
                "container=b&command=sh&tty=true&stdout=true&stderr=true",
                Ok("/exec/ns/p/b?output=1&tty=1&command=sh"),
            ),
            (
                What::Exec,
                "command=ls&stdout=1",
                Err("a container name must be specified for pod p, choose one of: [a b]"),
            ),
            (
                What::Exec,
                "container=c&command=ls&stdout=1",
                Err("container c is not valid for pod p"),
            ),
            (
                What::Exec,
                "container=a&command=ls",
                Err("you must specify at least 1 of stdin, stdout, stderr"),
            ),
            (
                What::Exec,
                "container=a&stdout=true",
                Err("you must specify at least one command for the container"),
            ),
            (What::Attach, "container=a&stdout=true", Ok("/attach/ns/p/a?output=1")),
            (
                What::PortForward,
                "ports=80,443&ports=1",
                Ok("/portForward/ns/p?port=80&port=443&port=1"),
            ),
        ];
        for (what, query, expected) in cases {
            let asked = target(what, &pod(), "ns", &Query::parse(query)).map_err(|status| status.message);
            assert_eq!(asked.as_deref().map_err(String::as_str), expected, "{query}");
        }
    }

    #[test]
    fn tells_nodes_nothing_of_who_asks() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("cookie", "secret"),
            ("x-remote-user", "root"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ("sec-websocket-protocol", "v4.channel.k8s.io"),
            (
                "sec-websocket-protocol",
                "base64url.bearer.authorization.k8s.io.c2VjcmV0",
            ),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let sent = agreement(&headers);
        let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
        let protocols = sent.get("sec-websocket-protocol").expect("protocols");
        assert_eq!(protocols, "v5.channel.k8s.io, v4.channel.k8s.io");
        assert!(
            !names
                .iter()
                .any(|name| ["authorization", "cookie", "x-remote-user"].contains(name)),
            "{names:?}"
        );
    }
}
