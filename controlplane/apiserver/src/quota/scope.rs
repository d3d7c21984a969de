//! Of which objects a quota speaks, beyond their kind. Pure.

use api::{GroupResource, Object};
use serde_json::Value;

/// Whether an object is within all scopes of a quota. Kinds that have no scopes are within none.
pub(super) fn matches(quota: &Object, kind: &GroupResource, object: &Object) -> bool {
    let plain = quota.list_at("spec.scopes").iter().filter_map(Value::as_str);
    let mut all = plain.map(|scope| (scope, "Exists", Vec::new())).chain(selectors(quota));
    all.all(|(scope, operator, values)| match (&*kind.group, &*kind.resource) {
        ("", "pods") => pod(object, scope, operator, &values),
        ("", "persistentvolumeclaims") => claim(object, scope, operator, &values),
        _ => false,
    })
}

fn selectors(quota: &Object) -> impl Iterator<Item = (&str, &str, Vec<&str>)> {
    quota.list_at("spec.scopeSelector.matchExpressions").iter().map(|item| {
        let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let values = item.get("values").and_then(Value::as_array).into_iter().flatten();
        (
            field("scopeName"),
            field("operator"),
            values.filter_map(Value::as_str).collect(),
        )
    })
}

fn pod(pod: &Object, scope: &str, operator: &str, values: &[&str]) -> bool {
    let terminating = pod
        .i64_at("spec.activeDeadlineSeconds")
        .is_some_and(|seconds| seconds >= 0);
    let best_effort = pod.str_at("status.qosClass") == Some("BestEffort");
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let class = pod.str_at("spec.priorityClassName").filter(|class| !class.is_empty());
            selects(class, operator, values)
        }
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        _ => false,
    }
}

fn selects(value: Option<&str>, operator: &str, values: &[&str]) -> bool {
    match operator {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => value.is_some_and(|value| values.contains(&value)),
        "NotIn" => !value.is_some_and(|value| values.contains(&value)),
        _ => false,
    }
}

/// Whether a pod wants to be near pods of other namespaces, or far from them.
fn looks_elsewhere(pod: &Object) -> bool {
    let elsewhere = |term: &Value| {
        let named = term
            .get("namespaces")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        named
            || term
                .get("namespaceSelector")
                .is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let list = |when: &str| {
            pod.list_at(&format!(
                "spec.affinity.{kind}.{when}DuringSchedulingIgnoredDuringExecution"
            ))
        };
        let weighted = list("preferred").iter().filter_map(|term| term.get("podAffinityTerm"));
        list("required").iter().chain(weighted).any(elsewhere)
    })
}

/// A claim is of the attributes class it wants, has, and is being given.
fn claim(claim: &Object, scope: &str, operator: &str, values: &[&str]) -> bool {
    if scope != "VolumeAttributesClass" {
        return false;
    }
    let paths = [
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ];
    let classes = paths
        .iter()
        .filter_map(|path| claim.str_at(path))
        .filter(|class| !class.is_empty());
    let classes: Vec<&str> = classes.collect();
    match operator {
        "Exists" | "In" => classes.iter().any(|class| selects(Some(class), operator, values)),
        _ => classes.iter().all(|class| selects(Some(class), operator, values)),
    }
}
