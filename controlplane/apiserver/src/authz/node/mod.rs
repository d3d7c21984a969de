//! The node authorizer: what an agent may do as `system:node:NAME`. The rules are those of the ClusterRole `system:node`,
//! narrowed to what concerns the node: its own Node, CSINode and lease, the pods bound to it, the attachments of volumes to it, and
//! the Secrets, ConfigMaps and images of the cluster's own registry that those pods, or their volumes, name ([`graph`]). What depends on the body of a write (its own Node, its own pods) is the NodeRestriction
//! plugin's.

mod graph;
mod references;
mod volumes;

use std::sync::{Arc, LazyLock};

use api::GroupResource;
use async_trait::async_trait;

use super::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::authn::UserInfo;
use crate::bootstrap::policy;
use crate::images;
use crate::registry::reader::Reader;
use graph::Graph;
use references::Source;

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| policy::cluster_role_rules("system:node"));

/// The name of the node that a user is, if it is one.
pub(crate) fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.username.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == GROUP).then_some(name)
}

pub(super) struct Nodes {
    reader: Arc<dyn Reader>,
    graph: Graph,
}

impl Nodes {
    pub(super) fn new(reader: Arc<dyn Reader>) -> Self {
        Nodes {
            graph: Graph::new(reader.clone()),
            reader,
        }
    }

    /// Why a request that the rules allow is not the node's to make.
    async fn refusal(&self, node: &str, a: &Attributes<'_>) -> Option<String> {
        match (a.group, a.resource, a.subresource) {
            ("", "secrets", "") => self.foreign_secret(node, a).await,
            ("", "configmaps", "") => self.unrelated(node, Source::ConfigMap, a).await,
            (images::GROUP, images::RESOURCE, "") => self.foreign_image(node, a).await,
            ("", "pods", "") => self.foreign_pod(node, a).await,
            ("", "nodes", "") => foreign_node(node, a),
            ("coordination.k8s.io", "leases", _) => foreign_lease(node, a),
            ("storage.k8s.io", "csinodes", _) => foreign_csi_node(node, a),
            ("storage.k8s.io", "volumeattachments", _) => self.foreign_attachment(node, a).await,
            _ => None,
        }
    }

    async fn unrelated(&self, node: &str, source: Source, a: &Attributes<'_>) -> Option<String> {
        if a.namespace.is_empty() {
            return Some("can only read namespaced object of this type".to_owned());
        }
        if a.name.is_empty() {
            return Some("No Object name found".to_owned());
        }
        match self.graph.relates(node, source, a.namespace, a.name).await {
            Ok(true) => None,
            Ok(false) => Some(no_relationship(node)),
            Err(status) => Some(status.message),
        }
    }

    /// Of an image's name, what stands before its tag or digest is the repository.
    async fn foreign_image(&self, node: &str, a: &Attributes<'_>) -> Option<String> {
        let repository = a.name.split(['@', ':']).next().unwrap_or_default();
        let a = Attributes { name: repository, ..*a };
        self.unrelated(node, Source::Image, &a).await
    }

    /// A Secret is a pod's own affair, or that of a volume that a pod of the node has.
    async fn foreign_secret(&self, node: &str, a: &Attributes<'_>) -> Option<String> {
        let why = self.unrelated(node, Source::Secret, a).await?;
        if a.namespace.is_empty() || a.name.is_empty() {
            return Some(why);
        }
        let volumes = GroupResource::new("", "persistentvolumes");
        if let Err(status) = self.reader.fresh(&volumes).await {
            return Some(status.message);
        }
        for volume in self.reader.list(&volumes, None) {
            if !volumes::opens(&volume, a.namespace, a.name) {
                continue;
            }
            let (Some(namespace), Some(claim)) = (
                volume.str_at("spec.claimRef.namespace"),
                volume.str_at("spec.claimRef.name"),
            ) else {
                continue;
            };
            if matches!(
                self.graph.relates(node, Source::Claim, namespace, claim).await,
                Ok(true)
            ) {
                return None;
            }
        }
        Some(why)
    }

    /// A node sees by name which of its volumes are attached.
    async fn foreign_attachment(&self, node: &str, a: &Attributes<'_>) -> Option<String> {
        if a.name.is_empty() {
            return Some("No Object name found".to_owned());
        }
        let attachments = GroupResource::new("storage.k8s.io", "volumeattachments");
        let found = self.reader.get_fresh(&attachments, None, a.name).await;
        let own = found
            .ok()
            .flatten()
            .is_some_and(|found| found.str_at("spec.nodeName") == Some(node));
        (!own).then(|| no_relationship(node))
    }

    async fn foreign_pod(&self, node: &str, a: &Attributes<'_>) -> Option<String> {
        match a.verb {
            "get" => {
                let pods = GroupResource::new("", "pods");
                let bound = || self.reader.field(&pods, Some(a.namespace), a.name, "spec.nodeName");
                if bound().as_deref() == Some(node) {
                    return None;
                }
                let seen = self.reader.fresh(&pods).await;
                let here = seen.is_ok() && bound().as_deref() == Some(node);
                (!here).then(|| no_relationship(node))
            }
            "list" | "watch" => {
                let wanted = |term: &str| {
                    let value = term.strip_prefix("spec.nodeName=");
                    value.map(|value| value.strip_prefix('=').unwrap_or(value)) == Some(node)
                };
                let own = a.field_selector.split(',').any(wanted);
                (!own).then(|| "can only list/watch pods with spec.nodeName field selector".to_owned())
            }
            _ => None,
        }
    }
}

fn no_relationship(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn foreign_node(node: &str, a: &Attributes<'_>) -> Option<String> {
    match (a.verb, a.name) {
        // Whether the object written is the node's own is for admission to see.
        ("create" | "update" | "patch", _) => None,
        (_, name) if name == node => None,
        (_, "") => Some(format!("node '{node}' cannot read all nodes, only its own Node object")),
        (_, other) => Some(format!("node '{node}' cannot read '{other}', only its own Node object")),
    }
}

fn foreign_csi_node(node: &str, a: &Attributes<'_>) -> Option<String> {
    (a.verb != "create" && a.name != node)
        .then(|| "can only access CSINode with the same name as the requesting node".to_owned())
}

fn foreign_lease(node: &str, a: &Attributes<'_>) -> Option<String> {
    if a.namespace != "kube-node-lease" {
        return Some("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    (a.verb != "create" && a.name != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[async_trait]
impl Authorizer for Nodes {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let Some(node) = node_name(a.user) else {
            return Decision::NoOpinion(String::new());
        };
        if !RULES.iter().any(|rule| rule.allows(a)) {
            return Decision::NoOpinion(String::new());
        }
        match self.refusal(node, a).await {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::Fixed;

    async fn ask(verb: &str, of: &str, name: &str, namespace: &str, field_selector: &str) -> Result<(), String> {
        let bound = |name: &str, node: &str, secret: &str| {
            json!({"metadata": {"name": name, "namespace": "a"},
                "spec": {"nodeName": node, "imagePullSecrets": [{"name": secret}],
                    "containers": [{"image": format!("wherry.internal/a/{name}:1")}]}})
        };
        let claimed = |mut pod: serde_json::Value| {
            let volume = json!({"name": "d", "persistentVolumeClaim": {"claimName": "data"}});
            pod["spec"]["volumes"] = json!([volume, {"name": "own", "ephemeral": {}}]);
            pod
        };
        let volume = |name: &str, claim: &str, reference: &str| {
            json!({"metadata": {"name": name}, "spec": {
                "claimRef": {"namespace": "a", "name": claim},
                "csi": {reference: {"namespace": "vault", "name": name}}}})
        };
        let attachment = |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node}});
        let reader = Fixed::new(vec![
            ("pods", claimed(bound("mine", "n1", "s"))),
            ("pods", bound("theirs", "n2", "t")),
            ("persistentvolumes", volume("staged", "data", "nodeStageSecretRef")),
            (
                "persistentvolumes",
                volume("published", "mine-own", "nodePublishSecretRef"),
            ),
            (
                "persistentvolumes",
                volume("controllers", "data", "controllerPublishSecretRef"),
            ),
            ("persistentvolumes", volume("foreign", "other", "nodeStageSecretRef")),
            ("volumeattachments", attachment("here", "n1")),
            ("volumeattachments", attachment("there", "n2")),
        ]);
        let user = UserInfo {
            username: "system:node:n1".to_owned(),
            groups: vec![GROUP.to_owned()],
            ..UserInfo::default()
        };
        let (group, resource) = of.rsplit_once('/').unwrap_or(("", of));
        let a = Attributes {
            user: &user,
            verb,
            namespace,
            group,
            version: "v1",
            resource,
            subresource: "",
            name,
            field_selector,
            path: "",
            is_resource: true,
        };
        match Nodes::new(Arc::new(reader)).authorize(&a).await {
            Decision::Allow => Ok(()),
            refused => Err(refused.reason()),
        }
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_name_and_writes_its_own() {
        const LEASE: &str = "coordination.k8s.io/leases";
        let unrelated = Err("no relationship found between node 'n1' and this object");
        let cases = [
            ("get", "secrets", "s", "a", "", Ok(())),
            ("watch", "secrets", "s", "a", "metadata.name=s", Ok(())),
            ("get", "secrets", "t", "a", "", unrelated),
            ("get", "secrets", "s", "b", "", unrelated),
            ("get", "configmaps", "s", "a", "", unrelated),
            ("get", "registry.wherry.dev/images", "mine:1", "a", "", Ok(())),
            ("get", "registry.wherry.dev/images", "mine@sha256:00", "a", "", Ok(())),
            ("get", "registry.wherry.dev/images", "mine", "a", "", Ok(())),
            ("get", "registry.wherry.dev/images", "theirs:1", "a", "", unrelated),
            ("get", "registry.wherry.dev/images", "mine:1", "b", "", unrelated),
            ("create", "registry.wherry.dev/images", "mine:1", "a", "", Err("")),
            ("list", "secrets", "", "a", "", Err("No Object name found")),
            (
                "list",
                "secrets",
                "",
                "",
                "",
                Err("can only read namespaced object of this type"),
            ),
            ("delete", "secrets", "s", "a", "", Err("")),
            ("get", "pods", "mine", "a", "", Ok(())),
            ("get", "pods", "theirs", "a", "", unrelated),
            ("watch", "pods", "", "", "spec.nodeName=n1", Ok(())),
            ("list", "pods", "", "", "spec.nodeName==n1,status.phase=Running", Ok(())),
            (
                "list",
                "pods",
                "",
                "",
                "spec.nodeName!=n1",
                Err("can only list/watch pods with spec.nodeName field selector"),
            ),
            (
                "list",
                "pods",
                "",
                "",
                "",
                Err("can only list/watch pods with spec.nodeName field selector"),
            ),
            ("get", "nodes", "n1", "", "", Ok(())),
            (
                "get",
                "nodes",
                "n2",
                "",
                "",
                Err("node 'n1' cannot read 'n2', only its own Node object"),
            ),
            (
                "list",
                "nodes",
                "",
                "",
                "",
                Err("node 'n1' cannot read all nodes, only its own Node object"),
            ),
            ("update", LEASE, "n1", "kube-node-lease", "", Ok(())),
            (
                "update",
                LEASE,
                "n2",
                "kube-node-lease",
                "",
                Err("can only access node lease with the same name as the requesting node"),
            ),
            (
                "update",
                LEASE,
                "n1",
                "a",
                "",
                Err("can only access leases in the \"kube-node-lease\" system namespace"),
            ),
            ("get", "apps/deployments", "d", "a", "", Err("")),
            ("get", "secrets", "staged", "vault", "", Ok(())),
            ("get", "secrets", "published", "vault", "", Ok(())),
            ("get", "secrets", "controllers", "vault", "", unrelated),
            ("get", "secrets", "foreign", "vault", "", unrelated),
            ("get", "storage.k8s.io/volumeattachments", "here", "", "", Ok(())),
            ("get", "storage.k8s.io/volumeattachments", "there", "", "", unrelated),
            ("list", "storage.k8s.io/volumeattachments", "", "", "", Err("")),
            ("list", "storage.k8s.io/csidrivers", "", "", "", Ok(())),
            ("patch", "storage.k8s.io/csinodes", "n1", "", "", Ok(())),
            (
                "get",
                "storage.k8s.io/csinodes",
                "n2",
                "",
                "",
                Err("can only access CSINode with the same name as the requesting node"),
            ),
        ];
        for (verb, of, name, namespace, selector, expected) in cases {
            let found = ask(verb, of, name, namespace, selector).await;
            assert_eq!(
                found,
                expected.map_err(str::to_owned),
                "{verb} {of} {name:?} in {namespace:?} {selector}"
            );
        }
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
