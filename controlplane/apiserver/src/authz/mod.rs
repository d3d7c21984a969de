//! Authorization: may this user do that? Asked before the request body is read.
//!
//! The chain: administrators, then whom the operator has asked in the order of the configuration, which is the node
//! authorizer and RBAC where nothing else is said. The first to allow or to refuse outright decides.

pub mod config;
pub(crate) mod impersonate;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod review;
pub(crate) mod rule;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::sync::Arc;

use api::Status;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::authn::{MASTERS, UserInfo};
use crate::registry::Deps;
use crate::registry::virtuals::VirtualRoute;
use config::{Settings, Step};
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
    /// It could not be found out; whether that refuses it, whatever others say.
    Failed {
        denies: bool,
        why: String,
    },
}

impl Decision {
    /// What to answer who may not: 403 with the attributes and the reason, or that nobody knows.
    pub(crate) fn refusal(self, attributes: &Attributes<'_>) -> Option<Status> {
        match self {
            Decision::Allow => None,
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                Some(crate::http::pipeline::forbidden(attributes, &reason))
            }
            Decision::Failed { why, .. } => Some(Status::internal(&why)),
        }
    }

    /// Why somebody may not; empty where nothing is said.
    pub(crate) fn reason(self) -> String {
        match self {
            Decision::Allow => String::new(),
            Decision::Deny(reason) | Decision::NoOpinion(reason) | Decision::Failed { why: reason, .. } => reason,
        }
    }
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
#[derive(Default)]
struct Chain(Vec<Arc<dyn Authorizer>>);

#[async_trait]
impl Authorizer for Chain {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let (mut reasons, mut failures) = (Vec::new(), Vec::new());
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                Decision::Failed { denies: false, why } => failures.push(why),
                decided => return decided,
            }
        }
        match failures.as_slice() {
            [] => Decision::NoOpinion(reasons.join("\n")),
            [one] => Decision::Failed {
                denies: false,
                why: one.clone(),
            },
            several => Decision::Failed {
                denies: false,
                why: format!("[{}]", several.join(", ")),
            },
        }
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

/// Who is asked, as it changes.
pub struct Config {
    pub settings: watch::Receiver<Arc<Settings>>,
}

impl Config {
    /// That never changes.
    pub fn fixed(settings: Settings) -> Self {
        Config {
            settings: watch::channel(Arc::new(settings)).1,
        }
    }
}

/// The authorizer of a cluster: a chain that is replaced as a whole when the operator changes it.
pub(crate) struct Configured {
    node: Arc<dyn Authorizer>,
    rbac: Arc<dyn Authorizer>,
    chain: ArcSwap<Chain>,
}

impl Configured {
    pub(crate) fn new(deps: &Deps, settings: &Settings) -> Self {
        let configured = Configured {
            node: Arc::new(node::Nodes::new(deps.reader.clone())),
            rbac: Arc::new(rbac::Rbac::new(deps.reader.clone())),
            chain: ArcSwap::default(),
        };
        configured.apply(settings);
        configured
    }

    /// Takes other settings.
    pub(crate) fn apply(&self, settings: &Settings) {
        let step = |step: &Step| match step {
            Step::Node => self.node.clone(),
            Step::Rbac => self.rbac.clone(),
            Step::Webhook(webhook) => webhook.clone() as Arc<dyn Authorizer>,
        };
        let first: Arc<dyn Authorizer> = Arc::new(Masters);
        let steps = std::iter::once(first).chain(settings.0.iter().map(step));
        self.chain.store(Arc::new(Chain(steps.collect())));
    }
}

#[async_trait]
impl Authorizer for Configured {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let chain = self.chain.load_full();
        chain.authorize(attributes).await
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.chain.load().rules(user, namespace)
    }
}

/// Follows the operator's settings.
pub(crate) async fn run(
    configured: Arc<Configured>,
    mut settings: watch::Receiver<Arc<Settings>>,
    shutdown: CancellationToken,
) {
    let follow = async {
        while settings.changed().await.is_ok() {
            let now = settings.borrow_and_update().clone();
            configured.apply(&now);
            tracing::info!("the authorization configuration has been replaced");
        }
    };
    let _ = shutdown.run_until_cancelled(follow).await;
}

/// The reviews of `authorization.k8s.io`, answered by `authorizer`.
pub fn virtuals(authorizer: Arc<dyn Authorizer>) -> Vec<VirtualRoute> {
    review::routes(authorizer)
}
