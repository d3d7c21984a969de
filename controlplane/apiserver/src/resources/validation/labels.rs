//! Labels, annotations' keys, and label selectors.

use api::FieldErrors;

use super::At;
use super::names::{is_label_value, is_qualified_name};

/// A map of labels. Kubernetes reports a bad key or value at the map itself.
pub(crate) fn labels(at: &At<'_>, errors: &mut FieldErrors) {
    for (key, value) in at.entries() {
        label_name(at, key, errors);
        errors.extend(
            is_label_value(value.str())
                .into_iter()
                .map(|m| at.invalid_as(value.str(), m)),
        );
    }
}

/// A label's key, reported at `at`.
pub(crate) fn label_name(at: &At<'_>, key: &str, errors: &mut FieldErrors) {
    errors.extend(
        is_qualified_name(key)
            .into_iter()
            .map(|message| at.invalid_as(key, message)),
    );
}

/// A `metav1.LabelSelector`.
pub(crate) fn selector(at: &At<'_>, errors: &mut FieldErrors) {
    labels(&at.child("matchLabels"), errors);
    for requirement in at.child("matchExpressions").items() {
        let values = requirement.child("values");
        match requirement.child("operator").str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Exists" | "DoesNotExist" => {}
            _ => errors.push(requirement.child("operator").invalid("not a valid selector operator")),
        }
        let key = requirement.child("key");
        label_name(&key, key.str(), errors);
        for value in values.items() {
            value.check(errors, is_label_value);
        }
    }
}

/// Whether a selector selects everything because it says nothing.
pub(crate) fn selects_all(at: &At<'_>) -> bool {
    at.child("matchLabels").is_empty() && at.child("matchExpressions").is_empty()
}
