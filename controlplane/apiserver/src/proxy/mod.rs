//! `pods/proxy`, `services/proxy` and `nodes/proxy`: requests that are passed on to a pod, to one of a service's pods, or to
//! a node's kubelet. Where they go is what the objects say; where they may not go is decided here: never to this machine
//! itself or its neighbours on the link, whatever a status claims.

mod forward;
mod target;

use std::sync::Arc;

use api::Status;
use api::names::GroupResource;
use async_trait::async_trait;
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use tokio_util::task::TaskTracker;

use self::forward::{Forward, To};
use self::target::Name;
use crate::http::body::Body;
use crate::http::dial::Dialer;
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Pod,
    Service,
    Node,
}

struct Proxy {
    what: What,
    dialer: Arc<dyn Dialer>,
    forward: Forward,
}

/// The routes; nodes are reached through the dialer, connections are tasks of `tasks`.
pub fn routes(dialer: &Arc<dyn Dialer>, tasks: &TaskTracker) -> Vec<VirtualRoute> {
    let route = |what, resource, kind| VirtualRoute {
        group: "",
        version: "v1",
        resource,
        subresource: Some("proxy"),
        namespaced: what != What::Node,
        kind,
        kind_group_version: None,
        definition: None,
        verbs: &["create", "delete", "get", "patch", "update"],
        passing: Passing::Connect,
        handler: Arc::new(Proxy {
            what,
            dialer: dialer.clone(),
            forward: Forward::new(tasks.clone()),
        }),
    };
    vec![
        route(What::Pod, "pods", "PodProxyOptions"),
        route(What::Service, "services", "ServiceProxyOptions"),
        route(What::Node, "nodes", "NodeProxyOptions"),
    ]
}

#[async_trait]
impl Virtual for Proxy {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let segments = if self.what == What::Node { 5 } else { 7 };
        let path = request.uri().path();
        let (before, rest) = split(path, segments);
        let query = request
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(with_slash(&format!("{before}/{query}")));
        }
        let name = Name::parse(&cx.name)
            .ok_or_else(|| Status::bad_request(format!("invalid {} request {:?}", self.resource(), cx.name)))?;
        let to = self.target(&cx, &name).await?;
        let before = before.to_owned();
        let path = match rest {
            "" => format!("/{query}"),
            rest => format!("{rest}{query}"),
        };
        self.forward.pass(to, request, &before, &path, cx.ending).await
    }
}

impl Proxy {
    fn resource(&self) -> &'static str {
        match self.what {
            What::Pod => "pod",
            What::Service => "service",
            What::Node => "node",
        }
    }

    async fn target(&self, cx: &VirtualContext, name: &Name<'_>) -> Result<To, Status> {
        let namespace = cx.namespace.as_deref();
        let read = async |plural| {
            let kind = GroupResource::new("", plural);
            let object = cx.reader.get_fresh(&kind, namespace, name.name).await?;
            object.ok_or_else(|| Status::not_found(&kind, name.name))
        };
        match self.what {
            What::Node => {
                let node = read("nodes").await?;
                target::kubelet_only(&node, name)?;
                Ok(To::Node(self.dialer.dial(name.name).await?))
            }
            What::Pod => target::pod(&*read("pods").await?, name),
            What::Service => {
                let service = read("services").await?;
                let kind = GroupResource::new("", "endpoints");
                let endpoints = cx.reader.get_fresh(&kind, namespace, name.name).await?;
                let turn = usize::from(crate::random_uuid().as_bytes()[0]);
                target::service(&service, endpoints.as_deref(), name, turn)
            }
        }
    }
}

/// The path up to and with so many segments, and the rest as it is.
fn split(path: &str, segments: usize) -> (&str, &str) {
    let (mut seen, mut inside) = (0, false);
    for (at, character) in path.char_indices() {
        match (character, inside) {
            ('/', true) => {
                inside = false;
                if seen == segments {
                    return path.split_at(at);
                }
            }
            ('/', false) => {}
            (_, false) => {
                inside = true;
                seen += 1;
            }
            (_, true) => {}
        }
    }
    (path, "")
}

/// So that relative links of what is there lead to the right place.
fn with_slash(to: &str) -> Response {
    let mut response = http::Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_path_of_the_other_server() {
        let cases = [
            (
                7,
                "/api/v1/namespaces/a/pods/b/proxy",
                ("/api/v1/namespaces/a/pods/b/proxy", ""),
            ),
            (
                7,
                "/api/v1/namespaces/a/pods/b/proxy/",
                ("/api/v1/namespaces/a/pods/b/proxy", "/"),
            ),
            (
                7,
                "/api/v1/namespaces/a/pods/http:b:80/proxy/x//y%2F",
                ("/api/v1/namespaces/a/pods/http:b:80/proxy", "/x//y%2F"),
            ),
            (5, "/api/v1//nodes/n/proxy/pods", ("/api/v1//nodes/n/proxy", "/pods")),
        ];
        for (segments, path, expected) in cases {
            assert_eq!(split(path, segments), expected, "{path}");
        }
    }
}
