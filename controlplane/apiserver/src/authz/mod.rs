//! Authorization: may this user do that? Asked before the request body is read.
//!
//! The chain: administrators, then the node authorizer, then RBAC. The first to allow decides; nobody refuses outright.

pub(crate) mod impersonate;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod review;
pub(crate) mod rule;

use std::sync::Arc;

use async_trait::async_trait;

use crate::authn::{MASTERS, UserInfo};
use crate::registry::Deps;
use crate::registry::virtuals::VirtualRoute;
use rule::Rule;

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
    /// The field selector of a list or watch, as the request wrote it.
    pub field_selector: &'a str,
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

    /// The rules that hold for a user in a namespace, for reviews and for the check against escalation.
    fn rules(&self, _user: &UserInfo, _namespace: &str) -> Vec<Rule> {
        Vec::new()
    }
}

/// The authorizers of a cluster, in their order.
struct Chain(Vec<Box<dyn Authorizer>>);

#[async_trait]
impl Authorizer for Chain {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.0
            .iter()
            .flat_map(|authorizer| authorizer.rules(user, namespace))
            .collect()
    }
}

/// Members of `system:masters` may do everything.
struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match attributes.user.groups.iter().any(|group| group == MASTERS) {
            true => Decision::Allow,
            false => Decision::NoOpinion(String::new()),
        }
    }

    fn rules(&self, user: &UserInfo, _namespace: &str) -> Vec<Rule> {
        match user.groups.iter().any(|group| group == MASTERS) {
            true => Rule::everything().to_vec(),
            false => Vec::new(),
        }
    }
}

/// The authorizer of a cluster.
pub fn authorizer(deps: &Deps) -> Arc<dyn Authorizer> {
    let rbac = rbac::Rbac::new(deps.reader.clone());
    Arc::new(Chain(vec![
        Box::new(Masters),
        Box::new(node::Nodes::new(deps.reader.clone())),
        Box::new(rbac),
    ]))
}

/// The reviews of `authorization.k8s.io`, answered by `authorizer`.
pub fn virtuals(authorizer: Arc<dyn Authorizer>) -> Vec<VirtualRoute> {
    review::routes(authorizer)
}
