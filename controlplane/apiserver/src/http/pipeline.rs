//! The request path, in order: request info, authentication, impersonation, priority and fairness, authorization, then the verb; around it
//! the request id, the timeout, the metrics, and a net that catches panics.
//!
//! Authorization is decided before the body is read. Plain functions, so that a request costs no more than its work.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use api::Status;
use api::names::GroupResource;
use futures::FutureExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use tracing::Instrument;

use super::accept::takes_gzip;
use super::body::Body;
use super::info::RequestInfo;
use super::query::Query;
use super::{compress, respond, route};
use crate::audit::{Entry, annotations};
use crate::authn::{Certified, MASTERS, UserInfo, authenticate};
use crate::authz::impersonate::impersonate;
use crate::authz::{Attributes, Decision};
use crate::flowcontrol::{self, Admitted, Class};
use crate::images;
use crate::server::Shared;
use crate::sessions::Holder;

/// How long a request may take, watches and streams excepted; as Kubernetes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Connection {
        certified: Certified,
        loopback: bool,
        /// The peer's address.
        peer: Option<IpAddr>,
    },
    /// A caller in this process, known by construction.
    Internal(Arc<UserInfo>),
}

impl Caller {
    /// Where the caller is.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Caller::Connection { peer, .. } => *peer,
            Caller::Internal(_) => Some(Ipv4Addr::LOCALHOST.into()),
        }
    }
}

/// Answers one request; never fails and never panics.
pub(crate) async fn handle(server: Arc<Shared>, caller: Caller, request: Request<Body>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    if images::is_registry(parts.uri.path()) {
        images::unwrap_password(&mut parts.headers);
    }
    let id = request_id(&parts);
    let span = tracing::debug_span!("request", method = %parts.method, uri = %parts.uri, id = ?id);
    let work = AssertUnwindSafe(answer(&server, &caller, &parts, &id, body))
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

async fn answer(server: &Arc<Shared>, caller: &Caller, parts: &Parts, id: &HeaderValue, body: Body) -> Response<Body> {
    if let Some(page) = server.pages.as_ref().and_then(|pages| pages(parts)) {
        return page.map(Body::from);
    }
    let begun = Instant::now();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let long = info.is_long_running();
    let (audited, classified) = (OnceLock::new(), OnceLock::new());
    let asked = (parts, &info, &query);
    let work = async {
        let user = identify(server, caller, parts).await;
        let Some(audit) = &server.audit else {
            return serve(server, asked, user?, None, &classified, body).await;
        };
        let id = id.to_str().unwrap_or_default();
        let user = user.inspect_err(|_| audit.unauthenticated(id, parts, &info, caller.address()))?;
        match audit.begin(id, parts, &info, &user, caller.address()) {
            None => serve(server, asked, user, None, &classified, body).await,
            Some(entry) => {
                let entry = audited.get_or_init(|| entry);
                let served = serve(server, asked, user, Some(entry), &classified, body);
                entry.annotations().scope(served).await
            }
        }
    };
    let result = match long {
        true => work.await,
        false => tokio::time::timeout(TIMEOUT, work)
            .await
            .unwrap_or_else(|_| Err(timed_out())),
    };
    let mut response = result.unwrap_or_else(|status| match images::is_registry(info.path) {
        true => images::refusal(&status, info.path),
        false => respond::status(&status, accept(parts)),
    });
    if let Some(class) = classified.get() {
        class.mark(response.headers_mut());
    }
    if let Some(entry) = audited.into_inner() {
        response = entry.answered(long, response);
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

/// What comes after it is known who asks. `classified` is told how the request was classified.
async fn serve(
    server: &Arc<Shared>,
    (parts, info, query): (&Parts, &RequestInfo<'_>, &Query<'_>),
    caller: Arc<UserInfo>,
    audited: Option<&Entry>,
    classified: &OnceLock<Class>,
    body: Body,
) -> Result<Response<Body>, Status> {
    let user = impersonate(&*server.authorizer, &parts.headers, caller.clone()).await?;
    if let Some(entry) = audited.filter(|_| !Arc::ptr_eq(&user, &caller)) {
        entry.impersonates(&user);
    }
    if images::is_registry(info.path) && images::is_anybody(&user.username) {
        return Err(Status::unauthorized());
    }
    let long = info.is_long_running();
    let mutating = !matches!(info.verb, "get" | "list" | "watch" | "head");
    let _serving = (!long).then(|| server.metrics.serving(mutating));
    // Watches wait for their beginning only; other streams are as long as their clients want.
    let admitted = match !long || info.verb == "watch" {
        true => server.flow_control.admit(server, info, query, &user).await,
        false => None,
    };
    let seat = match admitted {
        None => None,
        Some(Admitted { class, seat }) => {
            let _ = classified.set(class);
            match seat {
                Ok(seat) => Some(seat),
                Err(after) => return Ok(flowcontrol::refusal(after)),
            }
        }
    };
    authorize(server, info, query, &user).await?;
    let body = match audited {
        // What another server answers is a stream that nobody here reads.
        Some(entry) if server.aggregator.remote(info.group, info.version).is_none() => {
            entry.request(info, &parts.headers, body).await?
        }
        _ => body,
    };
    let route = route::Route {
        server,
        user: &user,
        parts,
        info,
        query,
        admitted: false,
    };
    let response = route::dispatch(route, body).await?;
    // A list is work until it has been sent; what else there is has been done.
    Ok(match seat.filter(|_| info.verb == "list") {
        Some(seat) => response.map(|body| body.holding(server.flow_control.until_sent(seat))),
        None => response,
    })
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
        Caller::Connection { certified, .. } => match session(server, certified, parts).await {
            Some(user) => user,
            None => {
                let may_be_anyone = || server.outside.admits_anonymous(parts.uri.path());
                authenticate(certified, &parts.headers, server.tokens.as_deref(), may_be_anyone).await
            }
        },
    }
}

/// Who the dashboard's cookie says is asking; other credentials go before it. A cookie that has ended says nobody.
async fn session(server: &Shared, certified: &Certified, parts: &Parts) -> Option<Result<Arc<UserInfo>, Status>> {
    if matches!(certified, Certified::As(_)) || parts.headers.contains_key(AUTHORIZATION) {
        return None;
    }
    match server.sessions.as_ref()?.holder(parts, server.now())? {
        Holder::User(person) => Some(Ok(Arc::new(person.into()))),
        Holder::Token(token) => match server.tokens.as_ref()?.authenticate(&token).await {
            Ok(user) => user.map(|user| Ok(Arc::new(user))),
            Err(status) => Some(Err(status)),
        },
    }
}

/// Asks whether the user may do to what is asked about something else besides.
pub(super) async fn authorize_also(
    server: &Shared,
    info: &RequestInfo<'_>,
    query: &Query<'_>,
    user: &UserInfo,
    verb: &'static str,
) -> Result<(), Status> {
    let info = RequestInfo {
        verb,
        namespace: Cow::Borrowed(&*info.namespace),
        name: Cow::Borrowed(&*info.name),
        ..*info
    };
    authorize(server, &info, query, user).await
}

/// Asks the authorizer; these paths are open to everyone, as Kubernetes' `--authorization-always-allow-paths` has it, and
/// that there is a registry is told everybody who is known.
async fn authorize(server: &Shared, info: &RequestInfo<'_>, query: &Query<'_>, user: &UserInfo) -> Result<(), Status> {
    if !info.is_resource && (matches!(info.path, "/healthz" | "/livez" | "/readyz") || images::is_root(info.path)) {
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
        decided("allow", "");
        return Ok(());
    }
    match server.authorizer.authorize(&attributes).await {
        Decision::Allow => {
            decided("allow", "");
            Ok(())
        }
        Decision::Failed { why, .. } => {
            annotations::add("authorization.k8s.io/reason", || "internal error".to_owned());
            Err(Status::internal(&why))
        }
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            decided("forbid", &reason);
            Err(forbidden(&attributes, &reason))
        }
    }
}

/// Says to the audit log what was decided.
fn decided(decision: &str, reason: &str) {
    annotations::add("authorization.k8s.io/decision", || decision.to_owned());
    annotations::add("authorization.k8s.io/reason", || reason.to_owned());
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
