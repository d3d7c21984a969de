//! What may change in a pod once it exists: images, a shorter deadline, more tolerations, fewer gates. Everything else
//! is decided when the pod is made.

use api::FieldErrors;
use serde_json::Value;

use super::super::At;

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Compares the `spec` of a stored pod with that of its update.
pub(crate) fn spec(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    for field in ["containers", "initContainers"] {
        if old.child(field).len() != new.child(field).len() {
            return errors.push(
                new.child(field)
                    .forbidden("pod updates may not add or remove containers"),
            );
        }
    }
    if !deadline(
        &old.child("activeDeadlineSeconds"),
        &new.child("activeDeadlineSeconds"),
        errors,
    ) {
        return;
    }
    tolerations(&old.child("tolerations"), &new.child("tolerations"), errors);
    gates(&old.child("schedulingGates"), &new.child("schedulingGates"), errors);
    let (Some(old_value), Some(new_value)) = (old.value(), new.value()) else {
        return;
    };
    let munged = with_changeable_fields_of(old_value, new_value);
    let mut changed = Vec::new();
    differences(&munged, old_value, "", &mut changed);
    if !changed.is_empty() {
        let detail = format!(
            "pod updates may not change fields other than {CHANGEABLE}\n{}",
            changed.join("\n")
        );
        errors.push(new.forbidden(detail));
    }
}

/// A deadline may appear or shrink. `false` when the rest of the comparison would only repeat the error.
fn deadline(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) -> bool {
    match (old.i64(), new.i64()) {
        (_, Some(n)) if !(0..=i64::from(i32::MAX)).contains(&n) => new.within(errors, 0, i64::from(i32::MAX)),
        (Some(before), Some(n)) if before < n => {
            errors.push(new.invalid("must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(new.invalid_as(Value::Null, detail));
            return true;
        }
        _ => return true,
    }
    false
}

/// Tolerations may be added; of those there are, only the seconds may change.
fn tolerations(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    let without_seconds = |at: &At<'_>| {
        let mut value = at.value().cloned().unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        value
    };
    let kept: Vec<Value> = new.items().iter().map(without_seconds).collect();
    if old
        .items()
        .iter()
        .any(|toleration| !kept.contains(&without_seconds(toleration)))
    {
        errors.push(new.forbidden("existing toleration can not be modified except its tolerationSeconds"));
    }
}

/// Gates may only be taken away.
fn gates(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    let known: Vec<&str> = old.items().iter().map(|gate| gate.child("name").str()).collect();
    for gate in new.items() {
        if !known.contains(&gate.child("name").str()) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.child("name").str()
            );
            errors.push(gate.forbidden(detail));
        }
    }
}

/// `new` with every field that may change put back to what `old` has, so that what still differs may not.
fn with_changeable_fields_of(old: &Value, new: &Value) -> Value {
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        let images = old
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|c| c.get("image"));
        let containers = munged.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, image) in containers.zip(images) {
            put_back(container, "image", image);
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        put_back(&mut munged, field, old.get(field));
    }
    let negative = old
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|n| n < 0);
    if negative && new.get("terminationGracePeriodSeconds").and_then(Value::as_i64) == Some(1) {
        put_back(
            &mut munged,
            "terminationGracePeriodSeconds",
            old.get("terminationGracePeriodSeconds"),
        );
    }
    if old.get("schedulingGates").is_some_and(|gates| !is_nothing(gates)) && only_adds("nodeSelector", old, new) {
        // Whoever holds the gate may narrow the choice of nodes (KEP-3838).
        put_back(&mut munged, "nodeSelector", old.get("nodeSelector"));
    }
    munged
}

fn only_adds(field: &str, old: &Value, new: &Value) -> bool {
    let entries = old.get(field).and_then(Value::as_object).into_iter().flatten();
    entries
        .into_iter()
        .all(|(key, value)| new.get(field).and_then(|map| map.get(key)) == Some(value))
}

fn put_back(target: &mut Value, field: &str, value: Option<&Value>) {
    let Some(map) = target.as_object_mut() else { return };
    match value {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

/// One line per leaf that differs: `  containers[0].command: ["a"] != ["b"]` (new, then old). Absent and empty are alike.
pub(crate) fn differences(new: &Value, old: &Value, path: &str, lines: &mut Vec<String>) {
    if new == old || (is_nothing(new) && is_nothing(old)) {
        return;
    }
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let child = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let side = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&side(a), &side(b), &child, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(x, y, &format!("{path}[{i}]"), lines);
            }
        }
        _ => lines.push(format!("  {path}: {new} != {old}")),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
