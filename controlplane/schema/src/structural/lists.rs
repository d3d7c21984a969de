//! Lists that are sets or maps: no item, or no key, twice.

use std::collections::{HashMap, HashSet};

use api::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};

use super::{Additional, Node, push};
use crate::facts::ListKind;

/// Duplicates in the lists of an object, as each appears for the second time.
pub(super) fn duplicates(map: &Map<String, Value>, node: &Node, at: &Path, errors: &mut FieldErrors) {
    for (key, value) in map {
        match (node.property(key), &node.additional) {
            (Some(property), _) => below(value, property, &at.child(key), errors),
            (None, Additional::Schema(schema)) => below(value, schema, &at.key(key), errors),
            _ => {}
        }
    }
}

fn below(value: &Value, node: &Node, at: &Path, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => duplicates(map, node, at, errors),
        Value::Array(list) => {
            match &node.list {
                ListKind::Set => repeated(list.iter().cloned(), at, errors),
                ListKind::Map(keys) => repeated_keys(list, keys, at, errors),
                ListKind::Unsaid | ListKind::Atomic => {}
            }
            if let Some(items) = &node.items {
                for (index, item) in list.iter().enumerate() {
                    below(item, items, &at.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn repeated(values: impl Iterator<Item = Value>, at: &Path, errors: &mut FieldErrors) {
    let mut seen = HashMap::new();
    for (index, value) in values.enumerate() {
        let times: &mut usize = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            push(errors, FieldError::duplicate(&at.index(index), value));
        }
    }
}

fn repeated_keys(list: &[Value], keys: &[std::borrow::Cow<'static, str>], at: &Path, errors: &mut FieldErrors) {
    let wrong = list.iter().position(|item| !item.is_object() && !item.is_null());
    if let Some(index) = wrong {
        let value = list.get(index).cloned().unwrap_or_default();
        let why = "must be an object for an array of list-type map";
        push(errors, FieldError::invalid(&at.index(index), value, why));
        return;
    }
    repeated(list.iter().map(|item| Value::Object(key_of(item, keys))), at, errors);
}

/// The part of an item by which it is told from others.
pub(super) fn key_of(item: &Value, keys: &[std::borrow::Cow<'static, str>]) -> Map<String, Value> {
    keys.iter()
        .filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())))
        .collect()
}

/// The old item that an item of a list replaces, for lists whose items can be told apart.
pub(super) struct Correlated<'a> {
    keys: Option<&'a [std::borrow::Cow<'static, str>]>,
    old: HashMap<String, &'a Value>,
}

impl<'a> Correlated<'a> {
    pub(super) fn new(node: &'a Node, old: Option<&'a Value>) -> Self {
        let keys = match &node.list {
            ListKind::Map(keys) => Some(keys.as_slice()),
            _ => None,
        };
        let list = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let old = keys.map_or_else(HashMap::new, |keys| {
            let entry = |item: &'a Value| (Value::Object(key_of(item, keys)).to_string(), item);
            list.iter().map(entry).collect()
        });
        Self { keys, old }
    }

    pub(super) fn of(&self, item: &Value) -> Option<&'a Value> {
        let keys = self.keys.filter(|_| !self.old.is_empty())?;
        self.old.get(&Value::Object(key_of(item, keys)).to_string()).copied()
    }
}

/// Whether a list has two equal texts.
pub(super) fn has_repeats<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = HashSet::new();
    !texts.all(|text| seen.insert(text))
}
