//! Approves kubelets' requests for client certificates, where RBAC lets whoever asks have one: for itself (a renewal), or
//! for any node (a kubelet that joins).

use std::time::Duration;

use api::{NamespacedName, Object};
use client::{
    Error, Informer, OptionalExt, kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use super::{
    APPROVED, KUBELET_CLIENT, Request, add_condition,
    request::{Parsed, kubelet_client},
    requests,
};
use crate::{Context, RESYNC};

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
    let open = |request: &Request| request.is_undecided() && *request.spec.signer_name == *KUBELET_CLIENT;
    if !requests.get(&key).is_some_and(|request| open(&request)) {
        return Ok(Action::Done);
    }
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let Some(mut live): Option<Object> = context.client.get_opt(kind, &key).await? else {
        return Ok(Action::Done);
    };
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
        let condition = json!({"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": claim.message});
        add_condition(&mut live, condition);
        // Whoever decides in between wins: the write is refused as a conflict, and tried on what there is then.
        if let Some(written) = context.client.replace(kind, &live, Some("approval")).await.optional()? {
            requests.wait_written(&written).await;
        }
        return Ok(Action::Done);
    }
    Ok(if claims.is_empty() {
        Action::Done
    } else {
        Action::After(AGAIN)
    })
}
