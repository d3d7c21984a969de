//! What validating and mutating policies have in common: their parameters, what they match, their variables.

use api::{FieldErrors, GroupVersion, Object};
use schema::cel::CompileError;
use serde_json::Value;

use super::conditions::match_conditions;
use super::{FAILURE_POLICIES, rules};
use crate::admission::dynamic::environment::Compiler;
use crate::registry::resource::Operation;
use crate::resources::validation::At;
use crate::resources::validation::names::{is_dns1035_label, is_dns1123_subdomain};

/// The first part of a policy's spec, as far as its variables.
pub(super) fn head(op: &Operation<'_>, spec: &At<'_>, compiler: &Compiler, errors: &mut FieldErrors) {
    spec.child("failurePolicy").require_one_of(errors, FAILURE_POLICIES);
    let parameters = spec.child("paramKind");
    if parameters.is_set() {
        param_kind(&parameters, errors);
    }
    constraints(&spec.child("matchConstraints"), errors);
    let same = |old: &Object| {
        let old = At::root(old, "spec");
        ["paramKind", "matchConditions"]
            .iter()
            .all(|field| old.child(field).value() == spec.child(field).value())
    };
    if !op.old().is_some_and(same) {
        match_conditions(&spec.child("matchConditions"), compiler, errors);
    }
}

fn constraints(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return errors.push(at.required(""));
    }
    rules::match_resources(at, errors);
    let rules = at.child("resourceRules");
    if rules.is_empty() {
        errors.push(rules.required(""));
    }
}

fn param_kind(at: &At<'_>, errors: &mut FieldErrors) {
    let (version, kind) = (at.child("apiVersion"), at.child("kind"));
    if version.is_empty() {
        errors.push(version.required(""));
    } else {
        group_version(&version, errors);
    }
    let messages = is_dns1035_label(&kind.str().to_lowercase());
    if kind.is_empty() {
        errors.push(kind.required(""));
    } else if !messages.is_empty() {
        let detail = format!(
            "may have mixed case, but should otherwise match: {}",
            messages.join(",")
        );
        errors.push(kind.invalid(detail));
    }
}

fn group_version(at: &At<'_>, errors: &mut FieldErrors) {
    let parsed = match at.str().parse::<GroupVersion>() {
        Ok(parsed) => parsed,
        Err(error) => return errors.push(at.invalid(error.to_string())),
    };
    let group = is_dns1123_subdomain(&parsed.group);
    if !parsed.group.is_empty() && !group.is_empty() {
        errors.push(at.invalid_as(parsed.group.as_str(), group.join(",")));
    }
    let version = is_dns1035_label(&parsed.version);
    if parsed.version.is_empty() {
        errors.push(at.invalid("version must be specified"));
    } else if !version.is_empty() {
        errors.push(at.invalid_as(parsed.version.as_str(), version.join(",")));
    }
}

/// `variables`, with what is wrong with the expression of each.
pub(super) fn variables(at: &At<'_>, declared: Vec<Option<CompileError>>, errors: &mut FieldErrors) {
    for (variable, wrong) in at.items().iter().zip(declared) {
        let (name, expression) = (variable.child("name"), variable.child("expression"));
        if name.str().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.str()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        if expression.str().trim().is_empty() {
            errors.push(expression.required("expression is not specified"));
        } else if let Some(wrong) = wrong {
            errors.push(expression.invalid(wrong.to_string()));
        }
    }
}

fn is_identifier(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && text.chars().all(letter) && !schema::cel::is_reserved(text)
}

/// `group/version/Kind` of a policy's parameters, for its row.
pub(super) fn param_kind_cell(policy: &Object) -> Value {
    let part = |field: &str| policy.str_at(&format!("spec.paramKind.{field}")).unwrap_or_default();
    match policy.at("spec.paramKind") {
        Some(_) => format!("{}/{}", part("apiVersion"), part("kind")).into(),
        None => "<unset>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_s_name_is_an_identifier_of_the_language() {
        for (name, good) in [
            ("a_1", true),
            ("_", true),
            ("1a", false),
            ("in", false),
            ("a-b", false),
            ("inn", true),
        ] {
            assert_eq!(is_identifier(name), good, "{name}");
        }
    }
}
