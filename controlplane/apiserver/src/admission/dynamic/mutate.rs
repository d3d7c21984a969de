//! Mutating policies: configurations and patches that expressions yield, applied to what is admitted.

use api::status::StatusCause;
use api::{Object, Status};
use schema::cel::{self, Budget};
use serde_json::Value;

use super::evaluate::Facts;
use super::policies::{Bound, Invocation, Mutation};
use super::request::Request;
use super::rounds::Rounds;

/// Lets all mutating policies change an object.
pub(crate) async fn mutate(
    policies: &[Bound],
    request: &Request<'_>,
    mut object: Option<&mut Object>,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    rounds.policies.begin(rounds.again, object.as_deref());
    let mut refusals = Vec::new();
    let mut due = Vec::new();
    for bound in policies {
        let (invocations, misfits) = bound.invocations(request, object.as_deref()).await;
        due.extend(invocations);
        for misfit in misfits.into_iter().filter(|_| bound.policy.fails_closed) {
            let binding = misfit.binding.as_ref().map(|binding| &*binding.name);
            refusals.push((refusal(&bound.policy.name, binding, &misfit.why), ""));
        }
    }
    for invocation in due {
        let key = key(&invocation);
        if !rounds.policies.is_due(rounds.again, &key) {
            continue;
        }
        let facts = facts(request, object.as_deref(), &invocation).await?;
        let scope = invocation.policy.scope(request, facts);
        let binding = Some(&*invocation.binding.name);
        let mut refuse = |why: &str| {
            if invocation.policy.fails_closed {
                refusals.push((refusal(&invocation.policy.name, binding, why), "Invalid"));
            }
        };
        match invocation.policy.applies(request, &scope).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                refuse(&why);
                continue;
            }
        }
        if let Some(object) = object.as_deref_mut() {
            let before = object.clone();
            for mutation in &invocation.policy.mutations {
                if let Err(why) = change(request, object, &invocation, mutation).await? {
                    refuse(&why);
                }
            }
            if before != *object {
                rounds.policies.changed();
                rounds.wanted = true;
            }
        }
        if invocation.policy.sees_again {
            rounds.policies.willing(&key);
        }
    }
    rounds.policies.end(object.as_deref());
    match refusals.is_empty() {
        true => Ok(()),
        false => Err(denied(request, object.as_deref(), refusals)),
    }
}

/// What tells one evaluation from others.
fn key(of: &Invocation) -> String {
    let params = of.params.as_ref();
    let params = params.map(|params| format!("{}/{}", params.namespace().unwrap_or_default(), params.name()));
    format!("{}/{}/{}", of.policy.name, of.binding.name, params.unwrap_or_default())
}

async fn facts(request: &Request<'_>, object: Option<&Object>, of: &Invocation) -> Result<Facts, Status> {
    Ok(Facts {
        params: of.params.clone(),
        ..Facts::of(request, object, &of.matched, true).await?
    })
}

fn refusal(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {why}"),
        None => format!("policy {policy:?} denied request: {why}"),
    }
}

fn denied(request: &Request<'_>, object: Option<&Object>, refusals: Vec<(String, &str)>) -> Status {
    let mut status = request.forbidden(object, "");
    if let Some((message, reason)) = refusals.first() {
        message.clone_into(&mut status.message);
        if !reason.is_empty() {
            (*reason).clone_into(&mut status.reason);
        }
    }
    let details = status.details.get_or_insert_default();
    details
        .causes
        .extend(refusals.into_iter().map(|(message, _)| StatusCause {
            message,
            ..StatusCause::default()
        }));
    status
}

/// One change. The inner error is the policy's failure, the outer one the request's.
async fn change(
    request: &Request<'_>,
    object: &mut Object,
    of: &Invocation,
    mutation: &Mutation,
) -> Result<Result<(), String>, Status> {
    // Each change sees those before it.
    let facts = facts(request, Some(object), of).await?;
    let Some(live) = facts.object.clone() else {
        return Ok(Ok(()));
    };
    let scope = of.policy.scope(request, facts);
    let mut budget = Budget::new(cel::OBJECT_BUDGET);
    let (Mutation::Apply(expression) | Mutation::Patch(expression)) = mutation;
    let value = match expression.value(request, &scope, &mut budget).await {
        Ok(value) => value,
        Err(why) => return Ok(Err(why.to_string())),
    };
    let changed = match mutation {
        Mutation::Apply(_) => applied(request, &live, of, &value),
        Mutation::Patch(_) => patched(&live, &value),
    };
    match changed {
        Ok(Some(changed)) => request.take(changed, &of.matched, object).await.map(Ok),
        Ok(None) => Ok(Ok(())),
        Err(why) => Ok(Err(why)),
    }
}

fn applied(request: &Request<'_>, live: &Object, of: &Invocation, value: &cel::Value) -> Result<Option<Value>, String> {
    if cel::type_name(value).is_none_or(|name| *name != cel::OBJECT) {
        return Err("unsupported return type from ApplyConfiguration expression".to_owned());
    }
    let config = cel::to_json(value).map_err(|why| format!("type mismatch: {why}"))?;
    let mut config = Object::from_value(config).map_err(|error| error.to_string())?;
    config.set("apiVersion", live.api_version());
    config.set("kind", live.kind());
    let merged = match request.schema(&of.matched) {
        Some(schema) => schema::apply::mutate(live, &config, &schema),
        None => schema::apply::mutate(live, &config, &schema::Schema::preserve_unknown()),
    };
    let merged = merged.map_err(|why| format!("error applying patch: {why}"))?;
    Ok(Some(merged.into_value()))
}

/// `None` where a test of the patch fails, so that nothing changes.
fn patched(live: &Object, value: &cel::Value) -> Result<Option<Value>, String> {
    let cel::Value::List(operations) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let is_operation = |operation: &cel::Value| cel::type_name(operation).is_some_and(|name| *name == cel::JSON_PATCH);
    if !operations.iter().all(is_operation) {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned());
    }
    let patch = cel::to_json(value).map_err(|why| format!("type mismatch: {why}"))?;
    let mut tree = live.clone().into_value();
    match schema::patch::json(&mut tree, patch.to_string().as_bytes()) {
        Ok(()) => Ok(Some(tree)),
        Err(schema::patch::PatchError::Unapplicable { message }) if message.ends_with("test failed") => Ok(None),
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}
