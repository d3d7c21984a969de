//! Authorization: may this user do that? Asked before the request body is read.

use async_trait::async_trait;

use crate::authn::UserInfo;

/// What a request is about, as Kubernetes' `authorizer.Attributes`. Absent parts are empty.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// `get`, `list`, ... for resources; the lower-case HTTP method for other paths.
    pub verb: &'a str,
    pub namespace: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    /// The request path; what non-resource rules match.
    pub path: &'a str,
    pub is_resource: bool,
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Refused, whatever others say.
    Deny(String),
    /// Refused unless another authorizer allows it; the reason may be empty.
    NoOpinion(String),
}

/// Decides on requests.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}
