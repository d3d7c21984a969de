//! The node authorizer: what an agent may do as `system:node:NAME`. The rules are those of the ClusterRole `system:node`,
//! narrowed to what concerns the node: secrets and configmaps only by name, its own lease. What depends on the body (its
//! own Node, its own pods) is the NodeRestriction plugin's.
//!
//! Deliberately absent: whether a pod on the node uses the named secret. It needs an index of pods that the server does
//! not keep; the token endpoint, whose answer is worth more, does check its pod.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::authn::UserInfo;
use crate::bootstrap::policy;

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| policy::cluster_role_rules("system:node"));

/// The name of the node that a user is, if it is one.
pub(crate) fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.username.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == GROUP).then_some(name)
}

pub(super) struct Nodes;

#[async_trait]
impl Authorizer for Nodes {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let Some(node) = node_name(a.user) else {
            return Decision::NoOpinion(String::new());
        };
        if !RULES.iter().any(|rule| rule.allows(a)) {
            return Decision::NoOpinion(String::new());
        }
        match refusal(node, a) {
            Some(reason) => Decision::NoOpinion(reason),
            None => Decision::Allow,
        }
    }

    fn rules(&self, user: &UserInfo, _namespace: &str) -> Vec<Rule> {
        if node_name(user).is_some() {
            RULES.clone()
        } else {
            Vec::new()
        }
    }
}

fn refusal(node: &str, a: &Attributes<'_>) -> Option<String> {
    match (a.group, a.resource) {
        ("", "secrets" | "configmaps") if a.name.is_empty() => {
            Some(format!("node '{node}' can only read {} by name", a.resource))
        }
        ("coordination.k8s.io", "leases") if a.namespace != "kube-node-lease" => {
            Some("can only access leases in the \"kube-node-lease\" system namespace".to_owned())
        }
        ("coordination.k8s.io", "leases") if a.verb != "create" && a.name != node => {
            Some("can only access node lease with the same name as the requesting node".to_owned())
        }
        ("", "nodes") if matches!(a.verb, "update" | "patch") && a.name != node => {
            Some(format!("node {node:?} cannot modify node {:?}", a.name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn decide(verb: &str, group: &str, resource: &str, name: &str, namespace: &str) -> Decision {
        let user = UserInfo {
            username: "system:node:n1".to_owned(),
            groups: vec![GROUP.to_owned()],
            ..UserInfo::default()
        };
        let a = Attributes {
            user: &user,
            verb,
            namespace,
            group,
            version: "v1",
            resource,
            subresource: "",
            name,
            path: "",
            is_resource: true,
        };
        Nodes.authorize(&a).await
    }

    #[tokio::test]
    async fn a_node_reads_by_name_and_writes_its_own() {
        let allowed = |decision: Decision| decision == Decision::Allow;
        assert!(allowed(decide("get", "", "secrets", "s", "a").await));
        assert!(!allowed(decide("list", "", "secrets", "", "a").await));
        assert!(!allowed(decide("delete", "", "secrets", "s", "a").await));
        assert!(allowed(decide("patch", "", "nodes", "n1", "").await));
        assert!(!allowed(decide("patch", "", "nodes", "n2", "").await));
        assert!(allowed(
            decide("update", "coordination.k8s.io", "leases", "n1", "kube-node-lease").await
        ));
        assert!(!allowed(
            decide("update", "coordination.k8s.io", "leases", "n2", "kube-node-lease").await
        ));
        assert!(!allowed(
            decide("update", "coordination.k8s.io", "leases", "n1", "a").await
        ));
        assert!(!allowed(decide("get", "apps", "deployments", "d", "a").await));
    }

    #[tokio::test]
    async fn only_members_of_the_group_are_nodes() {
        let user = UserInfo {
            username: "system:node:n1".to_owned(),
            ..UserInfo::default()
        };
        assert_eq!(node_name(&user), None);
    }
}
