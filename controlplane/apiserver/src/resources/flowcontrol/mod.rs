//! Kinds of this group; see each file.

pub(crate) mod flow_schema;
pub(crate) mod priority_level_configuration;
pub(crate) mod standard;

use std::collections::HashSet;

use api::{FieldErrors, Object};

use crate::resources::validation::At;

/// The conditions in a status: each type once, none unnamed; `unnamed` is what to say of those.
fn conditions(object: &Object, unnamed: &str, errors: &mut FieldErrors) {
    let mut known = HashSet::new();
    for condition in At::root(object, "status").child("conditions").items() {
        let kind = condition.child("type");
        if !known.insert(kind.str()) {
            errors.push(kind.duplicate());
        }
        if kind.is_empty() {
            errors.push(kind.required(unnamed));
        }
    }
}
