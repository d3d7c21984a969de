//! What the kinds that keep pods have in common: a selector, a template that it must match, and counts.

use api::FieldErrors;
use serde_json::Value;

use crate::registry::resource::Operation;
use crate::resources::print;
use crate::resources::validation::names::is_dns1123_label;
use crate::resources::validation::{At, labels, pod};

/// `selector` and `template` of a Deployment's or ReplicaSet's spec.
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
    if !selector.is_empty() {
        labels_match(at, selector, errors);
    }
    pod::template(at, errors);
    runs_forever(at, "ReplicaSet", errors);
}

/// The labels of the template at `at` must be such that the selector finds its pods.
pub(crate) fn labels_match(at: &At<'_>, selector: &api::LabelSelector, errors: &mut FieldErrors) {
    let labels = at.child("metadata").child("labels");
    let label = |key: &str| labels.map().and_then(|map| map.get(key)).and_then(Value::as_str);
    if !selector.matches(label) {
        let shown = labels.value().cloned().unwrap_or(Value::Null);
        errors.push(labels.invalid_as(shown, "`selector` does not match template `labels`"));
    }
}

/// The pods of the template at `at` do not end by themselves.
pub(crate) fn runs_forever(at: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    let spec = at.child("spec");
    let policy = spec.child("restartPolicy");
    if policy.str() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = spec.child("activeDeadlineSeconds");
    if deadline.is_set() {
        errors.push(deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// The counts of a status that are counts of some of its replicas.
pub(crate) fn at_most(status: &At<'_>, bounds: &[(&str, &str, &str)], errors: &mut FieldErrors) {
    let count = |field: &str| status.child(field).i64().unwrap_or_default();
    for (field, bound, words) in bounds {
        if count(field) > count(bound) {
            let at = status.child(field);
            errors.push(at.invalid(format!("cannot be greater than {words}")));
        }
    }
}

/// Collisions of names are counted up.
pub(super) fn collisions(old: &api::Object, new: &api::Object, errors: &mut FieldErrors) {
    let count = |object| At::root(object, "status").child("collisionCount");
    let (before, now) = (count(old).i64(), count(new).i64());
    if before.is_some_and(|before| now.unwrap_or_default() < before) {
        errors.push(count(new).invalid_as(now.unwrap_or_default(), "cannot be decremented"));
    }
}

/// Warnings about the template, where a write changes the spec.
pub(crate) fn warnings(op: &Operation<'_>, new: &api::Object) -> Vec<String> {
    match changes(op, new, "spec") {
        true => pod::warnings(&At::root(new, "spec").child("template").child("spec")),
        false => Vec::new(),
    }
}

/// Whether a write makes or changes `field`.
pub(crate) fn changes(op: &Operation<'_>, new: &api::Object, field: &str) -> bool {
    match op {
        Operation::Create => true,
        Operation::Update { old } => old.at(field) != new.at(field),
        Operation::UpdateStatus { .. } | Operation::Delete { .. } => false,
    }
}

/// What to say of the name of something whose pods are named after it.
pub(crate) fn name_warnings(op: &Operation<'_>, new: &api::Object) -> Vec<String> {
    let wrong = match op {
        Operation::Create => is_dns1123_label(new.name()),
        _ => Vec::new(),
    };
    match wrong.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            wrong.join(" ")
        )],
    }
}

/// The wide cells: containers, images, selector.
pub(crate) fn wide_cells(object: &api::Object) -> Vec<Value> {
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
