//! `pods/log`: the log of one container, streamed from the node that runs it.

use std::sync::Arc;

use api::names::{GroupKind, GroupResource};
use api::{FieldError, Object, Path, Status};
use async_trait::async_trait;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::body::Body;
use crate::http::dial::Dialer;
use crate::http::query::Query;
use crate::http::{respond, websocket};
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute};

/// How much of a node's error text is passed on, in bytes.
const MAX_ERROR: usize = 16 * 1024;

/// Parameters that a node understands.
const PASSED: [&str; 7] = [
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
];

/// Answers `pods/log`.
pub struct Logs {
    dialer: Arc<dyn Dialer>,
    tasks: TaskTracker,
}

/// The route of `pods/log` over a dialer; connections to nodes are tasks of `tasks`.
pub fn route(dialer: Arc<dyn Dialer>, tasks: TaskTracker) -> VirtualRoute {
    VirtualRoute {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: Some("log"),
        namespaced: true,
        kind: "Pod",
        kind_group_version: None,
        definition: None,
        verbs: &["get"],
        passing: Passing::Unseen,
        handler: Arc::new(Logs { dialer, tasks }),
    }
}

#[async_trait]
impl Virtual for Logs {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let pods = GroupResource::new("", "pods");
        let pod = cx.reader.get_fresh(&pods, cx.namespace.as_deref(), &cx.name).await?;
        let pod = pod.ok_or_else(|| Status::not_found(&pods, &cx.name))?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        check_options(&query, &cx.name)?;
        let container = container(&pod, query.get("container"))?;
        let node = pod.str_at("spec.nodeName").unwrap_or_default();
        if node.is_empty() {
            // Nobody has run it, so it has said nothing.
            return self.answer(request, Body::empty(), cx.ending);
        }
        let namespace = cx.namespace.as_deref().unwrap_or_default();
        let path = target(namespace, &cx.name, container, &query);
        let log = self.fetch(node, &path).await?;
        self.answer(request, log, cx.ending)
    }
}

impl Logs {
    /// The log as the client wants to have it: as the body of the answer, or over a WebSocket. Both end with the server.
    fn answer(&self, mut request: Request, log: Body, ending: CancellationToken) -> Result<Response, Status> {
        let log = Body::stream(log.into_data_stream().take_until(ending.cancelled_owned()));
        if !websocket::asked(request.headers()) {
            return Ok(text(log));
        }
        let (response, accepted) = websocket::accept(&mut request)?;
        self.tasks.spawn(accepted.send(log));
        Ok(response)
    }

    async fn fetch(&self, node: &str, path: &str) -> Result<Body, Status> {
        let stream = self.dialer.dial(node).await?;
        let lost = |error: hyper::Error| {
            tracing::debug!(%error, node, "a node did not answer for a log");
            Status::service_unavailable(format!("node {node:?} did not answer"))
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(lost)?;
        self.tasks.spawn(async move {
            // The body's reader sees how it ends.
            let _ = connection.await;
        });
        let request = HttpRequest::get(path)
            .header(HOST, "kubelet")
            .body(Empty::<bytes::Bytes>::new());
        let request = request.map_err(|_| Status::bad_request("the log options make no request"))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        match response.status() {
            StatusCode::OK => Ok(Body::from(response.into_body())),
            code => {
                let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
                let body = body.map(|b| b.to_bytes()).unwrap_or_default();
                Err(refused(code, String::from_utf8_lossy(&body).trim()))
            }
        }
    }
}

/// A node's refusal in the words of the node.
pub(super) fn refused(code: StatusCode, text: &str) -> Status {
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::NOT_FOUND => {
            let mut status = Status::no_such_path();
            status.message = text.to_owned();
            status
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Status::internal(&format!("the node refused the server's own credentials: {text}"))
        }
        _ => Status::bad_request(text),
    }
}

fn text(body: Body) -> Response {
    let mut response = respond::with_type(StatusCode::OK, HeaderValue::from_static("text/plain"), body);
    debug_assert!(response.headers_mut().contains_key(CONTENT_TYPE));
    response
}

/// Which container is meant: the one named, or the only one there is.
pub(super) fn container<'a>(pod: &'a Object, asked: Option<&'a str>) -> Result<&'a str, Status> {
    let names = |list: &str| -> Vec<&'a str> {
        pod.list_at(list)
            .iter()
            .filter_map(|c| c.get("name")?.as_str())
            .collect()
    };
    let lists = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"].map(names);
    if let Some(asked) = asked {
        return match lists.iter().flatten().any(|name| *name == asked) {
            true => Ok(asked),
            false => Err(Status::bad_request(format!(
                "container {asked} is not valid for pod {}",
                pod.name()
            ))),
        };
    }
    let [containers, init, ephemeral] = lists;
    match containers.as_slice() {
        [only] => Ok(only),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}",
            pod.name()
        ))),
        several => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                several.join(" ")
            );
            for (what, names) in [("init", init), ("ephemeral", ephemeral)] {
                if !names.is_empty() {
                    message += &format!(" or one of the {what} containers: [{}]", names.join(" "));
                }
            }
            Err(Status::bad_request(message))
        }
    }
}

fn check_options(query: &Query<'_>, pod: &str) -> Result<(), Status> {
    let mut errors = Vec::new();
    for (field, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if let Some(value) = query.int(field)?.filter(|value| *value < least) {
            let detail = format!("must be greater than or equal to {least}");
            errors.push(FieldError::invalid(&Path::root(field), value, detail));
        }
    }
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::root(""), detail));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&GroupKind::new("", "PodLogOptions"), pod, errors)),
    }
}

/// The path and query at the kubelet. Names are DNS labels by now; values are encoded anew.
fn target(namespace: &str, pod: &str, container: &str, query: &Query<'_>) -> String {
    let mut target = format!("/containerLogs/{namespace}/{pod}/{container}");
    let mut separator = '?';
    for (key, value) in PASSED.iter().filter_map(|key| Some((key, query.get(key)?))) {
        target.push(separator);
        separator = '&';
        target.push_str(key);
        target.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => target.push(byte as char),
                other => target.push_str(&format!("%{other:02X}")),
            }
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Object {
        let list = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
        Object::from_value(json!({
            "metadata": {"name": "x"}, "spec": {"containers": list(containers), "initContainers": list(init)},
        }))
        .expect("an object")
    }

    #[test]
    fn chooses_a_container_or_says_which_there_are() {
        let cases = [
            (pod(&["a"], &[]), None, Ok("a")),
            (pod(&["a", "b"], &[]), Some("b"), Ok("b")),
            (pod(&["a"], &["i"]), Some("i"), Ok("i")),
            (pod(&["a"], &[]), Some("z"), Err("container z is not valid for pod x")),
            (
                pod(&["a", "b"], &["i"]),
                None,
                Err(
                    "a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]",
                ),
            ),
            (pod(&[], &[]), None, Err("a container name must be specified for pod x")),
        ];
        for (pod, asked, expected) in cases {
            let found = container(&pod, asked).map_err(|status| status.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{asked:?}");
        }
    }

    #[test]
    fn passes_the_options_a_node_understands() {
        let query = Query::parse("follow=true&sinceTime=2026-01-01T00%3A00%3A00Z&container=a&foo=1");
        assert_eq!(
            target("ns", "x", "a", &query),
            "/containerLogs/ns/x/a?follow=true&sinceTime=2026-01-01T00%3A00%3A00Z"
        );
    }

    #[test]
    fn refuses_options_out_of_range() {
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert_eq!(
                check_options(&Query::parse(query), "x").map_err(|s| s.code),
                Err(422),
                "{query}"
            );
        }
    }
}
