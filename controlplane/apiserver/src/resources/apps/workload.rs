//! What Deployment and ReplicaSet have in common: a selector, a template that it must match, and counts.

use api::FieldErrors;
use serde_json::Value;

use crate::registry::resource::Operation;
use crate::resources::print;
use crate::resources::validation::{At, labels, pod};

/// `selector` and `template` of a workload's spec.
pub(super) fn selector_and_template(spec: &At<'_>, errors: &mut FieldErrors) {
    let selector = spec.child("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
    } else {
        labels::selector(&selector, errors);
        if labels::selects_all(&selector) {
            errors.push(selector.invalid("empty selector is invalid for deployment"));
        }
    }
    // No selector selects nothing, an empty one everything.
    match selector.value().map(api::LabelSelector::from_json) {
        None => template(&spec.child("template"), &api::LabelSelector::nothing(), errors),
        Some(Ok(parsed)) => template(&spec.child("template"), &parsed, errors),
        Some(Err(_)) => errors.push(selector.invalid("invalid label selector")),
    }
}

fn template(at: &At<'_>, selector: &api::LabelSelector, errors: &mut FieldErrors) {
    let labels = at.child("metadata").child("labels");
    let label = |key: &str| labels.map().and_then(|map| map.get(key)).and_then(Value::as_str);
    if !selector.is_empty() && !selector.matches(label) {
        let shown = labels.value().cloned().unwrap_or(Value::Null);
        errors.push(labels.invalid_as(shown, "`selector` does not match template `labels`"));
    }
    pod::template(at, errors);
    let spec = at.child("spec");
    let policy = spec.child("restartPolicy");
    if policy.str() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = spec.child("activeDeadlineSeconds");
    if deadline.is_set() {
        errors.push(deadline.forbidden("activeDeadlineSeconds in ReplicaSet is not Supported"));
    }
}

/// Warnings about the template, where a write changes the spec.
pub(super) fn warnings(op: &Operation<'_>, new: &api::Object) -> Vec<String> {
    let changes = match op {
        Operation::Create => true,
        Operation::Update { old } => old.at("spec") != new.at("spec"),
        Operation::UpdateStatus { .. } | Operation::Delete { .. } => false,
    };
    match changes {
        true => pod::warnings(&At::root(new, "spec").child("template").child("spec")),
        false => Vec::new(),
    }
}

/// The wide cells: containers, images, selector.
pub(super) fn wide_cells(object: &api::Object) -> Vec<Value> {
    let [names, images] = print::containers(object.list_at("spec.template.spec.containers"));
    vec![names, images, print::selector(object.at("spec.selector"))]
}

/// A spec that differs from a valid one in what `change` says, for the kinds' cases.
#[cfg(test)]
pub(super) fn sample(kind: &str, extra: &Value) -> Value {
    use serde_json::json;
    let mut object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "reg/web:1"}]}}}});
    if let (Some(spec), Value::Object(extra)) = (object["spec"].as_object_mut(), extra) {
        spec.extend(extra.clone());
    }
    object
}
