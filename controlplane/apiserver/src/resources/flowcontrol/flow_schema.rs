//! FlowSchema: which requests belong to which priority level, and which of them are one flow.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use serde_json::{Value, json};

use super::{conditions, standard};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::{columns, or_none};
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

const MAX_PRECEDENCE: i64 = 10_000;
const METHODS: &[&str] = &["ByNamespace", "ByUser"];
const SUBJECTS: &[&str] = &["Group", "ServiceAccount", "User"];
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

pub(crate) fn resource() -> Resource {
    Resource::of::<FlowSchema>()
        .strategy(Schemas)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct Schemas;

impl Strategy for Schemas {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if !matches!(op, Operation::UpdateStatus { .. }) {
            let at = At::root(new, "spec");
            spec(new.name(), &at, &mut errors);
            let fixed = standard::mandatory_schema(new.name());
            if fixed.is_some() && fixed.as_ref() != at.value() {
                errors.push(at.invalid(format!("spec of '{}' must equal the fixed value", new.name())));
            }
        }
        conditions(new, "must not be empty", &mut errors);
        errors
    }
}

fn spec(name: &str, spec: &At<'_>, errors: &mut FieldErrors) {
    let precedence = spec.child("matchingPrecedence");
    match precedence.i64().unwrap_or_default() {
        ..=0 => errors.push(precedence.invalid("must be a positive value")),
        1 if name != standard::EXEMPT => {
            errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
        }
        number if number > MAX_PRECEDENCE => {
            errors.push(precedence.invalid(format!("must not be greater than {MAX_PRECEDENCE}")));
        }
        _ => {}
    }
    let method = spec.child("distinguisherMethod");
    if method.is_set() && !METHODS.contains(&method.child("type").str()) {
        let shown = method.value().cloned().unwrap_or_default();
        errors.push(api::FieldError::not_supported(
            method.child("type").path(),
            shown,
            METHODS,
        ));
    }
    let level = spec.child("priorityLevelConfiguration").child("name");
    if level.is_empty() {
        errors.push(level.required("must reference a priority level"));
    } else {
        level.check(errors, is_dns1123_subdomain);
    }
    for rule in spec.child("rules").items() {
        self::rule(&rule, errors);
    }
}

fn rule(at: &At<'_>, errors: &mut FieldErrors) {
    let subjects = at.child("subjects");
    if subjects.is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    for subject in subjects.items() {
        self::subject(&subject, errors);
    }
    let (resources, paths) = (at.child("resourceRules"), at.child("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        errors.push(at.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for rule in resources.items() {
        resource_rule(&rule, errors);
    }
    for rule in paths.items() {
        verbs(&rule.child("verbs"), errors);
        urls(&rule.child("nonResourceURLs"), errors);
    }
}

fn subject(at: &At<'_>, errors: &mut FieldErrors) {
    let kind = at.child("kind");
    let fields = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let Some((_, field)) = fields.iter().find(|(name, _)| *name == kind.str()) else {
        return errors.push(kind.not_supported(SUBJECTS));
    };
    let wanted = at.child(field);
    if !wanted.is_set() {
        errors.push(wanted.required(&format!("{field} is required when subject kind is '{}'", kind.str())));
    } else {
        named(&wanted, *field == "serviceAccount", errors);
    }
    for (name, other) in fields.iter().filter(|(name, _)| *name != kind.str()) {
        let other_field = at.child(other);
        if other_field.is_set() {
            errors.push(other_field.forbidden(format!("{other} is forbidden when subject kind is not '{name}'")));
        }
    }
}

fn named(at: &At<'_>, account: bool, errors: &mut FieldErrors) {
    let name = at.child("name");
    if name.is_empty() {
        errors.push(name.required(""));
    } else if account && name.str() != "*" {
        name.check(errors, is_dns1123_subdomain);
    }
    if account {
        let namespace = at.child("namespace");
        if namespace.is_empty() {
            errors.push(namespace.required("must specify namespace for service account"));
        } else {
            namespace.check(errors, is_dns1123_label);
        }
    }
}

fn has_wildcard(at: &At<'_>) -> bool {
    at.items().iter().any(|item| item.str() == "*")
}

/// `*` stands alone; whether there was a list to look at further.
fn alone(at: &At<'_>, what: &str, errors: &mut FieldErrors) -> bool {
    let wildcard = has_wildcard(at);
    if wildcard && at.len() > 1 {
        errors.push(at.invalid(format!("if '*' is present, must not specify other {what}")));
    }
    !wildcard
}

fn verbs(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        errors.push(at.required("verbs must contain at least one value"));
    } else if alone(at, "verbs", errors) && !at.items().iter().all(|verb| VERBS.contains(&verb.str())) {
        errors.push(at.not_supported(VERBS));
    }
}

fn resource_rule(at: &At<'_>, errors: &mut FieldErrors) {
    verbs(&at.child("verbs"), errors);
    let lists = [
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ];
    for (field, one, many) in lists {
        let list = at.child(field);
        if list.is_empty() {
            errors.push(list.required(&format!("resource rules must supply at least one {one}")));
        } else {
            alone(&list, many, errors);
        }
    }
    let namespaces = at.child("namespaces");
    if namespaces.is_empty() && !at.child("clusterScope").bool() {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(namespaces.required(detail));
    } else if alone(&namespaces, "namespaces", errors) {
        for namespace in namespaces.items() {
            let say = |message: String| {
                namespace.invalid(format!(
                    "each member of this list must be '*' or a DNS-1123 label; {message}"
                ))
            };
            errors.extend(is_dns1123_label(namespace.str()).into_iter().map(say));
        }
    }
}

fn urls(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        errors.push(at.required("nonResourceURLs must contain at least one value"));
    } else if alone(at, "non-resource URLs", errors) {
        for url in at.items() {
            errors.extend(url_fault(url.str()).map(|detail| url.invalid(detail)));
        }
    }
}

/// A path: `*` stands at its end only, as `/*`.
fn url_fault(path: &str) -> Option<&'static str> {
    let wildcards = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if wildcards > 1 || wildcards == 1 && !path.ends_with("/*") => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "PriorityLevel|string||The level that requests belong to.",
        "MatchingPrecedence|string||Of several schemas that match, the one with the lowest number counts.",
        "DistinguisherMethod|string||What tells flows apart.",
        "Age|string",
        "MissingPL|string||references a broken or non-existent PriorityLevelConfiguration",
    ])
}

fn cells(schema: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| schema.str_at(path).unwrap_or_default();
    let conditions = schema.list_at("status.conditions").iter();
    let dangling = conditions
        .filter(|c| c.get("type").and_then(Value::as_str) == Some("Dangling"))
        .find_map(|c| c.get("status").and_then(Value::as_str));
    vec![
        schema.name().into(),
        text("spec.priorityLevelConfiguration.name").into(),
        schema.i64_at("spec.matchingPrecedence").unwrap_or_default().into(),
        or_none(text("spec.distinguisherMethod.type")),
        age(schema.creation_timestamp(), now),
        dangling.unwrap_or("?").into(),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let schema = |name: &str, spec: Value| {
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let nodes = json!([{"kind": "Group", "group": {"name": "system:nodes"}}]);
    let good = json!({"priorityLevelConfiguration": {"name": "system"}, "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": nodes, "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}]}]});
    let bad = json!({"priorityLevelConfiguration": {}, "matchingPrecedence": 1, "distinguisherMethod": {"type": "ByMood"},
        "rules": [{"subjects": [{"kind": "User", "group": {"name": "g"}}, {"kind": "ServiceAccount",
                "serviceAccount": {"name": "*"}}, {"kind": "Robot"}],
            "resourceRules": [{"verbs": ["*", "get"], "apiGroups": [], "resources": ["pods", "*"], "namespaces": ["A"]},
                {"verbs": ["eat"], "apiGroups": [""], "resources": ["pods"]}]},
            {"subjects": [], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["x", "/a*"]}]}]});
    let changed = standard::mandatory_schema(standard::CATCH_ALL).map(|mut spec| {
        spec["matchingPrecedence"] = json!(9999);
        spec
    });
    let shown = changed.clone().unwrap_or_default();
    let fixed = format!("spec: Invalid value: {shown}: spec of 'catch-all' must equal the fixed value");
    crate::resources::testing::Cases {
        valid: vec![
            schema("mine", good.clone()),
            schema(
                "exempt",
                standard::mandatory_schema(standard::EXEMPT).unwrap_or_default(),
            ),
        ],
        invalid: vec![
            (
                schema("mine", bad),
                vec![
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                    "spec.distinguisherMethod.type: Unsupported value: {\"type\":\"ByMood\"}: supported values: \"ByNamespace\", \
                     \"ByUser\"",
                    "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                    "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                    "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                    "spec.rules[0].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service \
                     account",
                    "spec.rules[0].subjects[2].kind: Unsupported value: \"Robot\": supported values: \"Group\", \
                     \"ServiceAccount\", \"User\"",
                    "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify \
                     other verbs",
                    "spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "spec.rules[0].resourceRules[0].resources: Invalid value: [\"pods\",\"*\"]: if '*' is present, must not \
                     specify other resources",
                    "spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or \
                     a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                     must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation \
                     is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                    "spec.rules[0].resourceRules[1].verbs: Unsupported value: [\"eat\"]: supported values: \"create\", \
                     \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
                    "spec.rules[0].resourceRules[1].namespaces: Required value: resource rules that are not cluster scoped must \
                     supply at least one namespace",
                    "spec.rules[1].subjects: Required value: subjects must contain at least one value",
                    "spec.rules[1].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
                    "spec.rules[1].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": wildcard can only do suffix \
                     matching",
                ],
            ),
            // Told only here, since the expected text is computed.
            (schema("catch-all", shown), vec![String::leak(fixed)]),
        ],
        table: vec![
            schema("mine", good),
            json!({"metadata": {"name": "gone"}, "spec": {"priorityLevelConfiguration": {"name": "x"}, "matchingPrecedence": 5},
                "status": {"conditions": [{"type": "Dangling", "status": "True"}]}}),
        ],
    }
}
