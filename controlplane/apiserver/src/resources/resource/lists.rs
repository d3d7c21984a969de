//! Lists and maps with an upper bound. What is too long is not looked into.

use std::collections::HashSet;
use std::hash::Hash;

use api::{FieldError, FieldErrors};
use serde_json::Value;

use crate::resources::validation::At;

/// At most `max` items, each by its rule.
pub(super) fn list(at: &At<'_>, max: usize, errors: &mut FieldErrors, mut rule: impl FnMut(&At<'_>, &mut FieldErrors)) {
    if at.len() > max {
        return errors.push(FieldError::too_many(at.path(), at.len(), max));
    }
    for item in at.items() {
        rule(&item, errors);
    }
}

/// A [`list`] whose items have different keys.
pub(super) fn set<'a, K: Hash + Eq + Into<Value> + Clone>(
    at: &At<'a>,
    max: usize,
    key: impl Fn(&At<'a>) -> K,
    errors: &mut FieldErrors,
    rule: impl FnMut(&At<'_>, &mut FieldErrors),
) {
    list(at, max, errors, rule);
    if at.len() > max {
        return;
    }
    let mut known = HashSet::new();
    for item in at.items() {
        let key = key(&item);
        if !known.insert(key.clone()) {
            errors.push(item.duplicate_as(key));
        }
    }
}

/// At most `max` entries, each by the rules over its key and its value.
pub(super) fn map(
    at: &At<'_>,
    max: usize,
    errors: &mut FieldErrors,
    key_rule: fn(&At<'_>, &str, &mut FieldErrors),
    mut rule: impl FnMut(&At<'_>, &mut FieldErrors),
) {
    if at.len() > max {
        return errors.push(FieldError::too_many(at.path(), at.len(), max));
    }
    for (key, value) in at.entries() {
        key_rule(at, key, errors);
        rule(&value, errors);
    }
}
