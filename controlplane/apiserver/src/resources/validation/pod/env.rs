//! Environment variables and where their values come from.

use api::FieldErrors;

use super::super::At;
use super::super::names::{self, is_config_map_key};
use super::downward;

/// `env` of a container.
pub(super) fn env(at: &At<'_>, errors: &mut FieldErrors) {
    for variable in at.items() {
        let name = variable.child("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else {
            name.check(errors, names::env_var);
        }
        value_from(&variable, errors);
    }
}

fn value_from(variable: &At<'_>, errors: &mut FieldErrors) {
    let from = variable.child("valueFrom");
    if !from.is_set() {
        return;
    }
    let sources = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    let count = sources.iter().filter(|s| from.child(s).is_set()).count();
    downward::field(&from.child("fieldRef"), downward::ENV_FIELDS, errors);
    downward::resource(&from.child("resourceFieldRef"), false, errors);
    key_reference(&from.child("configMapKeyRef"), errors);
    key_reference(&from.child("secretKeyRef"), errors);
    if count == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(from.invalid_as("", detail));
    } else if !variable.child("value").is_empty() {
        errors.push(from.invalid_as("", "may not be specified when `value` is not empty"));
    } else if count > 1 {
        errors.push(from.invalid_as("", "may not have more than one field specified at a time"));
    }
}

fn key_reference(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_set() {
        at.child("name").require(errors, |_| Vec::new());
        at.child("key").require(errors, is_config_map_key);
    }
}

/// `envFrom` of a container.
pub(super) fn env_from(at: &At<'_>, errors: &mut FieldErrors) {
    for source in at.items() {
        source.child("prefix").check_if_set(errors, names::env_var);
        let found: Vec<_> = ["configMapRef", "secretRef"]
            .iter()
            .map(|s| source.child(s))
            .filter(At::is_set)
            .collect();
        for reference in &found {
            reference.child("name").require(errors, |_| Vec::new());
        }
        match found.len() {
            0 => errors.push(at.invalid_as("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(at.invalid_as("", "may not have more than one field specified at a time")),
        }
    }
}
