//! From `kubectl apply` to `kubectl apply --server-side`: the configuration that the client keeps in an annotation says
//! which fields were its own. Only for the manager `kubectl`, as Kubernetes has it.

use api::Object;
use serde_json::Value;

use super::{
    Writer, compare::compare, conflict::Conflicts, element::push_json, extract::extract, set::Set, validate::validate,
};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const KUBECTL: &str = "kubectl";
/// Of all annotations of an object together, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The conflicts that remain when the fields do not count that the client applied itself and that are still so.
pub(super) fn excuse<'a>(writer: &Writer<'_>, live: &Object, conflicts: Vec<Conflicts<'a>>) -> Vec<Conflicts<'a>> {
    let last = match (writer.name, live.annotation(ANNOTATION)) {
        (KUBECTL, Some(text)) => Object::from_slice(text.as_bytes()).ok(),
        _ => None,
    };
    let Some(last) = last.filter(|last| last.api_version() == writer.version) else {
        return conflicts;
    };
    let Some(allowed) = still_so(writer, &last, live) else {
        return conflicts;
    };
    let left = conflicts.into_iter().map(|conflict| Conflicts {
        manager: conflict.manager,
        fields: conflict.fields.difference(&allowed),
    });
    left.filter(|conflict| !conflict.fields.is_empty()).collect()
}

/// The fields of the configuration that the live object has unchanged.
fn still_so<'a>(writer: &Writer<'a>, last: &'a Object, live: &'a Object) -> Option<Set<'a>> {
    if validate(last.map(), writer.schema).is_some() {
        return None;
    }
    let changes = compare(last.map(), live.map(), writer.schema).ok()?;
    let set = extract(last.map(), writer.schema);
    Some(
        set.difference(&changes.modified)
            .difference(&changes.added)
            .difference(&changes.removed),
    )
}

/// Brings an object's annotation up to the configuration just applied, if it has the annotation, so that client-side apply
/// can take over again.
pub(super) fn keep_current(writer: &Writer<'_>, object: &mut Object, config: &Object) {
    let annotated = object.annotation(ANNOTATION).is_some_and(|text| !text.is_empty());
    if writer.name != KUBECTL || !annotated {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.at_mut("metadata.annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let mut text = String::new();
    push_json(&mut text, config.map());
    text.push('\n');
    let others = object.annotations().filter(|(key, _)| *key != ANNOTATION);
    let size: usize = others.map(|(key, value)| key.len() + value.len()).sum();
    if size + ANNOTATION.len() + text.len() > MAX_ANNOTATIONS {
        object.remove_annotation(ANNOTATION);
    } else {
        object.set_annotation(ANNOTATION, &text);
    }
}
