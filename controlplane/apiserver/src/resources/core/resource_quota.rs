//! ResourceQuota: how much a namespace may hold.

use std::fmt::Write;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::quantity::{is_counted, non_negative, parse, resource_name};
use crate::resources::validation::{At, meta};

/// What can be limited by a name without a prefix, beside huge pages.
const RESOURCES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const POD_RESOURCES: &[&str] = &[
    "pods",
    "cpu",
    "memory",
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];
const CLAIM_RESOURCES: &[&str] = &["persistentvolumeclaims", "requests.storage"];

pub(crate) fn resource() -> Resource {
    Resource::of::<ResourceQuota>()
        .short_names(&["quota"])
        .strategy(Quotas)
        .printer(definitions(), cells)
        .status()
        .returns_deleted()
        .build()
}

struct Quotas;

impl Strategy for Quotas {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if let Operation::UpdateStatus { .. } = op {
            let status = At::root(new, "status");
            for field in ["hard", "used"] {
                amounts(&status.child(field), &mut errors);
            }
            return errors;
        }
        let spec = At::root(new, "spec");
        rules(&spec, &mut errors);
        if let Operation::Update { old } = op {
            same_scopes(
                &At::root(old, "spec").child("scopes"),
                &spec.child("scopes"),
                &mut errors,
            );
        }
        errors
    }
}

fn same_scopes(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    let sorted = |at: &At<'_>| {
        let mut scopes: Vec<String> = at.items().iter().map(|scope| scope.str().to_owned()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    };
    if sorted(old) != sorted(new) {
        let shown = new.value().cloned().unwrap_or(Value::Null);
        errors.push(new.invalid_as(shown, "field is immutable"));
    }
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    amounts(&spec.child("hard"), errors);
    let limited: Vec<&str> = spec.child("hard").entries().into_iter().map(|(name, _)| name).collect();
    let scopes = spec.child("scopes");
    let mut named = Vec::new();
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.str()) {
            errors.push(scopes.invalid("unsupported scope"));
        }
        let unfit = limited.iter().filter(|name| !fits(scope.str(), name));
        errors.extend(unfit.map(|_| scopes.invalid("unsupported scope applied to resource")));
        named.push(scope.str().to_owned());
    }
    conflicts(&named, &scopes, &scopes, errors);
    selector(spec, &limited, errors);
}

fn amounts(at: &At<'_>, errors: &mut FieldErrors) {
    for (name, amount) in at.entries() {
        if resource_name(name, &amount, errors) && !name.contains('/') && !is_quota_resource(name) {
            errors.push(amount.invalid_as(name, "must be a standard resource for quota"));
        }
        non_negative(&amount, errors);
        if is_counted(name) && parse(&amount).is_some_and(|quantity| !quantity.is_whole()) {
            errors.push(amount.invalid("must be an integer"));
        }
    }
}

fn is_quota_resource(name: &str) -> bool {
    RESOURCES.contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// Whether what the scope narrows down to is counted by the resource.
fn fits(scope: &str, name: &str) -> bool {
    if !is_quota_resource(name) {
        return true;
    }
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            POD_RESOURCES.contains(&name)
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => CLAIM_RESOURCES.contains(&name),
        _ => true,
    }
}

fn conflicts(named: &[String], at: &At<'_>, shown: &At<'_>, errors: &mut FieldErrors) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| named.iter().any(|name| name == scope)) {
            let shown = shown.value().cloned().unwrap_or(Value::Null);
            errors.push(at.invalid_as(shown, "conflicting scopes"));
        }
    }
}

fn selector(spec: &At<'_>, limited: &[&str], errors: &mut FieldErrors) {
    let selector = spec.child("scopeSelector");
    let all = selector.child("matchExpressions");
    let mut named = Vec::new();
    for requirement in all.items() {
        // Kubernetes names these fields without the number of the requirement.
        let field = |name: &str| requirement.child(name).named(all.path().child(name));
        let (scope, operator, values) = (field("scopeName"), field("operator"), field("values"));
        if !SCOPES.contains(&scope.str()) {
            errors.push(scope.invalid("unsupported scope"));
        }
        let shown = selector.value().cloned().unwrap_or(Value::Null);
        let unfit = limited.iter().filter(|name| !fits(scope.str(), name));
        errors.extend(unfit.map(|_| all.invalid_as(shown.clone(), "unsupported scope applied to resource")));
        if !matches!(scope.str(), "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope.str()) {
            exists(&operator, errors);
        }
        operator_and_values(&operator, &values, errors);
        named.push(scope.str().to_owned());
    }
    conflicts(&named, &all, &spec.child("scopes"), errors);
}

fn exists(operator: &At<'_>, errors: &mut FieldErrors) {
    if operator.str() != "Exists" {
        errors.push(operator.invalid(
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
             ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
        ));
    }
}

fn operator_and_values(operator: &At<'_>, values: &At<'_>, errors: &mut FieldErrors) {
    match operator.str() {
        "In" | "NotIn" if values.is_empty() => errors
            .push(values.required("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors
            .push(values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.push(operator.invalid("not a valid selector operator")),
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Request|string||What is used of what is allowed.",
        "Limit|string||What is used of what is allowed, for limits.",
        "Age|string",
    ])
}

fn cells(quota: &Object, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (String::new(), String::new());
    for (name, hard) in quota.map_at("status.hard").into_iter().flatten() {
        let used = quota.map_at("status.used").and_then(|used| used.get(name));
        let text = |amount: Option<&Value>| amount.and_then(Value::as_str).unwrap_or("0").to_owned();
        let cell = if name.starts_with("limits.") {
            &mut limits
        } else {
            &mut requests
        };
        let separator = if cell.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(cell, "{separator}{name}: {}/{}", text(used), text(Some(hard)));
    }
    vec![
        quota.name().into(),
        requests.into(),
        limits.into(),
        age(quota.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let quota = |spec: Value| {
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "ns",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let mut shown = quota(json!({}));
    shown["status"] = json!({"hard": {"limits.cpu": "2", "pods": "4", "requests.cpu": "1"}, "used": {"pods": "1"}});
    crate::resources::testing::Cases {
        valid: vec![
            quota(
                json!({"hard": {"pods": "4", "count/jobs.batch": "1", "requests.a.b/gpu": "1", "hugepages-2Mi": "2Mi"}}),
            ),
            quota(
                json!({"hard": {"pods": "4"}, "scopes": ["BestEffort"], "scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
            ),
        ],
        invalid: vec![
            (
                quota(json!({"hard": {"cats": "1", "pods": "500m", "storage": "-1"}})),
                vec![
                    "spec.hard[cats]: Invalid value: \"cats\": must be a standard resource type or fully qualified",
                    "spec.hard[cats]: Invalid value: \"cats\": must be a standard resource for quota",
                    "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
                    "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                    "spec.hard[storage]: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                quota(json!({"hard": {"services": "1"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"]})),
                vec![
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: conflicting scopes",
                ],
            ),
            (
                quota(
                    json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In"},
                    {"scopeName": "PriorityClass", "operator": "Is"}]}}),
                ),
                vec![
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope is any of \
                     ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                     ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' \
                     or 'NotIn' for scope selector",
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Is\": not a valid selector operator",
                ],
            ),
        ],
        table: vec![shown, quota(json!({}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn scopes_stay_and_may_change_their_order() {
        let of = |scopes: Value| {
            object(
                json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "ns"},
                "spec": {"scopes": scopes}}),
            )
        };
        let old = of(json!(["Terminating", "BestEffort"]));
        let found = |scopes: Value| {
            let new = of(scopes);
            context(Some("ns"), |cx| {
                messages(Quotas.validate(cx, &Operation::Update { old: &old }, &new))
            })
        };
        assert_eq!(found(json!(["BestEffort", "Terminating"])), Vec::<String>::new());
        assert_eq!(
            found(json!(["BestEffort"])),
            ["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"]
        );
    }
}
