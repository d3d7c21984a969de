//! NodeRestriction: an agent changes its own Node, its own pods and its own lease; what the node authorizer cannot see
//! because it stands in the object.

use api::{Object, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::authz::node::node_name;
use crate::registry::resource::{Operation, Resource};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels by which administrators keep workloads off nodes that might be compromised.
const PROTECTED_LABELS: &str = "node-restriction.kubernetes.io/";

pub(super) struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, _operation: &Operation<'_>, resource: &Resource, _subresource: Option<&str>) -> bool {
        ["pods", "nodes"].iter().any(|plural| is_core(resource, plural)) || resource.plural == "leases"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(node) = node_name(request.user) else {
            return Ok(());
        };
        match refusal(node, request) {
            Some(why) => Err(request.forbidden(&why)),
            None => Ok(()),
        }
    }
}

fn refusal(node: &str, request: &AdmissionRequest<'_>) -> Option<String> {
    let new = request.object.as_deref();
    match &*request.resource.plural {
        "pods" => pod_refusal(node, request, new),
        "nodes" => node_refusal(node, request, new),
        _ => {
            let name = new.map(Object::name).unwrap_or(request.name);
            (name != node).then(|| "can only access node lease with the same name as the requesting node".to_owned())
        }
    }
}

fn pod_refusal(node: &str, request: &AdmissionRequest<'_>, new: Option<&Object>) -> Option<String> {
    let is_here = |pod: &Object| pod.str_at("spec.nodeName") == Some(node);
    match (&request.operation, request.subresource) {
        (Operation::Create, None) => {
            let pod = new?;
            if pod.annotation(MIRROR).is_none() {
                return Some(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            (!is_here(pod)).then(|| format!("node {node:?} can only create pods with spec.nodeName set to itself"))
        }
        (Operation::Delete { old }, _) => {
            (!is_here(old)).then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        (Operation::UpdateStatus { old }, _) => (!is_here(old))
            .then(|| format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")),
        (Operation::Create | Operation::Update { .. }, Some("eviction")) => request
            .old
            .filter(|pod| !is_here(pod))
            .map(|_| format!("node {node} can only evict pods with spec.nodeName set to itself")),
        (_, subresource) => Some(format!("unexpected subresource {:?}", subresource.unwrap_or_default())),
    }
}

fn node_refusal(node: &str, request: &AdmissionRequest<'_>, new: Option<&Object>) -> Option<String> {
    let name = new.map(Object::name).unwrap_or(request.name);
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let (old, new) = (request.old, new?);
    let changed = |key: &&str| old.and_then(|o| o.label(key)) != new.label(key);
    let all = old
        .into_iter()
        .chain([new])
        .flat_map(|o| o.labels().map(|(key, _)| key).collect::<Vec<_>>());
    let mut touched: Vec<&str> = all
        .filter(|key| key.contains(PROTECTED_LABELS))
        .filter(changed)
        .collect();
    touched.sort_unstable();
    touched.dedup();
    if !touched.is_empty() {
        return Some(format!("is not allowed to modify labels: {}", touched.join(", ")));
    }
    let taints_differ = old.is_some_and(|old| old.at("spec.taints") != new.at("spec.taints"));
    (matches!(request.operation, Operation::Update { .. }) && taints_differ)
        .then(|| format!("node {node:?} is not allowed to modify taints"))
}
