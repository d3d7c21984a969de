//! NodeRestriction: an agent changes its own Node, its own pods and what else is its own; what the node authorizer cannot
//! see because it stands in the object.

use std::collections::BTreeSet;

use api::{GroupResource, Object, Status};
use async_trait::async_trait;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{Admission, AdmissionRequest};
use crate::authz::node::node_name;
use crate::registry::resource::{Operation, Resource};
use crate::resources::certificate_request_der;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels by which administrators keep workloads off nodes that might be compromised.
const PROTECTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// Where nodes' leases are.
const LEASES: &str = "kube-node-lease";
/// Signers of nodes' certificates.
const SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];
const RESTRICTED: [(&str, &str); 7] = [
    ("", "pods"),
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("coordination.k8s.io", "leases"),
    ("storage.k8s.io", "csinodes"),
    ("resource.k8s.io", "resourceslices"),
    ("certificates.k8s.io", "certificatesigningrequests"),
];
/// Labels in Kubernetes' name that an agent may set on its node.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];
/// What volumes refer to besides the node, with what Kubernetes calls it.
const REFERENCES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

pub(super) struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, _operation: &Operation<'_>, resource: &Resource, _subresource: Option<&str>) -> bool {
        RESTRICTED.contains(&(&*resource.group, &*resource.plural))
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
    let name = new.map_or(request.name, Object::name);
    let misnamed = |what: &str| {
        (name != node).then(|| format!("can only access {what} with the same name as the requesting node"))
    };
    match &*request.resource.plural {
        "pods" => pod_refusal(node, request, new),
        "nodes" => node_refusal(node, request, new),
        "persistentvolumeclaims" => claim_refusal(node, request, new),
        "leases" if request.namespace != Some(LEASES) => {
            Some(format!("can only access leases in the {LEASES:?} system namespace"))
        }
        "leases" => misnamed("node lease"),
        "csinodes" => misnamed("CSINode"),
        "resourceslices" => slice_refusal(node, request, new),
        _ => certificate_refusal(node, request, new?),
    }
}

/// A node reports how far a claim's volume has grown, nothing else.
fn claim_refusal(node: &str, request: &AdmissionRequest<'_>, new: Option<&Object>) -> Option<String> {
    if request.subresource != Some("status") {
        return Some("may only update PVC status".to_owned());
    }
    let rest = |claim: &Object| {
        let mut claim = claim.clone();
        for field in [
            "capacity",
            "conditions",
            "allocatedResourceStatuses",
            "allocatedResources",
        ] {
            claim.remove(&format!("status.{field}"));
        }
        for field in ["resourceVersion", "managedFields"] {
            claim.remove(&format!("metadata.{field}"));
        }
        claim
    };
    (request.old.map(rest) != new.map(rest)).then(|| {
        format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions")
    })
}

fn slice_refusal(node: &str, request: &AdmissionRequest<'_>, new: Option<&Object>) -> Option<String> {
    let (slice, verb) = match request.operation {
        Operation::Create => (new?, "create"),
        Operation::Delete { old } => (old, "delete"),
        Operation::Update { .. } | Operation::UpdateStatus { .. } => return None,
    };
    (slice.str_at("spec.nodeName") != Some(node))
        .then(|| format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

fn certificate_refusal(node: &str, request: &AdmissionRequest<'_>, new: &Object) -> Option<String> {
    let signer = new.str_at("spec.signerName").unwrap_or_default();
    if !matches!(request.operation, Operation::Create) || !SIGNERS.contains(&signer) {
        return None;
    }
    let der = match certificate_request_der(new.str_at("spec.request").unwrap_or_default()) {
        Ok(der) => der,
        Err(why) => return Some(format!("unable to parse csr: {why}")),
    };
    let wanted = format!("system:node:{node}");
    let parsed = X509CertificationRequest::from_der(&der).ok();
    let subject = parsed.map(|(_, request)| request.certification_request_info.subject);
    let named = subject.is_some_and(|subject| {
        let mut names = subject.iter_common_name();
        names.next().and_then(|name| name.as_str().ok()) == Some(&wanted) && names.next().is_none()
    });
    (!named).then(|| format!("can only create a node CSR with CN={wanted}"))
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
            if !is_here(pod) {
                return Some(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ));
            }
            owner_refusal(node, request, pod).or_else(|| {
                let what = reference(pod)?;
                Some(format!("node {node:?} can not create pods that reference {what}"))
            })
        }
        (Operation::Delete { old }, _) => {
            (!is_here(old)).then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        (Operation::UpdateStatus { old }, _) if !is_here(old) => Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )),
        (Operation::UpdateStatus { old }, _) => {
            let changed = |path: &str| old.at(path) != new.and_then(|new| new.at(path));
            let kept = [
                ("metadata.labels", "labels through pod status"),
                ("status.resourceClaimStatuses", "resource claim statues"),
                ("status.extendedResourceClaimStatus", "extended resource claim status"),
            ];
            let what = kept.into_iter().find(|(path, _)| changed(path));
            what.map(|(_, what)| format!("node {node:?} cannot update {what}"))
        }
        (Operation::Create | Operation::Update { .. }, Some("eviction")) => request
            .old
            .filter(|pod| !is_here(pod))
            .map(|_| format!("node {node} can only evict pods with spec.nodeName set to itself")),
        (_, subresource) => Some(format!("unexpected subresource {:?}", subresource.unwrap_or_default())),
    }
}

/// A mirror pod is its node's.
fn owner_refusal(node: &str, request: &AdmissionRequest<'_>, pod: &Object) -> Option<String> {
    let owners = pod.list_at("metadata.ownerReferences");
    let only = |what: &str| Some(format!("node {node:?} can only create pods with {what} set to itself"));
    let owner = match owners {
        [] => return only("an owner reference"),
        [one] => one,
        _ => return only("a single owner reference"),
    };
    let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
    let flag = |field: &str| owner.get(field).and_then(Value::as_bool).unwrap_or_default();
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return only("an owner reference");
    }
    if !flag("controller") {
        return only("a controller owner reference");
    }
    if flag("blockOwnerDeletion") {
        return Some(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let known = request.reader.get(&GroupResource::new("", "nodes"), None, node);
    let uid = known.as_ref().map_or("", |node| node.uid());
    (uid.is_empty() || uid != text("uid"))
        .then(|| format!("node {node} UID mismatch: expected {} got {uid}", text("uid")))
}

/// The first thing that a pod refers to; its node would gain access to it.
fn reference(pod: &Object) -> Option<&'static str> {
    let set = |value: &Value, field: &str| value.get(field).is_some_and(|v| !v.is_null());
    if !pod.str_at("spec.serviceAccountName").unwrap_or_default().is_empty() {
        return Some("serviceaccounts");
    }
    let lists = ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"];
    let containers = || lists.iter().flat_map(|list| pod.list_at(list));
    let items = |c: &Value, field: &str| c.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let reads = |from: &str, key: &str| {
        containers().any(|c| {
            items(c, "envFrom").iter().any(|source| set(source, from))
                || items(c, "env")
                    .iter()
                    .any(|env| env.get("valueFrom").is_some_and(|value| set(value, key)))
        })
    };
    if !pod.list_at("spec.imagePullSecrets").is_empty() || reads("secretRef", "secretKeyRef") {
        return Some("secrets");
    }
    if reads("configMapRef", "configMapKeyRef") {
        return Some("configmaps");
    }
    if !pod.list_at("spec.resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    pod.list_at("spec.volumes").iter().find_map(|volume| {
        let own = REFERENCES.iter().find(|(field, _)| set(volume, field));
        let sources = volume
            .get("projected")
            .map(|projected| items(projected, "sources"))
            .unwrap_or_default();
        let projected = PROJECTED
            .iter()
            .find(|(field, _)| sources.iter().any(|source| set(source, field)));
        own.or(projected).map(|(_, what)| *what)
    })
}

/// Labels by which administrators steer workloads, and those that speak in Kubernetes' name.
fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |name: &str| domain == name || domain.ends_with(&format!(".{name}"));
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let own = OWN_LABELS.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    within(PROTECTED_DOMAIN) || kubernetes && !own
}

fn node_refusal(node: &str, request: &AdmissionRequest<'_>, new: Option<&Object>) -> Option<String> {
    let name = new.map_or(request.name, Object::name);
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let (old, new) = (request.old, new?);
    let changed = |path: &str| old.is_some_and(|old| old.at(path) != new.at(path));
    if new.at("spec.configSource").is_some_and(|source| !source.is_null())
        && old.is_none_or(|_| changed("spec.configSource"))
    {
        return Some(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    for (path, what) in [
        ("spec.taints", "taints"),
        ("metadata.ownerReferences", "ownerReferences"),
    ] {
        if changed(path) {
            return Some(format!("node {node:?} is not allowed to modify {what}"));
        }
    }
    let differs = |key: &&str| old.and_then(|old| old.label(key)) != new.label(key);
    let all = old
        .into_iter()
        .chain([new])
        .flat_map(Object::labels)
        .map(|(key, _)| key);
    let touched: BTreeSet<&str> = all.filter(differs).filter(|key| is_forbidden(key)).collect();
    let touched: Vec<&str> = touched.into_iter().collect();
    match (touched.is_empty(), old) {
        (true, _) => None,
        (false, Some(_)) => Some(format!("is not allowed to modify labels: {}", touched.join(", "))),
        (false, None) => Some(format!(
            "node {node:?} is not allowed to set the following labels: {}",
            touched.join(", ")
        )),
    }
}
