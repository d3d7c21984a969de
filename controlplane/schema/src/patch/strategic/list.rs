//! Lists: replaced, or merged item by item.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    Entry, PatchError, Tree,
    directive::{self, PATCH, error},
    merge_map, order,
};
use crate::model::Type;

/// Merges two lists by what the schema says of the field they are in.
pub(super) fn merge(original: Vec<Value>, patch: Vec<Value>, entry: &Entry<'_>) -> Result<Vec<Value>, PatchError> {
    if !entry.facts.merge {
        return Ok(patch.into_iter().filter_map(directive::stripped).collect());
    }
    match first(&original, &patch) {
        None => Ok(original),
        Some(Value::Object(_)) => {
            let Some(key) = entry.facts.merge_key else {
                return Err(error("cannot merge lists without merge key"));
            };
            merge_maps(original, patch, key, entry.item_type())
        }
        Some(Value::Array(_)) => Err(error("lists of lists are not supported")),
        Some(_) => Ok(merge_scalars(original, &patch)),
    }
}

fn first<'a>(original: &'a [Value], patch: &'a [Value]) -> Option<&'a Value> {
    original.first().or(patch.first())
}

/// Scalars are a set: the patch's are added, and stand in the patch's order.
fn merge_scalars(original: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let order: Vec<Value> = original.clone();
    let mut merged = original;
    let mut seen: HashSet<String> = HashSet::new();
    merged.extend(patch.iter().cloned());
    merged.retain(|value| seen.insert(value.to_string()));
    order::arrange(merged, patch, &order, None)
}

fn merge_maps(original: Vec<Value>, patch: Vec<Value>, key: &str, type_: &Type) -> Result<Vec<Value>, PatchError> {
    let (original, patch, replaced) = obey_items(original, patch, key)?;
    if replaced {
        return Ok(patch.into_iter().filter_map(directive::stripped).collect());
    }
    let order = order::keys_only(&original, key);
    let patched = order::keys_only(&patch, key);
    let merged = merge_items(original, patch, key, type_)?;
    Ok(order::arrange(merged, &patched, &order, Some(key)))
}

/// Takes the items out of the patch that direct: deletions, and the replacement of the whole list.
fn obey_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>, bool), PatchError> {
    let (mut kept, mut replaced) = (Vec::with_capacity(patch.len()), false);
    let mut deleted = HashSet::new();
    for item in patch {
        let Value::Object(map) = item else {
            return Err(error(
                "the items of a patch's list must all be maps, as those of the object's list are",
            ));
        };
        match map.get(PATCH).map(Value::as_str) {
            None => kept.push(Value::Object(map)),
            Some(Some("delete")) => {
                deleted.insert(
                    map.get(key)
                        .map(Value::to_string)
                        .ok_or_else(|| no_merge_key(&map, key))?,
                );
            }
            Some(Some("replace")) => replaced = true,
            Some(Some("merge")) => return Err(error("merging lists cannot yet be specified in the patch")),
            Some(_) => return Err(directive::bad_type(map.get(PATCH).unwrap_or(&Value::Null), &map)),
        }
    }
    if !deleted.is_empty() {
        original.retain(|item| item.get(key).is_none_or(|name| !deleted.contains(&name.to_string())));
    }
    Ok((original, kept, replaced))
}

fn merge_items(original: Vec<Value>, patch: Vec<Value>, key: &str, type_: &Type) -> Result<Vec<Value>, PatchError> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(original.len());
    for (index, item) in original.iter().enumerate() {
        if let Some(name) = item.get(key) {
            places.entry(name.to_string()).or_insert(index);
        }
    }
    let mut merged = original;
    for item in patch {
        let Value::Object(item) = item else { continue };
        let name = item
            .get(key)
            .map(Value::to_string)
            .ok_or_else(|| no_merge_key(&item, key))?;
        match places.get(&name).and_then(|index| merged.get_mut(*index)) {
            Some(Value::Object(into)) => *into = merge_map(std::mem::take(into), item, type_)?,
            _ => {
                places.insert(name, merged.len());
                merged.push(Value::Object(directive::without(item)));
            }
        }
    }
    Ok(merged)
}

pub(super) fn no_merge_key(map: &Tree, key: &str) -> PatchError {
    error(format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(map.clone())
    ))
}

/// Obeys `$deleteFromPrimitiveList`.
pub(super) fn delete_items(original: &mut Tree, name: &str, items: &Value) -> Result<(), PatchError> {
    let Some(items) = items.as_array() else {
        return Err(error("invalid patch format of primitive list"));
    };
    let gone: HashSet<String> = items.iter().map(Value::to_string).collect();
    if let Some(list) = original.get_mut(name).and_then(Value::as_array_mut) {
        list.retain(|item| !gone.contains(&item.to_string()));
    }
    Ok(())
}
