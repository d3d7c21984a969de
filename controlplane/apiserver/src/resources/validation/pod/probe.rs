//! Probes, lifecycle hooks, and the actions both consist of.

use api::FieldErrors;
use serde_json::Value;

use super::super::At;
use super::super::names::{self, is_port_name};

/// The three probes of a container.
pub(super) fn all(container: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let at = container.child(field);
        if !at.is_set() {
            continue;
        }
        probe(&at, grace, errors);
        let successes = at.child("successThreshold");
        if field == "readinessProbe" {
            let own_grace = at.child("terminationGracePeriodSeconds");
            if own_grace.is_set() {
                errors.push(own_grace.invalid("must not be set for readinessProbes"));
            }
        } else if successes.i64().is_some_and(|n| n != 1) {
            errors.push(successes.invalid("must be 1"));
        }
    }
}

fn probe(at: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    handler(at, grace, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        at.child(field).non_negative(errors);
    }
    let own_grace = at.child("terminationGracePeriodSeconds");
    if own_grace.i64().is_some_and(|n| n <= 0) {
        errors.push(own_grace.invalid("must be greater than 0"));
    }
}

/// `lifecycle` of a container, if set.
pub(super) fn lifecycle(at: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    for hook in ["postStart", "preStop"] {
        if at.child(hook).is_set() {
            handler(&at.child(hook), grace, errors);
        }
    }
}

/// Exactly one action.
fn handler(at: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let set: Vec<_> = kinds.iter().filter(|k| at.child(k).is_set()).collect();
    let Some((first, others)) = set.split_first() else {
        return errors.push(at.required("must specify a handler type"));
    };
    let action = at.child(first);
    match **first {
        "exec" if action.child("command").is_empty() => errors.push(action.child("command").required("")),
        "httpGet" => http_get(&action, errors),
        "tcpSocket" => port_or_name(&action.child("port"), errors),
        "grpc" => port_or_name(&action.child("port"), errors),
        "sleep" => sleep(&action.child("seconds"), grace.unwrap_or_default(), errors),
        _ => {}
    }
    for other in others {
        errors.push(at.child(other).forbidden("may not specify more than 1 handler type"));
    }
}

fn sleep(seconds: &At<'_>, grace: i64, errors: &mut FieldErrors) {
    if !(0..=grace).contains(&seconds.i64().unwrap_or_default()) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(seconds.invalid(detail));
    }
}

fn http_get(at: &At<'_>, errors: &mut FieldErrors) {
    at.child("path").require(errors, |_| Vec::new());
    port_or_name(&at.child("port"), errors);
    at.child("scheme").one_of(errors, &["HTTP", "HTTPS"]);
    for header in at.child("httpHeaders").items() {
        let name = header.child("name");
        let messages = names::http_header(name.str());
        errors.extend(
            messages
                .into_iter()
                .map(|m| at.child("httpHeaders").invalid_as(name.str(), m)),
        );
    }
}

/// A port by number, or by the name it has in the container.
pub(crate) fn port_or_name(at: &At<'_>, errors: &mut FieldErrors) {
    match at.value() {
        Some(Value::String(name)) => errors.extend(is_port_name(name).into_iter().map(|m| at.invalid(m))),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or_default();
            errors.extend(names::port(number).into_iter().map(|m| at.invalid_as(number, m)));
        }
    }
}
