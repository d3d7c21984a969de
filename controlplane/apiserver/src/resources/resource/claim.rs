//! What a claim asks for: devices, constraints among them, and configuration for their drivers.
//!
//! Expressions that select devices are checked for their length; what they say, when they are compiled.

use api::{FieldError, FieldErrors};
use serde_json::Value;

use super::lists::{list, set};
use super::names::{Requests, fully_qualified};
use super::{MAX_CONFIG, MAX_REQUESTS, MAX_SELECTORS};
use crate::resources::validation::labels::label_name;
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain, is_label_value};
use crate::resources::validation::{At, driver};

const MAX_CONSTRAINTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_TOLERATIONS: usize = 16;
const MAX_EXPRESSION: usize = 10 * 1024;
const MAX_PARAMETERS: usize = 10 * 1024;
const MODES: &[&str] = &["All", "ExactCount"];
const OPERATORS: &[&str] = &["Equal", "Exists"];
pub(super) const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// A claim's spec at `at`.
pub(super) fn spec(at: &At<'_>, errors: &mut FieldErrors) {
    let devices = at.child("devices");
    let requests = Requests::of(&devices);
    let name = |at: &At<'_>| at.child("name").str().to_owned();
    set(&devices.child("requests"), MAX_REQUESTS, name, errors, request);
    list(&devices.child("constraints"), MAX_CONSTRAINTS, errors, |at, errors| {
        references(at, &requests, errors);
        constraint(at, errors);
    });
    list(&devices.child("config"), MAX_CONFIG, errors, |at, errors| {
        references(at, &requests, errors);
        configuration(at, errors);
    });
}

/// `requests`: to which requests something applies.
pub(super) fn references(at: &At<'_>, requests: &Requests<'_>, errors: &mut FieldErrors) {
    let name = |at: &At<'_>| at.str().to_owned();
    set(&at.child("requests"), MAX_REQUESTS, name, errors, |at, errors| {
        requests.reference(at, errors)
    });
}

fn request(at: &At<'_>, errors: &mut FieldErrors) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    at.child("name").check(errors, is_dns1123_label);
    let (exactly, first) = (at.child("exactly"), at.child("firstAvailable"));
    match (exactly.is_set(), !first.is_empty()) {
        (false, false) => errors.push(at.required(ONE)),
        (true, true) => errors.push(at.invalid_as(Value::Null, format!("{ONE}, but multiple fields are set"))),
        (true, false) => device(&exactly, errors),
        (false, true) => {
            let name = |at: &At<'_>| at.child("name").str().to_owned();
            set(&first, MAX_ALTERNATIVES, name, errors, |at, errors| {
                at.child("name").check(errors, is_dns1123_label);
                device(at, errors);
            });
        }
    }
}

/// What is asked of a device, and how many.
fn device(at: &At<'_>, errors: &mut FieldErrors) {
    at.child("deviceClassName").require(errors, is_dns1123_subdomain);
    selectors(&at.child("selectors"), errors);
    let (mode, count) = (at.child("allocationMode"), at.child("count"));
    let number = count.i64().unwrap_or_default();
    match mode.str() {
        "All" if number != 0 => errors.push(count.invalid("must not be specified when allocationMode is 'All'")),
        "All" => {}
        "ExactCount" if number <= 0 => errors.push(count.invalid_as(number, "must be greater than zero")),
        "ExactCount" => {}
        _ => errors.push(mode.not_supported(MODES)),
    }
    list(&at.child("tolerations"), MAX_TOLERATIONS, errors, toleration);
}

/// Expressions that a device must meet.
pub(super) fn selectors(at: &At<'_>, errors: &mut FieldErrors) {
    list(at, MAX_SELECTORS, errors, |at, errors| {
        let cel = at.child("cel");
        let expression = cel.child("expression");
        if !cel.is_set() {
            errors.push(cel.required(""));
        } else if expression.str().len() > MAX_EXPRESSION {
            errors.push(FieldError::too_long(expression.path(), MAX_EXPRESSION));
        }
    });
}

fn toleration(at: &At<'_>, errors: &mut FieldErrors) {
    let (key, value, operator) = (at.child("key"), at.child("value"), at.child("operator"));
    if !key.is_empty() {
        label_name(&key, key.str(), errors);
    }
    operator.require_one_of(errors, OPERATORS);
    match operator.str() {
        "Exists" if !value.is_empty() => errors.push(value.invalid("must be empty for operator `Exists`")),
        "Equal" => value.check(errors, is_label_value),
        _ => {}
    }
    let effect = at.child("effect");
    if !effect.is_empty() {
        effect.one_of(errors, EFFECTS);
    }
}

fn constraint(at: &At<'_>, errors: &mut FieldErrors) {
    let (same, different) = (at.child("matchAttribute"), at.child("distinctAttribute"));
    if same.is_set() {
        fully_qualified(&same, errors);
    } else if different.is_set() {
        fully_qualified(&different, errors);
    } else {
        errors.push(at.required(
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        ));
    }
}

/// Configuration for a driver, which alone understands it.
pub(super) fn configuration(at: &At<'_>, errors: &mut FieldErrors) {
    let opaque = at.child("opaque");
    if !opaque.is_set() {
        return errors.push(opaque.required(""));
    }
    driver::name(&opaque.child("driver"), errors);
    raw(&opaque.child("parameters"), MAX_PARAMETERS, errors);
}

/// A JSON object of any content.
pub(super) fn raw(at: &At<'_>, max: usize, errors: &mut FieldErrors) {
    match at.value() {
        None | Some(Value::Null) => errors.push(at.required("")),
        Some(value) if value.to_string().len() > max => errors.push(FieldError::too_long(at.path(), max)),
        Some(Value::Object(_)) => {}
        Some(_) => errors.push(at.invalid_as("<value omitted>", "must be a valid JSON object")),
    }
}
