//! A list of `metav1.Condition`.

use std::collections::HashSet;

use api::names::regex_error;
use api::{FieldError, FieldErrors};

use super::At;
use super::labels::label_name;

const STATUSES: &[&str] = &["False", "True", "Unknown"];
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// Conditions, each type once.
pub(crate) fn conditions(at: &At<'_>, errors: &mut FieldErrors) {
    let mut types = HashSet::new();
    for condition in at.items() {
        let kind = condition.child("type");
        if !types.insert(kind.str()) {
            errors.push(condition.duplicate_as(kind.str()));
        }
        one(&condition, errors);
    }
}

fn one(at: &At<'_>, errors: &mut FieldErrors) {
    let kind = at.child("type");
    if kind.is_empty() {
        errors.push(kind.required("is required"));
    } else {
        label_name(&kind, kind.str(), errors);
    }
    at.child("status").require_one_of(errors, STATUSES);
    let observed = at.child("observedGeneration");
    if observed.i64().is_some_and(|generation| generation < 0) {
        errors.push(observed.invalid("must be greater than or equal to zero"));
    }
    let since = at.child("lastTransitionTime");
    if since.is_empty() {
        errors.push(since.required(""));
    }
    let reason = at.child("reason");
    reason.require(errors, reason_word);
    for (field, max) in [(reason, MAX_REASON), (at.child("message"), MAX_MESSAGE)] {
        if field.str().len() > max {
            errors.push(FieldError::too_long(field.path(), max));
        }
    }
}

fn reason_word(text: &str) -> Vec<String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || "_,:".contains(c);
    let ends = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let whole =
        text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(letters) && text.ends_with(ends);
    if whole {
        return Vec::new();
    }
    vec![regex_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{messages, object};

    #[test]
    fn a_condition_says_what_since_when_and_why() {
        let status = object(json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "Fine", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "Maybe", "reason": "1", "observedGeneration": -1},
        ]}}));
        let mut errors = FieldErrors::new();
        conditions(&At::root(&status, "status").child("conditions"), &mut errors);
        let found = messages(errors);
        let expected = [
            "status.conditions[1]: Duplicate value: \"Ready\"",
            "status.conditions[1].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            "status.conditions[1].lastTransitionTime: Required value",
        ];
        assert_eq!(found.get(..4).expect("the first ones"), expected);
        assert!(
            found
                .last()
                .is_some_and(|last| last.starts_with("status.conditions[1].reason: Invalid value: \"1\""))
        );
    }
}
