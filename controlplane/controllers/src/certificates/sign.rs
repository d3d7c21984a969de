//! Signs what is approved for the built-in signers, or says in the condition `Failed` why not.

use std::sync::Arc;

use api::{NamespacedName, Object, time::rfc3339};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{
    Error, Informer, OptionalExt, kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use super::{
    FAILED, Request, add_condition,
    authority::Authority,
    request::{Parsed, judge},
    requests,
};
use crate::{Context, RESYNC};

/// What becomes of an approved request.
enum Plan {
    /// It is another signer's.
    Leave,
    Fail(String),
    Sign(Box<Parsed>),
}

fn plan(request: &Object) -> Plan {
    let signer = request.str_at("spec.signerName").unwrap_or_default();
    let Some(parsed) = Parsed::of(request) else {
        return Plan::Leave;
    };
    match judge(signer, &parsed) {
        None => Plan::Leave,
        Some(Err(why)) => Plan::Fail(why),
        Some(Ok(())) => Plan::Sign(Box::new(parsed)),
    }
}

pub(crate) async fn run(context: Context) {
    let Some(authority) = context.config.authority.clone() else {
        return;
    };
    let requests = requests(&context).await;
    let triggers = vec![reconcile::on_change(&requests), reconcile::every(RESYNC, &requests)];
    match reconcile::keyed("csrsigning", 2, triggers, |key| {
        sign(&context, &authority, &requests, key)
    })
    .await {}
}

async fn sign(
    context: &Context,
    authority: &Arc<Authority>,
    requests: &Informer<Request>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let due = |request: &Request| request.is_due() && request.spec.signer_name.starts_with("kubernetes.io/");
    if !requests.get(&key).is_some_and(|request| due(&request)) {
        return Ok(Action::Done);
    }
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let Some(mut live): Option<Object> = context.client.get_opt(kind, &key).await? else {
        return Ok(Action::Done);
    };
    if !is_due(&live) {
        return Ok(Action::Done);
    }
    let now = context.config.clock.now();
    match plan(&live) {
        Plan::Leave => return Ok(Action::Done),
        Plan::Fail(why) => add_condition(
            &mut live,
            json!({"type": FAILED, "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": rfc3339(now)}),
        ),
        Plan::Sign(parsed) => {
            let seconds = live.i64_at("spec.expirationSeconds");
            match authority.sign(&parsed, seconds, now, rand::random()) {
                Ok(pem) => live.set("status.certificate", STANDARD.encode(pem)),
                Err(error) => {
                    tracing::error!(request = %key, error = &error as &dyn std::error::Error, "cannot sign");
                    return Ok(Action::After(RESYNC));
                }
            }
        }
    }
    if let Some(written) = context.client.replace(kind, &live, Some("status")).await.optional()? {
        requests.wait_written(&written).await;
    }
    Ok(Action::Done)
}

fn is_due(live: &Object) -> bool {
    serde_json::from_value(Value::Object(live.map().clone())).is_ok_and(|request: Request| request.is_due())
}

#[cfg(test)]
mod tests;
