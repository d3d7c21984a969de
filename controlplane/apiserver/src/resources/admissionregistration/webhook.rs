//! What validating and mutating webhooks have in common: where they are, what they are asked about, and how.

use std::collections::HashSet;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use serde_json::Value;

use super::conditions::match_conditions;
use super::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, rules};
use crate::admission::dynamic::environment::Compiler;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1035_label, is_dns1123_subdomain, port};
use crate::resources::validation::{At, labels, meta};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// What a webhook may do beside answering.
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const FORM: &str = "; desired format: https://host[/path]";

/// The rules over a configuration. What was wrong already when it was stored is let be.
pub(super) fn validate(cx: &Context<'_>, op: &Operation<'_>, new: &Object, mutating: bool) -> FieldErrors {
    let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
    let tolerated = op.old().map(Tolerated::of).unwrap_or_default();
    let hooks = At::root(new, "webhooks");
    let conditions = |at: &At<'_>| {
        at.items()
            .iter()
            .map(|hook| hook.child("matchConditions").value().cloned())
            .collect()
    };
    let same_conditions = op.old().is_some_and(|old| {
        let before: Vec<Option<Value>> = conditions(&At::root(old, "webhooks"));
        before == conditions(&hooks)
    });
    let mut names = HashSet::new();
    for hook in hooks.items() {
        one(&hook, mutating, &tolerated, &mut errors);
        if !same_conditions {
            match_conditions(&hook.child("matchConditions"), &Compiler::plain(), &mut errors);
        }
        review_versions(
            &hook.child("admissionReviewVersions"),
            tolerated.unknown_versions,
            &mut errors,
        );
        let name = hook.child("name");
        if !tolerated.same_names && !name.is_empty() && !names.insert(name.str()) {
            errors.push(name.duplicate());
        }
    }
    errors
}

/// Faults that a stored configuration has, and which its updates may therefore have too.
#[derive(Default)]
struct Tolerated {
    side_effects: bool,
    unknown_versions: bool,
    same_names: bool,
}

impl Tolerated {
    fn of(old: &Object) -> Self {
        let hooks = At::root(old, "webhooks").items();
        let mut names = HashSet::new();
        let known = |hook: &At<'_>| hook.child("admissionReviewVersions").items().iter().any(is_known);
        Tolerated {
            side_effects: hooks
                .iter()
                .any(|hook| !SIDE_EFFECTS.contains(&hook.child("sideEffects").str())),
            unknown_versions: hooks
                .iter()
                .any(|hook| !hook.child("admissionReviewVersions").is_empty() && !known(hook)),
            same_names: hooks
                .iter()
                .any(|hook| !names.insert(hook.child("name").str().to_owned())),
        }
    }
}

fn is_known(version: &At<'_>) -> bool {
    REVIEW_VERSIONS.contains(&version.str())
}

fn one(hook: &At<'_>, mutating: bool, tolerated: &Tolerated, errors: &mut FieldErrors) {
    name(&hook.child("name"), errors);
    for rule in hook.child("rules").items() {
        rules::with_operations(&rule, errors);
    }
    hook.child("failurePolicy").one_of(errors, FAILURE_POLICIES);
    hook.child("matchPolicy").one_of(errors, MATCH_POLICIES);
    side_effects(&hook.child("sideEffects"), tolerated.side_effects, errors);
    let timeout = hook.child("timeoutSeconds");
    if timeout.i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        labels::selector(&hook.child(field), errors);
    }
    if mutating {
        hook.child("reinvocationPolicy").one_of(errors, REINVOCATION_POLICIES);
    }
    client(&hook.child("clientConfig"), errors);
}

/// A domain of three labels or more.
fn name(at: &At<'_>, errors: &mut FieldErrors) {
    let messages = is_dns1123_subdomain(at.str());
    if at.is_empty() {
        errors.push(at.required(""));
    } else if !messages.is_empty() {
        errors.push(at.invalid(messages.join(",")));
    } else if at.str().split('.').count() < 3 {
        errors.push(at.invalid("should be a domain with at least three segments separated by dots"));
    }
}

fn side_effects(at: &At<'_>, tolerated: bool, errors: &mut FieldErrors) {
    let allowed: &[&str] = match tolerated {
        true => &["None", "NoneOnDryRun", "Some", "Unknown"],
        false => SIDE_EFFECTS,
    };
    if at.is_set() {
        at.one_of(errors, allowed);
    } else {
        errors.push(at.required(&format!("must specify one of {}", allowed.join(", "))));
    }
}

fn review_versions(at: &At<'_>, tolerated: bool, errors: &mut FieldErrors) {
    let known = REVIEW_VERSIONS.join(", ");
    if at.is_empty() {
        return errors.push(at.required(&format!("must specify one of {known}")));
    }
    let mut seen = HashSet::new();
    for version in at.items() {
        if seen.insert(version.str()) {
            version.check(errors, is_dns1035_label);
        } else {
            errors.push(version.invalid("duplicate version"));
        }
    }
    if !tolerated && !at.items().iter().any(is_known) {
        errors.push(at.invalid(format!("must include at least one of {known}")));
    }
}

/// Where the webhook is: a URL, or a Service.
fn client(at: &At<'_>, errors: &mut FieldErrors) {
    let (url, service) = (at.child("url"), at.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => self::url(&url, errors),
        (false, true) => self::service(&service, errors),
        _ => errors.push(at.required("exactly one of url or service is required")),
    }
}

fn url(at: &At<'_>, errors: &mut FieldErrors) {
    let (rest, fragment) = at.str().split_once('#').unwrap_or((at.str(), ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if scheme != "https" {
        errors.push(at.invalid_as(scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if host.is_empty() {
        errors.push(at.invalid_as(host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(at.invalid_as(user, "user information is not permitted in the URL"));
    }
    for (part, what) in [(fragment, "fragments"), (query, "query parameters")] {
        if !part.is_empty() {
            errors.push(at.invalid_as(part, format!("{what} are not permitted in the URL")));
        }
    }
}

fn service(at: &At<'_>, errors: &mut FieldErrors) {
    // Kubernetes mistakes the one for the other here.
    for (needed, reported) in [("namespace", "name"), ("name", "namespace")] {
        if at.child(needed).is_empty() {
            errors.push(at.child(reported).required(""));
        }
    }
    let number = at.child("port");
    let messages = port(number.i64().unwrap_or_default());
    if !messages.is_empty() {
        errors.push(number.invalid(format!("port is not valid: {}", messages.join(", "))));
    }
    path(&at.child("path"), errors);
}

fn path(at: &At<'_>, errors: &mut FieldErrors) {
    let text = at.str();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return errors.push(at.invalid("segment[0] may not be empty"));
    }
    if !text.starts_with('/') {
        errors.push(at.invalid("must start with a '/'"));
    }
    let mut inner = text.chars();
    inner.next();
    let inner = inner.as_str();
    for (i, segment) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if segment.is_empty() {
            errors.push(at.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        let messages = is_dns1123_subdomain(segment).into_iter();
        errors.extend(messages.map(|message| at.invalid(format!("segment[{i}]: {message}"))));
    }
}

pub(super) fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Webhooks|integer||How many webhooks the configuration has.",
        "Age|string",
    ])
}

pub(super) fn cells(configuration: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        configuration.name().into(),
        configuration.list_at("webhooks").len().into(),
        age(configuration.creation_timestamp(), now),
    ]
}

/// The kind has a generation, which counts changes of its webhooks.
pub(super) fn changed(old: &Object, new: &Object) -> bool {
    old.at("webhooks") != new.at("webhooks")
}

#[cfg(test)]
pub(super) fn cases(kind: &str) -> crate::resources::testing::Cases {
    use serde_json::json;
    let configuration = |hooks: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "check",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "webhooks": hooks})
    };
    let hook = |client: Value| {
        json!({"name": "a.example.com", "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]})
    };
    let good = hook(json!({"service": {"namespace": "ns", "name": "hook", "path": "/check"}}));
    let bad = json!({"name": "short", "clientConfig": {}, "sideEffects": "Some", "timeoutSeconds": 31,
        "admissionReviewVersions": ["v9", "v9"], "failurePolicy": "Perhaps", "matchConditions": [{"name": "", "expression": " "}],
        "rules": [{"operations": ["*", "EAT"], "apiGroups": [], "apiVersions": [""], "resources": ["*", "pods"]}]});
    let mut twice = good.clone();
    twice["clientConfig"] = json!({"url": "http://u@/x?q#f"});
    crate::resources::testing::Cases {
        valid: vec![configuration(json!([good.clone()]))],
        invalid: vec![
            (
                configuration(json!([bad])),
                vec![
                    "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by \
                     dots",
                    "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"EAT\"]: if '*' is present, must not specify other \
                     operations",
                    "webhooks[0].rules[0].operations[1]: Unsupported value: \"EAT\": supported values: \"*\", \"CONNECT\", \
                     \"CREATE\", \"DELETE\", \"UPDATE\"",
                    "webhooks[0].rules[0].apiGroups: Required value",
                    "webhooks[0].rules[0].apiVersions[0]: Required value",
                    "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other \
                     resources without subresources",
                    "webhooks[0].failurePolicy: Unsupported value: \"Perhaps\": supported values: \"Fail\", \"Ignore\"",
                    "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                    "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                    "webhooks[0].matchConditions[0].expression: Required value",
                    "webhooks[0].matchConditions[0].name: Required value",
                    "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v9\": duplicate version",
                    "webhooks[0].admissionReviewVersions: Invalid value: [\"v9\",\"v9\"]: must include at least one of v1, \
                     v1beta1",
                ],
            ),
            (
                configuration(json!([good.clone(), twice])),
                vec![
                    "webhooks[1].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired \
                     format: https://host[/path]",
                    "webhooks[1].clientConfig.url: Invalid value: \"\": host must be specified; desired format: \
                     https://host[/path]",
                    "webhooks[1].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                    "webhooks[1].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL",
                    "webhooks[1].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
                    "webhooks[1].name: Duplicate value: \"a.example.com\"",
                ],
            ),
            (
                configuration(json!([hook(
                    json!({"service": {"namespace": "", "name": "h", "path": "x//", "port": 0}})
                )])),
                vec![
                    "webhooks[0].clientConfig.service.name: Required value",
                    "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, \
                     inclusive",
                    "webhooks[0].clientConfig.service.path: Invalid value: \"x//\": must start with a '/'",
                    "webhooks[0].clientConfig.service.path: Invalid value: \"x//\": segment[0] may not be empty",
                    "webhooks[0].clientConfig.service.path: Invalid value: \"x//\": segment[1] may not be empty",
                ],
            ),
        ],
        table: vec![configuration(json!([good]))],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn what_was_wrong_before_may_stay_wrong() {
        let configuration = |timeout: i64| {
            let hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://a"}, "sideEffects": "Unknown",
                "admissionReviewVersions": ["v9"], "timeoutSeconds": timeout});
            object(json!({"metadata": {"name": "a"}, "webhooks": [hook, hook]}))
        };
        let old = configuration(1);
        let found = |new: &Object| {
            context(None, |cx| {
                messages(validate(cx, &Operation::Update { old: &old }, new, false))
            })
        };
        assert!(found(&configuration(2)).is_empty());
        assert_eq!(
            context(None, |cx| validate(cx, &Operation::Create, &old, false)).len(),
            5
        );
    }
}
