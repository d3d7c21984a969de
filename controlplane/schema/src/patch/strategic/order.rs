//! In which order the items of a merged list stand.
//!
//! The caller's items stand as the caller listed them; those that only the server has keep their order among themselves,
//! and stay in front of the caller's items that they were in front of.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    PatchError, Tree,
    directive::{self, PATCH, SET_ORDER, error},
    entry, list,
};
use crate::model::Type;

/// Obeys all `$setElementOrder` directives of a map, merging the lists they are about.
pub(super) fn apply(original: &mut Tree, patch: &mut Tree, type_: &Type) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for key in directives {
        let wanted = patch.remove(&key).unwrap_or_default();
        let name = directive::list_name(&key, SET_ORDER)?;
        let Value::Array(wanted) = wanted else {
            return Err(error("invalid patch format of setElementOrder list"));
        };
        apply_one(original, patch, type_, name, &wanted)?;
    }
    Ok(())
}

fn apply_one(
    original: &mut Tree,
    patch: &mut Tree,
    type_: &Type,
    name: &str,
    wanted: &[Value],
) -> Result<(), PatchError> {
    let entry = entry(type_, name);
    let key = entry.facts.merge_key;
    let (stored, patched) = (take_list(original, name)?, take_list(patch, name)?);
    check(patched.as_deref().unwrap_or_default(), wanted, key)?;
    let order = stored
        .as_deref()
        .map(|list| key.map_or_else(|| list.to_vec(), |key| keys_only(list, key)));
    let merged = match (stored, patched) {
        (None, None) => return Ok(()),
        (Some(stored), None) => stored,
        (None, Some(patched)) => patched.into_iter().filter_map(directive::stripped).collect(),
        (Some(stored), Some(patched)) => list::merge(stored, patched, &entry)?,
    };
    let arranged = arrange(merged, wanted, order.as_deref().unwrap_or_default(), key);
    original.insert(name.to_owned(), Value::Array(arranged));
    Ok(())
}

fn take_list(map: &mut Tree, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match map.remove(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(Vec::new())),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(error(format!("expected a list in {name}"))),
    }
}

/// A patch's items must stand in the order that the patch itself asks for.
fn check(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let mut rest = wanted.iter().map(|item| identity(item, key));
    let deletes = |item: &&Value| item.get(PATCH).is_some();
    for item in patch.iter().filter(|item| !deletes(item)) {
        let name = identity(item, key);
        if !rest.any(|wanted| wanted == name) {
            let (patch, wanted) = (Value::from(patch.to_vec()), Value::from(wanted.to_vec()));
            return Err(error(format!(
                "The order in patch list:\n{patch}\n doesn't match {SET_ORDER} list:\n{wanted}\n"
            )));
        }
    }
    Ok(())
}

fn identity(item: &Value, key: Option<&str>) -> String {
    key.map_or_else(
        || item.to_string(),
        |key| item.get(key).map(Value::to_string).unwrap_or_default(),
    )
}

/// The items reduced to what names them: enough to remember an order by.
pub(super) fn keys_only(list: &[Value], key: &str) -> Vec<Value> {
    let reduce = |item: &Value| {
        let name = item.get(key).map(|name| (key.to_owned(), name.clone()));
        Value::Object(name.into_iter().collect::<Map<_, _>>())
    };
    list.iter().map(reduce).collect()
}

/// Puts `merged` in order: items of `wanted` as they stand there, the others as they stand in `stored`.
pub(super) fn arrange(merged: Vec<Value>, wanted: &[Value], stored: &[Value], key: Option<&str>) -> Vec<Value> {
    let (wanted, stored) = (places(wanted, key), places(stored, key));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for item in merged {
        let name = identity(&item, key);
        let was = stored.get(&name).copied();
        match wanted.get(&name) {
            Some(place) => ours.push((*place, was, item)),
            None => theirs.push((was.unwrap_or(usize::MAX), was, item)),
        }
    }
    ours.sort_by_key(|(place, ..)| *place);
    theirs.sort_by_key(|(place, ..)| *place);
    interleave(theirs, ours)
}

/// Where each item stands; the first of several that are named the same counts.
fn places(list: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (place, item) in list.iter().enumerate() {
        places.entry(identity(item, key)).or_insert(place);
    }
    places
}

type Placed = (usize, Option<usize>, Value);

/// Takes from `theirs` while its next item stood before the next of `ours`.
fn interleave(theirs: Vec<Placed>, ours: Vec<Placed>) -> Vec<Value> {
    let mut out = Vec::with_capacity(theirs.len() + ours.len());
    let mut theirs = theirs.into_iter().peekable();
    for (_, was, item) in ours {
        while theirs
            .peek()
            .is_some_and(|(_, stood, _)| stood.zip(was).is_some_and(|(stood, was)| stood < was))
        {
            out.extend(theirs.next().map(|(.., item)| item));
        }
        out.push(item);
    }
    out.extend(theirs.map(|(.., item)| item));
    out
}
