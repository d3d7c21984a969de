//! Endpoints that no stored object answers: reviews, token requests, logs, bindings, evictions.
//!
//! A [`Virtual`] is injected with its [`VirtualRoute`]; authentication and authorization have happened before it is
//! called, the request body is unread.

use std::sync::Arc;

use api::time::Timestamp;
use api::{Object, Status};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::reader::Reader;
use crate::authn::UserInfo;
use crate::http::accept;
use crate::http::body::Body;

pub type Request = http::Request<Body>;
pub type Response = http::Response<Body>;

/// What a virtual handler knows about its request.
pub struct VirtualContext {
    pub user: Arc<UserInfo>,
    pub now: Timestamp,
    /// The RBAC verb, e.g. `create` or `get`.
    pub verb: &'static str,
    /// `None` for cluster-scoped routes, and where a list or watch is of every namespace.
    pub namespace: Option<String>,
    /// Empty when the route names a collection.
    pub name: String,
    pub dry_run: bool,
    pub reader: Arc<dyn Reader>,
    /// Cancelled when answers that last are to end.
    pub ending: CancellationToken,
}

/// Answers one route.
#[async_trait]
pub trait Virtual: Send + Sync + 'static {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status>;

    /// The part of an object, as resource and subresource, that the route is another way to: the body names the object, and
    /// the part answers in place of this.
    fn stands_for(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// What kubectl also calls a kind of its own.
    fn short_names(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The name of an OpenAPI definition and its JSON schema.
pub type Definition = (&'static str, fn() -> serde_json::Value);

/// How users' admission sees the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// Not at all, as Kubernetes has it for reviews.
    Unseen,
    /// As the creation of what is sent.
    Create,
    /// As a connection, by the options in the query.
    Connect,
}

/// Where a [`Virtual`] stands, and how discovery shows it.
#[derive(Clone)]
pub struct VirtualRoute {
    pub group: &'static str,
    pub version: &'static str,
    /// Plural, e.g. `serviceaccounts`.
    pub resource: &'static str,
    /// e.g. `token`; `None` for a kind of its own, e.g. `tokenreviews`.
    pub subresource: Option<&'static str>,
    pub namespaced: bool,
    /// Of the object that the route takes and returns.
    pub kind: &'static str,
    /// Of that kind, where it is not the route's own, e.g. `authentication.k8s.io`, `v1`.
    pub kind_group_version: Option<(&'static str, &'static str)>,
    /// Its OpenAPI schema, if it is an API object.
    pub definition: Option<Definition>,
    pub verbs: &'static [&'static str],
    /// How users' admission sees its requests.
    pub passing: Passing,
    pub handler: Arc<dyn Virtual>,
}

/// The shape in which a caller wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole,
    Metadata,
    Table,
}

/// What shape the headers of a request ask for.
pub fn shape(headers: &http::HeaderMap) -> Result<Shape, Status> {
    let accepted = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    Ok(match accept::negotiate(accepted, || true)?.form {
        accept::Form::Object => Shape::Whole,
        accept::Form::Metadata => Shape::Metadata,
        accept::Form::Table => Shape::Table,
    })
}

/// Reads and decodes a JSON or YAML request body of at most the server's limit, without a schema.
pub async fn read_object(request: Request) -> Result<Object, Status> {
    crate::http::decode::object(request).await
}

/// Answers with an object as JSON.
pub fn reply(code: http::StatusCode, object: &Object) -> Response {
    crate::http::respond::json(code, object.to_vec())
}
