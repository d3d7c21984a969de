//! Value validation, worded as Kubernetes' OpenAPI validator words it.
//!
//! An update is not held responsible for what it did not change: a value that equals its old one is not looked at.
//! Values in lists can be told apart only where the list is a map; elsewhere a changed list is looked at as a whole.

use api::{FieldError, FieldErrors, Object, Path, field::FieldErrorKind};
use serde_json::{Map, Value};

use super::{
    Additional, Findings, JsonType, Limits, Node, expressions,
    format::fits,
    lists::{self, Correlated},
    push, shown,
};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Status,
}

pub(super) fn object(root: &Node, object: &Object, old: Option<&Object>, part: Part) -> Findings {
    let mut findings = Findings::default();
    let errors = &mut findings.errors;
    match part {
        Part::Whole if old.is_some_and(|old| old.map() == object.map()) => {}
        Part::Whole => in_map(root, object.map(), old.map(Object::map), &Path::default(), errors),
        Part::Status => {
            if let (Some(node), Some(status)) = (root.property("status"), object.at("status")) {
                value(
                    node,
                    status,
                    old.and_then(|old| old.at("status")),
                    &Path::root("status"),
                    errors,
                );
            }
        }
    }
    if part == Part::Whole {
        embedded(object.map(), root, &Path::default(), errors);
    }
    let mut repeats = FieldErrors::new();
    lists::duplicates(object.map(), root, &Path::default(), &mut repeats);
    let mut known = FieldErrors::new();
    if let Some(old) = old.filter(|_| !repeats.is_empty()) {
        lists::duplicates(old.map(), root, &Path::default(), &mut known);
    }
    if known.is_empty() {
        errors.append(&mut repeats);
    }
    if root.has_rules {
        run_rules(root, object, old, &mut findings);
    }
    findings
}

/// CEL rules may rely on what the other validations promise, so they wait until those are satisfied.
fn run_rules(root: &Node, object: &Object, old: Option<&Object>, findings: &mut Findings) {
    let blocks = |error: &FieldError| {
        use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    if findings.errors.iter().any(blocks) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors \
                   to complete validation";
        push(
            &mut findings.errors,
            FieldError::invalid(&shown(&Path::default()), Value::Null, why),
        );
        return;
    }
    expressions::run(root, object, old, findings);
}

/// Errors of one value by itself, for defaults.
pub(super) fn alone(node: &Node, of: &Value, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    value(node, of, None, at, &mut errors);
    errors
}

fn value(node: &Node, of: &Value, old: Option<&Value>, at: &Path, errors: &mut FieldErrors) {
    if old == Some(of) {
        return;
    }
    check_type(node, of, at, errors);
    if of.is_null() {
        check_values(node, of, at, errors);
        return;
    }
    if let Some(limits) = &node.limits {
        check_combinations(limits, of, at, errors);
        match of {
            Value::String(text) => check_text(limits, text, at, errors),
            Value::Number(_) => check_number(limits, of, at, errors),
            Value::Array(list) => check_length(limits, list.len(), at, errors),
            _ => {}
        }
    }
    check_values(node, of, at, errors);
    match of {
        Value::Array(list) => {
            if let Some(items) = &node.items {
                let correlated = Correlated::new(node, old);
                for (index, item) in list.iter().enumerate() {
                    value(items, item, correlated.of(item), &at.index(index), errors);
                }
            }
        }
        Value::Object(map) => in_map(node, map, old.and_then(Value::as_object), at, errors),
        _ => {}
    }
}

fn in_map(
    node: &Node,
    map: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    at: &Path,
    errors: &mut FieldErrors,
) {
    if let Some(limits) = &node.limits {
        if at.as_str().is_empty() {
            // The root comes here at once, without a value around it.
            check_combinations_of_root(limits, map, errors);
        }
        check_size(limits, map.len(), at, errors);
        for name in limits.required.iter().filter(|name| !map.contains_key(&***name)) {
            push(errors, FieldError::required(&at.child(name), ""));
        }
    }
    for (key, of) in map {
        let old = old.and_then(|old| old.get(key));
        match (node.property(key), &node.additional) {
            (Some(property), _) => value(property, of, old, &at.child(key), errors),
            (None, Additional::Schema(schema)) => value(schema, of, old, &at.child(key), errors),
            (None, Additional::Bool(false)) => {
                let path = at.child(key);
                let why = format!("{path} in body is a forbidden property");
                push(errors, FieldError::invalid(&path, "", why));
            }
            _ => {}
        }
    }
}

fn check_combinations_of_root(limits: &Limits, map: &Map<String, Value>, errors: &mut FieldErrors) {
    let combined = !limits.all_of.is_empty() || !limits.any_of.is_empty() || !limits.one_of.is_empty();
    if combined || limits.not.is_some() {
        check_combinations(limits, &Value::Object(map.clone()), &Path::default(), errors);
    }
}

fn type_name(of: &Value) -> &'static str {
    match of {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_integer(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_integer(number: &serde_json::Number) -> bool {
    number.is_i64()
        || number.is_u64()
        || number
            .as_f64()
            .is_some_and(|float| float.fract() == 0.0 && float.abs() < 9e18)
}

fn check_type(node: &Node, of: &Value, at: &Path, errors: &mut FieldErrors) {
    if of.is_null() && (node.nullable || (node.type_.is_none() && !node.int_or_string)) {
        return;
    }
    let found = type_name(of);
    let (fits, wanted) = match node.type_ {
        _ if node.int_or_string => (matches!(found, "integer" | "string"), "integer,string"),
        None => return,
        Some(JsonType::Number) => (matches!(found, "number" | "integer"), "number"),
        Some(type_) => (found == type_.name(), type_.name()),
    };
    if !fits {
        let why = format!("{} must be of type {wanted}: \"{found}\"", body(at));
        push(errors, FieldError::type_invalid(&shown(at), found, why));
    }
}

/// As errors name a place.
fn body(at: &Path) -> String {
    format!("{at} in body")
}

fn check_values(node: &Node, of: &Value, at: &Path, errors: &mut FieldErrors) {
    let Some(values) = node.limits.as_ref().and_then(|limits| limits.values.as_ref()) else {
        return;
    };
    if of.is_null() && node.nullable || values.iter().any(|value| same(value, of)) {
        return;
    }
    let supported: Vec<String> = values
        .iter()
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
    push(errors, FieldError::not_supported(&shown(at), of.clone(), &supported));
}

/// Numbers are the same by value.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && a.as_f64() == b.as_f64() && b.is_number())
}

fn check_text(limits: &Limits, text: &str, at: &Path, errors: &mut FieldErrors) {
    let length = text.chars().count() as u64;
    if let Some(max) = limits.max_length.filter(|max| length > *max) {
        push(
            errors,
            FieldError::too_long(&shown(at), usize::try_from(max).unwrap_or(usize::MAX)),
        );
    }
    if let Some(min) = limits.min_length.filter(|min| length < *min) {
        let why = format!("{} should be at least {min} chars long", body(at));
        push(errors, FieldError::invalid(&shown(at), text, why));
    }
    if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        let why = format!("{} should match '{}'", body(at), pattern.source());
        push(errors, FieldError::invalid(&shown(at), text, why));
    }
    if let Some(format) = limits.format.as_ref().filter(|format| !fits(format, text)) {
        let why = format!("{} must be of type {format}: {}", body(at), api::text::quote(text));
        push(errors, FieldError::type_invalid(&shown(at), text, why));
    }
}

fn check_number(limits: &Limits, of: &Value, at: &Path, errors: &mut FieldErrors) {
    let Some(number) = of.as_f64() else { return };
    let mut refuse = |why: String| {
        let why = format!("{} should be {why}", body(at));
        push(errors, FieldError::invalid(&shown(at), of.clone(), why));
    };
    if let Some(factor) = limits.multiple_of.filter(|factor| *factor > 0.0) {
        let quotient = number / factor;
        if (quotient - quotient.round()).abs() > f64::EPSILON * quotient.abs().max(1.0) {
            refuse(format!("a multiple of {factor}"));
        }
    }
    match limits.maximum {
        Some(max) if limits.exclusive_maximum && number >= max => refuse(format!("less than {max}")),
        Some(max) if number > max => refuse(format!("less than or equal to {max}")),
        _ => {}
    }
    match limits.minimum {
        Some(min) if limits.exclusive_minimum && number <= min => refuse(format!("greater than {min}")),
        Some(min) if number < min => refuse(format!("greater than or equal to {min}")),
        _ => {}
    }
}

fn check_length(limits: &Limits, length: usize, at: &Path, errors: &mut FieldErrors) {
    bounds(length, limits.min_items, limits.max_items, "items", at, errors);
}

fn check_size(limits: &Limits, size: usize, at: &Path, errors: &mut FieldErrors) {
    bounds(
        size,
        limits.min_properties,
        limits.max_properties,
        "properties",
        at,
        errors,
    );
}

fn bounds(count: usize, min: Option<u64>, max: Option<u64>, what: &str, at: &Path, errors: &mut FieldErrors) {
    if let Some(min) = min.filter(|min| (count as u64) < *min) {
        let why = format!("{} should have at least {min} {what}", body(at));
        push(errors, FieldError::invalid(&shown(at), count, why));
    }
    if let Some(max) = max.filter(|max| count as u64 > *max) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        push(errors, FieldError::too_many(&shown(at), count, max));
    }
}

/// `allOf`, `anyOf`, `oneOf`, `not`: besides that none fits, the errors of the alternative that came nearest are told.
fn check_combinations(limits: &Limits, of: &Value, at: &Path, errors: &mut FieldErrors) {
    let place = api::text::quote(at.as_str());
    let refuse = |errors: &mut FieldErrors, why: String| {
        push(
            errors,
            FieldError::invalid(&shown(&Path::default()), "", format!("{place} {why}")),
        );
    };
    let (valid, nearest) = alternatives(&limits.any_of, of, at);
    if !limits.any_of.is_empty() && valid == 0 {
        refuse(errors, "must validate at least one schema (anyOf)".to_owned());
        errors.extend(nearest);
    }
    let (valid, nearest) = alternatives(&limits.one_of, of, at);
    if !limits.one_of.is_empty() && valid != 1 {
        let found = match valid {
            0 => "Found none valid".to_owned(),
            count => format!("Found {count} valid alternatives"),
        };
        refuse(
            errors,
            format!("must validate one and only one schema (oneOf). {found}"),
        );
        errors.extend(nearest);
    }
    let before = errors.len();
    let mut fulfilled = 0;
    for node in &limits.all_of {
        let known = errors.len();
        value(node, of, None, at, errors);
        fulfilled += usize::from(errors.len() == known);
    }
    if errors.len() > before {
        let none = if fulfilled == 0 { ". None validated" } else { "" };
        refuse(errors, format!("must validate all the schemas (allOf){none}"));
    }
    if limits.not.as_ref().is_some_and(|node| alone(node, of, at).is_empty()) {
        refuse(errors, "must not validate the schema (not)".to_owned());
    }
}

/// How many alternatives fit, and the errors of the one with the fewest when none does.
fn alternatives(nodes: &[Node], of: &Value, at: &Path) -> (usize, FieldErrors) {
    let mut valid = 0;
    let mut nearest: Option<FieldErrors> = None;
    for node in nodes {
        let errors = alone(node, of, at);
        if errors.is_empty() {
            valid += 1;
        } else if nearest.as_ref().is_none_or(|nearest| errors.len() < nearest.len()) {
            nearest = Some(errors);
        }
    }
    match valid {
        0 => (0, nearest.unwrap_or_default()),
        valid => (valid, FieldErrors::new()),
    }
}

/// Embedded resources say what they are.
fn embedded(map: &Map<String, Value>, node: &Node, at: &Path, errors: &mut FieldErrors) {
    if node.embedded && !at.as_str().is_empty() {
        for field in ["apiVersion", "kind"] {
            if map.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                push(errors, FieldError::required(&at.child(field), "must not be empty"));
            }
        }
    }
    for (key, value) in map {
        let child = match (node.property(key), &node.additional) {
            (Some(property), _) => (property, at.child(key)),
            (None, Additional::Schema(schema)) => (&**schema, at.key(key)),
            _ => continue,
        };
        embedded_below(value, child.0, &child.1, errors);
    }
}

fn embedded_below(value: &Value, node: &Node, at: &Path, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => embedded(map, node, at, errors),
        Value::Array(list) => {
            if let Some(items) = &node.items {
                for (index, item) in list.iter().enumerate() {
                    embedded_below(item, items, &at.index(index), errors);
                }
            }
        }
        _ => {}
    }
}
