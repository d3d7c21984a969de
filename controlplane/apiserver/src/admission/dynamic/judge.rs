//! Validating policies: what they find of a request, and what their bindings make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::status::StatusCause;
use api::{Object, Status};
use schema::cel::{self, Budget, Scope};
use serde_json::json;

use super::evaluate::{Facts, Failure};
use super::policies::{Bound, Invocation, Policy, Validation};
use super::request::Request;
use crate::audit::annotations;

/// Bytes of a message that an expression yields.
const MAX_MESSAGE: usize = 5 << 10;
/// Bytes of an annotation's value.
const MAX_ANNOTATION: usize = 10 << 10;
/// Failures that the audit log is told.
const MAX_FAILURES: usize = 50;

/// What a policy finds: one rule that does not hold, or could not be evaluated.
struct Finding {
    /// Which of the rules.
    rule: usize,
    message: String,
    reason: String,
}

/// What one evaluation finds.
#[derive(Default)]
struct Findings {
    findings: Vec<Finding>,
    /// Annotations that could not be made, which refuse whatever the binding says.
    broken: Vec<String>,
    annotations: Vec<(String, String)>,
}

/// What all policies find.
struct Outcome<'r, 'a> {
    request: &'r Request<'a>,
    denied: Option<(String, String)>,
    failures: Vec<serde_json::Value>,
}

/// Asks all validating policies.
pub(crate) async fn validate(
    policies: &[Bound],
    request: &Request<'_>,
    object: Option<&Object>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mut outcome = Outcome {
        request,
        denied: None,
        failures: Vec::new(),
    };
    for bound in policies {
        let (invocations, misfits) = bound.invocations(request, object).await;
        for misfit in misfits.into_iter().filter(|_| bound.policy.fails_closed) {
            let binding = misfit.binding.as_ref().map(|binding| &*binding.name);
            outcome.deny(&bound.policy.name, binding, &misfit.why, "");
        }
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for invocation in invocations {
            let found = evaluate(request, object, &invocation).await?;
            for (key, value) in outcome.heed(&invocation, found, warnings) {
                let values = annotations.entry(key).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        for (key, values) in annotations {
            let key = format!("{}/{key}", bound.policy.name);
            annotations::add(key, || values.join(", "));
        }
    }
    outcome.end(object)
}

impl Outcome<'_, '_> {
    /// Does with what was found as the binding says; gives the annotations.
    fn heed(&mut self, of: &Invocation, found: Findings, warnings: &mut Vec<String>) -> Vec<(String, String)> {
        let (policy, binding) = (&of.policy.name, &of.binding.name);
        for finding in found.findings {
            for action in &of.binding.actions {
                let message = &finding.message;
                match action.as_str() {
                    "Deny" => self.deny(policy, Some(binding), message, &finding.reason),
                    "Warn" => warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
                    )),
                    "Audit" if self.failures.len() < MAX_FAILURES => self.failures.push(json!({
                        "message": message, "policy": policy, "binding": binding, "expressionIndex": finding.rule,
                        "validationActions": of.binding.actions,
                    })),
                    _ => {}
                }
            }
        }
        for why in found.broken {
            self.deny(policy, Some(binding), &why, "");
        }
        found.annotations
    }

    /// The first denial is the one that is told.
    fn deny(&mut self, policy: &str, binding: Option<&str>, why: &str, reason: &str) {
        let with = binding.map(|binding| format!(" with binding '{binding}'"));
        let with = with.unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {why}");
        self.denied.get_or_insert_with(|| (message, reason.to_owned()));
    }

    fn end(self, object: Option<&Object>) -> Result<(), Status> {
        if !self.failures.is_empty() {
            let failures = serde_json::Value::Array(self.failures);
            annotations::add("validation.policy.admission.k8s.io/validation_failure", || {
                failures.to_string()
            });
        }
        let Some((message, reason)) = self.denied else {
            return Ok(());
        };
        let mut status = self.request.forbidden(object, &message);
        let (reason, code) = match reason.as_str() {
            "Forbidden" => ("Forbidden", 403),
            "Unauthorized" => ("Unauthorized", 401),
            "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
            _ => ("Invalid", 422),
        };
        reason.clone_into(&mut status.reason);
        status.code = code;
        let details = status.details.get_or_insert_default();
        details.causes.push(StatusCause {
            message,
            ..StatusCause::default()
        });
        Err(status)
    }
}

async fn evaluate(request: &Request<'_>, object: Option<&Object>, of: &Invocation) -> Result<Findings, Status> {
    let facts = Facts {
        params: of.params.clone(),
        ..Facts::of(request, object, &of.matched, true).await?
    };
    let policy = &of.policy;
    let scope = policy.scope(request, facts);
    match policy.applies(request, &scope).await {
        Ok(true) => {}
        Ok(false) => return Ok(Findings::default()),
        Err(why) => return Ok(failed(policy, why)),
    }
    let mut budget = Budget::new(cel::OBJECT_BUDGET);
    let mut found = Findings::default();
    for (nth, validation) in policy.validations.iter().enumerate() {
        match rule(request, &scope, validation, &mut budget).await {
            Ok(None) => {}
            Ok(Some(message)) => found.findings.push(Finding {
                rule: nth,
                message,
                reason: validation.reason.clone(),
            }),
            Err(Failure::Exhausted) => return Ok(failed(policy, Failure::Exhausted.to_string())),
            Err(Failure::Own(_)) if !policy.fails_closed => {}
            Err(Failure::Own(why)) => found.findings.push(Finding {
                rule: nth,
                message: why,
                reason: String::new(),
            }),
        }
    }
    annotate(request, &scope, policy, &mut found).await;
    Ok(found)
}

/// That a policy could not be evaluated, which counts only where failures do.
fn failed(policy: &Policy, why: String) -> Findings {
    let finding = Finding {
        rule: 0,
        message: why,
        reason: String::new(),
    };
    Findings {
        findings: if policy.fails_closed { vec![finding] } else { Vec::new() },
        ..Findings::default()
    }
}

/// The message of a rule that does not hold.
async fn rule(
    request: &Request<'_>,
    scope: &Arc<Scope>,
    of: &Validation,
    budget: &mut Budget,
) -> Result<Option<String>, Failure> {
    let value = of.rule.value(request, scope, budget).await?;
    if value == cel::Value::Bool(true) {
        return Ok(None);
    }
    let computed = match &of.computed {
        Some(expression) => match expression.value(request, scope, budget).await {
            Ok(cel::Value::String(text)) => usable(&text),
            _ => None,
        },
        None => None,
    };
    let message = computed.or_else(|| (!of.message.is_empty()).then(|| of.message.clone()));
    Ok(Some(message.unwrap_or_else(|| {
        format!("failed expression: {}", of.rule.source.trim())
    })))
}

/// A message that is one line and not too long.
fn usable(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}

async fn annotate(request: &Request<'_>, scope: &Arc<Scope>, policy: &Policy, found: &mut Findings) {
    let mut budget = Budget::new(cel::OBJECT_BUDGET);
    for (key, expression) in &policy.annotations {
        match expression.value(request, scope, &mut budget).await {
            Ok(cel::Value::String(text)) if !text.trim().is_empty() => {
                let mut value = text.trim().to_owned();
                value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
                found.annotations.push((key.clone(), value));
            }
            Ok(cel::Value::String(_) | cel::Value::Null) => {}
            Ok(other) => found.broken.push(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                expression.source,
                other.type_of()
            )),
            Err(_) if !policy.fails_closed => {}
            Err(why) => found.broken.push(why.to_string()),
        }
    }
}
