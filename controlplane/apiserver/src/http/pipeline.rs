//! The request path, in order: request info, authentication, impersonation, priority and fairness, authorization, then the verb; around it
//! the request id, the timeout, the metrics, and a net that catches panics.
//!
//! Authorization is decided before the body is read. Plain functions, so that a request costs no more than its work.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Status;
use api::names::GroupResource;
use futures::FutureExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use tracing::Instrument;

use super::accept::takes_gzip;
use super::body::Body;
use super::info::RequestInfo;
use super::query::Query;
use super::{compress, respond, route};
use crate::authn::{Certified, MASTERS, UserInfo, authenticate};
use crate::authz::impersonate::impersonate;
use crate::authz::{Attributes, Decision};
use crate::flowcontrol::{self, Admitted};
use crate::server::Shared;

/// How long a request may take, watches and streams excepted; as Kubernetes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Connection {
        certified: Certified,
        loopback: bool,
    },
    /// A caller in this process, known by construction.
    Internal(Arc<UserInfo>),
}

/// Answers one request; never fails and never panics.
pub(crate) async fn handle(server: Arc<Shared>, caller: Caller, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let id = request_id(&parts);
    let span = tracing::debug_span!("request", method = %parts.method, uri = %parts.uri, id = ?id);
    let work = AssertUnwindSafe(answer(&server, &caller, &parts, body))
        .catch_unwind()
        .instrument(span);
    let mut response = match Box::pin(work).await {
        Ok(response) => response,
        Err(_) => {
            server.metrics.panicked();
            tracing::error!(method = %parts.method, uri = %parts.uri, id = ?id, "a request panicked");
            let status = Status::internal("this request caused a panic; the server's log has more");
            respond::status(&status, accept(&parts))
        }
    };
    response.headers_mut().insert(respond::AUDIT_ID, id);
    response
}

/// The caller's own id for the request, or a new one.
fn request_id(parts: &Parts) -> HeaderValue {
    if let Some(id) = parts.headers.get(respond::AUDIT_ID).filter(|id| id.len() <= 64) {
        return id.clone();
    }
    let id = crate::random_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut [0; 36])).expect("a UUID is ASCII")
}

async fn answer(server: &Arc<Shared>, caller: &Caller, parts: &Parts, body: Body) -> Response<Body> {
    let begun = Instant::now();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let long = info.is_long_running();
    let mutating = !matches!(info.verb, "get" | "list" | "watch" | "head");
    let mut classified = None;
    let work = async {
        let user = identify(server, caller, parts).await?;
        let user = impersonate(&*server.authorizer, &parts.headers, user).await?;
        let _serving = (!long).then(|| server.metrics.serving(mutating));
        // Watches wait for their beginning only; other streams are as long as their clients want.
        let admitted = match !long || info.verb == "watch" {
            true => server.flow_control.admit(server, &info, &query, &user).await,
            false => None,
        };
        let (class, _seat) = match admitted {
            None => (None, None),
            Some(Admitted { class, seat: Ok(seat) }) => (Some(class), Some(seat)),
            Some(Admitted {
                class,
                seat: Err(after),
            }) => {
                classified = Some(class);
                return Ok(flowcontrol::refusal(after));
            }
        };
        classified = class;
        authorize(server, &info, &query, &user).await?;
        route::dispatch(
            route::Route {
                server,
                user: &user,
                parts,
                info: &info,
                query: &query,
            },
            body,
        )
        .await
    };
    let result = match long {
        true => work.await,
        false => tokio::time::timeout(TIMEOUT, work)
            .await
            .unwrap_or_else(|_| Err(timed_out())),
    };
    let mut response = result.unwrap_or_else(|status| respond::status(&status, accept(parts)));
    if let Some(class) = classified {
        class.mark(response.headers_mut());
    }
    server.metrics.finished(
        &info,
        route::target(server, &info),
        response.status().as_u16(),
        (!long).then(|| begun.elapsed()),
    );
    match caller {
        Caller::Connection { loopback: false, .. } if asks_gzip(parts) => compress::gzip(response),
        _ => response,
    }
}

fn accept(parts: &Parts) -> Option<&str> {
    parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok())
}

fn asks_gzip(parts: &Parts) -> bool {
    takes_gzip(parts.headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()))
}

fn timed_out() -> Status {
    Status::timeout("request did not complete within the allotted timeout", 0)
}

async fn identify(server: &Shared, caller: &Caller, parts: &Parts) -> Result<Arc<UserInfo>, Status> {
    match caller {
        Caller::Internal(user) => Ok(user.clone()),
        Caller::Connection { certified, .. } => authenticate(certified, &parts.headers, server.tokens.as_deref()).await,
    }
}

/// Asks the authorizer; these paths are open to everyone, as Kubernetes' `--authorization-always-allow-paths` has it.
async fn authorize(server: &Shared, info: &RequestInfo<'_>, query: &Query<'_>, user: &UserInfo) -> Result<(), Status> {
    if !info.is_resource && matches!(info.path, "/healthz" | "/livez" | "/readyz") {
        return Ok(());
    }
    let attributes = Attributes {
        user,
        verb: info.verb,
        namespace: &info.namespace,
        group: info.group,
        version: info.version,
        resource: info.resource,
        subresource: info.subresource,
        name: &info.name,
        field_selector: query.get("fieldSelector").unwrap_or_default(),
        path: info.path,
        is_resource: info.is_resource,
    };
    if user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    match server.authorizer.authorize(&attributes).await {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&attributes, &reason)),
    }
}

/// 403 as Kubernetes words it.
pub(crate) fn forbidden(a: &Attributes<'_>, reason: &str) -> Status {
    let user = &a.user.username;
    let mut message = match (a.is_resource, a.namespace) {
        (false, _) => format!("User {user:?} cannot {} path {:?}", a.verb, a.path),
        (true, namespace) => {
            let resource = match a.subresource {
                "" => a.resource.to_owned(),
                sub => format!("{}/{sub}", a.resource),
            };
            let place = match namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}",
                a.verb, a.group
            )
        }
    };
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    Status::forbidden(&GroupResource::new(a.group, a.resource), a.name, &message)
}
