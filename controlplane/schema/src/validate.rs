//! What a schema alone can say against an object: something required is missing, a value is none of those allowed, two
//! items of a list are the same. All errors are collected.
//!
//! Not looked at are the root's metadata, whose rules hold for all kinds and are worded differently, and status, which
//! is written by components.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use api::{FieldError, FieldErrors, Object, Path};
use serde_json::{Map, Value};

use crate::{
    model::{Definition, Field, Type},
    schema::Schema,
};

/// Everything wrong that the schema knows of, in the order of the fields' names.
pub fn validate(object: &Object, schema: &Schema) -> FieldErrors {
    let mut errors = FieldErrors::new();
    // Custom resources are validated by their kind's strategy, which knows what they were.
    let Some(definition) = schema.root().definition().filter(|_| schema.custom().is_none()) else {
        return errors;
    };
    let fields = definition.body().fields.iter();
    let fields = fields.filter(|field| !matches!(&*field.name, "metadata" | "status"));
    for field in fields {
        check_field(object.map(), field, &Path::default(), &mut errors);
    }
    errors
}

fn check_field(map: &Map<String, Value>, field: &Field, at: &Path, errors: &mut FieldErrors) {
    let value = map.get(&*field.name);
    let here = || at.child(&field.name);
    match value {
        _ if is_required(field) && value.is_none_or(is_empty) => errors.push(FieldError::required(&here(), "")),
        None => {}
        Some(_) if !says_more(field) => {}
        Some(value) => {
            let here = here();
            check_enum(value, field, &here, errors);
            check_unique(value, field, &here, errors);
            check_value(value, &field.type_, &here, errors);
        }
    }
}

/// Whether there is anything to check of a value that is there.
fn says_more(field: &Field) -> bool {
    !field.facts.values.is_empty() || field.facts.unique.is_some() || has_rules(&field.type_)
}

/// Go cannot tell an absent number, boolean or list from an empty one, and Kubernetes seldom minds: what must be there
/// all the same, the facts say.
fn is_required(field: &Field) -> bool {
    match field.type_ {
        Type::Bool | Type::Int32 | Type::Int64 | Type::Double | Type::List(_) | Type::Map(_) | Type::Any => {
            field.facts.required == Some(true)
        }
        _ => field.required,
    }
}

/// What Kubernetes' validation takes for missing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(_) | Value::Object(_) => false,
    }
}

fn check_struct(map: &Map<String, Value>, definition: &Definition, at: &Path, errors: &mut FieldErrors) {
    for field in &definition.body().fields {
        check_field(map, field, at, errors);
    }
}

fn check_value(value: &Value, type_: &Type, at: &Path, errors: &mut FieldErrors) {
    match (type_, value) {
        (Type::Struct(link), Value::Object(map)) => check_struct(map, link, at, errors),
        (Type::List(item), Value::Array(list)) if has_rules(item) => {
            for (index, value) in list.iter().enumerate() {
                check_value(value, item, &at.index(index), errors);
            }
        }
        (Type::Map(inner), Value::Object(map)) if has_rules(inner) => {
            for (key, value) in map {
                check_value(value, inner, &at.key(key), errors);
            }
        }
        _ => {}
    }
}

fn has_rules(type_: &Type) -> bool {
    matches!(type_, Type::Struct(_) | Type::List(_) | Type::Map(_))
}

fn check_enum(value: &Value, field: &Field, at: &Path, errors: &mut FieldErrors) {
    let allowed = &field.facts.values;
    if let Some(text) = value
        .as_str()
        .filter(|text| !text.is_empty() && !allowed.is_empty() && !allowed.contains(text))
    {
        errors.push(FieldError::not_supported(at, text, allowed));
    }
}

fn check_unique(value: &Value, field: &Field, at: &Path, errors: &mut FieldErrors) {
    let (Some(key), Some(list)) = (field.facts.unique, value.as_array()) else {
        return;
    };
    let mut seen = HashSet::new();
    for (index, item) in list.iter().enumerate() {
        let text = item.get(key).and_then(Value::as_str).unwrap_or_default();
        if !text.is_empty() && !seen.insert(text) {
            errors.push(FieldError::duplicate(&at.index(index).child(key), text));
        }
    }
}
