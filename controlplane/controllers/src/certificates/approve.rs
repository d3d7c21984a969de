//! Approves kubelets' requests for client certificates, where RBAC lets whoever asks have one: for itself (a renewal), or
//! for any node (a kubelet that joins).
//!
//! Kubernetes leaves requests for serving certificates to administrators, since nothing proves that an address is the
//! node's: what a Node says of itself is no proof. Of the node in this very process it is known, and only that one's are
//! approved.

use std::time::Duration;

use api::{NamespacedName, Object};
use client::{
    Error, Informer, OptionalExt, kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use super::{
    APPROVED, KUBELET_CLIENT, KUBELET_SERVING, Request, add_condition,
    request::{AltName, Parsed, kubelet_client, kubelet_serving},
    requests,
};
use crate::{Context, OwnNode, RESYNC};

/// When a kubelet that may not yet is asked about again.
const AGAIN: Duration = Duration::from_secs(30);

/// A reason to approve, if the review allows it.
struct Claim {
    subresource: &'static str,
    message: &'static str,
}

const ITSELF: Claim = Claim {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const ANY_NODE: Claim = Claim {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// What a request could be approved for.
fn claims(request: &Object) -> Vec<Claim> {
    if request.str_at("spec.signerName") != Some(KUBELET_CLIENT) {
        return Vec::new();
    }
    let Some(parsed) = Parsed::of(request).filter(|parsed| kubelet_client(parsed).is_ok()) else {
        return Vec::new();
    };
    match request.str_at("spec.username") == Some(&parsed.common_name) {
        true => vec![ITSELF, ANY_NODE],
        false => vec![ANY_NODE],
    }
}

const OWN_NODE: &str =
    "Approving the serving certificate of the control plane's own node: its name and addresses are known.";

/// Whether a request is the own node's, for nothing but its name and addresses.
fn is_own_serving(request: &Object, own: &OwnNode) -> bool {
    if request.str_at("spec.signerName") != Some(KUBELET_SERVING) {
        return false;
    }
    let Some(parsed) = Parsed::of(request).filter(|parsed| kubelet_serving(parsed).is_ok()) else {
        return false;
    };
    let is_own = |name: &AltName| match name {
        AltName::Dns(name) => *name == own.name,
        AltName::Ip(address) => own.addresses.contains(address),
        AltName::Email(_) | AltName::Uri(_) => false,
    };
    let user = format!("system:node:{}", own.name);
    parsed.common_name == user && request.str_at("spec.username") == Some(&*user) && parsed.names.iter().all(is_own)
}

/// Asks whether who made the request may have it for that reason.
fn review(request: &Object, claim: &Claim) -> Value {
    let field = |path: &str| request.at(path).cloned().unwrap_or_default();
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": field("spec.username"), "uid": field("spec.uid"), "groups": field("spec.groups"),
        "extra": field("spec.extra"), "resourceAttributes": {"group": "certificates.k8s.io", "verb": "create",
            "resource": "certificatesigningrequests", "subresource": claim.subresource}}})
}

pub(crate) async fn run(context: Context) {
    let requests = requests(&context).await;
    let triggers = vec![reconcile::on_change(&requests), reconcile::every(RESYNC, &requests)];
    match reconcile::keyed("csrapproving", 2, triggers, |key| approve(&context, &requests, key)).await {}
}

async fn approve(context: &Context, requests: &Informer<Request>, key: NamespacedName) -> Result<Action, Error> {
    let signers = [KUBELET_CLIENT, KUBELET_SERVING];
    let open = |request: &Request| request.is_undecided() && signers.contains(&&*request.spec.signer_name);
    if !requests.get(&key).is_some_and(|request| open(&request)) {
        return Ok(Action::Done);
    }
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let Some(live): Option<Object> = context.client.get_opt(kind, &key).await? else {
        return Ok(Action::Done);
    };
    if context
        .config
        .own_node
        .as_ref()
        .is_some_and(|own| is_own_serving(&live, own))
    {
        return decide(context, requests, live, OWN_NODE).await;
    }
    let claims = claims(&live);
    for claim in &claims {
        let review = review(&live, claim);
        let answer = context
            .client
            .create(&kinds::SUBJECT_ACCESS_REVIEW, None, &review)
            .await?;
        if answer.bool_at("status.allowed") != Some(true) {
            continue;
        }
        return decide(context, requests, live, claim.message).await;
    }
    Ok(if claims.is_empty() {
        Action::Done
    } else {
        Action::After(AGAIN)
    })
}

async fn decide(
    context: &Context,
    requests: &Informer<Request>,
    mut live: Object,
    message: &str,
) -> Result<Action, Error> {
    let condition = json!({"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": message});
    add_condition(&mut live, condition);
    // Whoever decides in between wins: the write is refused as a conflict, and tried on what there is then.
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    if let Some(written) = context.client.replace(kind, &live, Some("approval")).await.optional()? {
        requests.wait_written(&written).await;
    }
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn request(user: &str, common_name: &str, names: &[&str]) -> Object {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        let pem = params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let spec = json!({"request": STANDARD.encode(pem), "signerName": KUBELET_SERVING, "username": user,
            "usages": ["digital signature", "server auth"]});
        Object::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_the_own_nodes_serving_certificate_is_approved() {
        let own = OwnNode {
            name: "n1".to_owned(),
            addresses: vec!["10.0.0.7".parse().unwrap()],
        };
        let node = "system:node:n1";
        for (user, common_name, names, expected) in [
            (node, node, &["n1", "10.0.0.7"][..], true),
            (node, node, &["n1"], true),
            (node, node, &["n1", "10.0.0.8"], false),
            (node, node, &["n1", "kubernetes.default.svc"], false),
            (node, node, &[], false),
            ("system:node:n2", "system:node:n2", &["n1"], false),
            ("system:node:n2", node, &["n1"], false),
            (node, "system:node:n2", &["n1"], false),
        ] {
            let request = request(user, common_name, names);
            assert_eq!(
                is_own_serving(&request, &own),
                expected,
                "{user} {common_name} {names:?}"
            );
        }
    }
}
