//! What may change in a Job: how many pods run at once, when it ends — and, while it is suspended and no pod runs, where
//! its pods will run and what they will ask for.

use api::{FieldErrors, Object};
use serde_json::{Map, Value};

use super::status::is;
use crate::resources::validation::At;

pub(super) fn rules(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let (before, spec) = (At::root(old, "spec"), At::root(new, "spec"));
    completions(&before, &spec, errors);
    let fixed = |field: &str, errors: &mut FieldErrors| spec.child(field).fixed(errors, &before.child(field));
    fixed("selector", errors);
    template(old, &before, &spec, errors);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        fixed(field, errors);
    }
}

fn completions(before: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    let (old, new) = (before.child("completions"), spec.child("completions"));
    if spec.child("completionMode").str() != "Indexed" {
        return new.fixed(errors, &old);
    }
    let elastic = new.i64() == spec.child("parallelism").i64();
    if new.is_set() && new.value() != old.value() && !elastic {
        errors.push(new.invalid("can only be modified in tandem with spec.parallelism"));
    }
}

fn template(old: &Object, before: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    let (was, now) = (before.child("template"), spec.child("template"));
    if was.value() == now.value() {
        return;
    }
    let (Some(Value::Object(was)), Some(Value::Object(template))) = (was.value(), now.value()) else {
        return errors.push(now.invalid("field is immutable"));
    };
    if !may_change_template(old) {
        return errors.push(now.invalid("field is immutable"));
    }
    // All of the metadata that a template has may change; of the spec, what decides where a pod runs and what it gets.
    let empty = Map::new();
    let part = |template| part_of(template, "spec").unwrap_or(&empty);
    let mut allowed = part(was).clone();
    liberate(&mut allowed, part(template));
    if allowed != *part(template) {
        errors.push(now.child("spec").invalid("field is immutable"));
    }
}

fn may_change_template(old: &Object) -> bool {
    let unstarted = old.at("status.startTime").is_none_or(Value::is_null) || is(old, "Suspended", "True");
    old.bool_at("spec.suspend") == Some(true) && unstarted && old.i64_at("status.active").unwrap_or_default() == 0
}

/// Takes over into the old spec what a new one may say otherwise.
fn liberate(old: &mut Map<String, Value>, new: &Map<String, Value>) {
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy(new, old, field);
    }
    affinity(old, part_of(new, "affinity"));
    for list in ["containers", "initContainers"] {
        resources(old.get_mut(list), new.get(list));
    }
}

fn affinity(old: &mut Map<String, Value>, new: Option<&Map<String, Value>>) {
    let Some(new) = new else {
        if let Some(affinity) = old.get_mut("affinity").and_then(Value::as_object_mut) {
            affinity.remove("nodeAffinity");
            if affinity.is_empty() {
                old.remove("affinity");
            }
        }
        return;
    };
    let affinity = old.entry("affinity").or_insert_with(|| Value::Object(Map::new()));
    if let Some(affinity) = affinity.as_object_mut() {
        copy(new, affinity, "nodeAffinity");
    }
}

/// The resources of containers of the same name at the same place, in lists of the same length.
fn resources(old: Option<&mut Value>, new: Option<&Value>) {
    let (Some(Value::Array(old)), Some(Value::Array(new))) = (old, new) else {
        return;
    };
    if old.len() != new.len() {
        return;
    }
    for (old, new) in old.iter_mut().zip(new) {
        let same = old.get("name") == new.get("name");
        if let (true, Some(old), Some(new)) = (same, old.as_object_mut(), new.as_object()) {
            copy(new, old, "resources");
        }
    }
}

fn copy(from: &Map<String, Value>, to: &mut Map<String, Value>, field: &str) {
    match from.get(field) {
        Some(value) => to.insert(field.to_owned(), value.clone()),
        None => to.remove(field),
    };
}

fn part_of<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Map<String, Value>> {
    map.get(field).and_then(Value::as_object)
}
