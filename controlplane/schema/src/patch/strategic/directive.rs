//! The directives a patch may carry among its fields.

use std::collections::HashSet;

use serde_json::Value;

use super::{PatchError, Tree};

pub(super) const PATCH: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const DELETE_ITEMS: &str = "$deleteFromPrimitiveList";
pub(super) const SET_ORDER: &str = "$setElementOrder";

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(DELETE_ITEMS) || key.starts_with(SET_ORDER)
}

pub(super) fn error(message: impl Into<String>) -> PatchError {
    PatchError::Directive {
        message: message.into(),
    }
}

pub(super) fn bad_type(directive: &Value, map: &Tree) -> PatchError {
    let map = Value::Object(map.clone());
    error(format!(
        "unknown patch type '{}' in map: {map}",
        directive.as_str().unwrap_or_default()
    ))
}

/// The list that `$setElementOrder/containers` is about.
pub(super) fn list_name<'a>(key: &'a str, directive: &str) -> Result<&'a str, PatchError> {
    let what = if directive == SET_ORDER {
        "setElementOrder"
    } else {
        "primitive"
    };
    let name = key.strip_prefix(directive).and_then(|rest| rest.strip_prefix('/'));
    name.ok_or_else(|| error(format!("invalid patch format of {what} list")))
}

/// Obeys `$retainKeys`: what it does not name goes, and what the patch sets must be named.
pub(super) fn retain_keys(original: &mut Tree, patch: &mut Tree) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || error("invalid patch format of retainKeys");
    let kept: HashSet<&str> = keys
        .as_array()
        .ok_or_else(bad)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !is_directive(key) && !kept.contains(key.as_str()))
    {
        return Err(bad());
    }
    original.retain(|key, _| kept.contains(key.as_str()));
    Ok(())
}

/// A map without directives and nulls, and so all it holds.
pub(super) fn without(map: Tree) -> Tree {
    let entries = map
        .into_iter()
        .filter(|(key, value)| !is_directive(key) && !value.is_null());
    entries
        .filter_map(|(key, value)| Some((key, stripped(value)?)))
        .collect()
}

/// Whether a list's item is there to say `$patch: replace` of the whole list, and nothing else.
fn directs_its_list(item: &Value) -> bool {
    item.as_object()
        .is_some_and(|map| map.len() == 1 && map.get(PATCH).is_some_and(|directive| directive == "replace"))
}

/// A value that the patch adds, without what only directs; `None` when it is there to delete something.
pub(super) fn stripped(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.get(PATCH).is_some_and(|directive| directive == "delete") => None,
        Value::Object(map) => Some(Value::Object(without(map))),
        Value::Array(list) => {
            let items = list.into_iter().filter(|item| !directs_its_list(item));
            Some(Value::Array(items.filter_map(stripped).collect()))
        }
        other => Some(other),
    }
}
