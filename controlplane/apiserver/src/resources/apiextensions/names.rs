//! The names of a custom kind.

use api::FieldErrors;
use api::names::is_dns1035_label;

use crate::resources::validation::At;

/// Checks the form of names that are given; `spec` must give more than `status` has to.
pub(super) fn form(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["plural", "singular"] {
        let name = at.child(field);
        label(&name, name.str(), "", errors);
    }
    for field in ["kind", "listKind"] {
        let name = at.child(field);
        let words = "may have mixed case, but should otherwise match: ";
        label(&name, &name.str().to_ascii_lowercase(), words, errors);
    }
    for short in at.child("shortNames").items() {
        item(&short, errors);
    }
    let (kind, list) = (at.child("kind"), at.child("listKind"));
    if !kind.is_empty() && kind.str() == list.str() {
        errors.push(list.invalid("kind and listKind may not be the same"));
    }
    for category in at.child("categories").items() {
        item(&category, errors);
    }
}

fn label(at: &At<'_>, text: &str, words: &str, errors: &mut FieldErrors) {
    let problems = is_dns1035_label(text);
    if !text.is_empty() && !problems.is_empty() {
        errors.push(at.invalid(format!("{words}{}", problems.join(","))));
    }
}

fn item(at: &At<'_>, errors: &mut FieldErrors) {
    let problems = is_dns1035_label(at.str());
    if !problems.is_empty() {
        errors.push(at.invalid(problems.join(",")));
    }
}

/// The names that a definition must give.
pub(super) fn required(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = at.child(field);
        if name.is_empty() {
            errors.push(name.required(""));
        }
    }
}
