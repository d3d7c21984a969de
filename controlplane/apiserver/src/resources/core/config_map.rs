//! ConfigMap: text and bytes by key, a mebibyte at most, frozen on request.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_config_map_key, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

/// Bytes of all values of a ConfigMap or Secret together.
pub(crate) const MAX_SIZE: usize = 1024 * 1024;

pub(crate) fn resource() -> Resource {
    Resource::of::<ConfigMap>()
        .short_names(&["cm"])
        .strategy(ConfigMaps)
        .printer(definitions(), cells)
        .build()
}

struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let (data, binary) = (At::root(new, "data"), At::root(new, "binaryData"));
        let mut size = 0;
        for (key, value) in data.entries() {
            errors.extend(is_config_map_key(key).into_iter().map(|m| value.invalid_as(key, m)));
            if binary.map().is_some_and(|b| b.contains_key(key)) {
                errors.push(value.invalid_as(key, "duplicate of key present in binaryData"));
            }
            size += value.str().len();
        }
        for (key, value) in binary.entries() {
            errors.extend(is_config_map_key(key).into_iter().map(|m| value.invalid_as(key, m)));
            size += decoded_len(value.str());
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(&Path::root("[]"), MAX_SIZE));
        }
        if let Operation::Update { old } = op {
            frozen(old, new, &["data", "binaryData"], &mut errors);
        }
        errors
    }
}

/// Bytes that base64 text stands for; decoding has refused other text.
pub(crate) fn decoded_len(text: &str) -> usize {
    STANDARD.decode(text).map(|bytes| bytes.len()).unwrap_or_default()
}

/// With `immutable: true` neither the flag nor the data may change (KEP-1412).
pub(crate) fn frozen(old: &Object, new: &Object, fields: &[&str], errors: &mut FieldErrors) {
    if !old.bool_at("immutable").unwrap_or_default() {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !new.bool_at("immutable").unwrap_or_default() {
        errors.push(At::root(new, "immutable").forbidden(detail));
    }
    let empty = Value::Object(serde_json::Map::new());
    for field in fields {
        if old.at(field).unwrap_or(&empty) != new.at(field).unwrap_or(&empty) {
            errors.push(At::root(new, field).forbidden(detail));
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Data|string||How many keys there are.",
        "Age|string",
    ])
}

fn cells(map: &Object, now: Timestamp) -> Vec<Value> {
    let count = ["data", "binaryData"]
        .iter()
        .filter_map(|f| map.map_at(f))
        .map(|m| m.len())
        .sum::<usize>();
    vec![map.name().into(), count.into(), age(map.creation_timestamp(), now)]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let map = |data: Value, binary: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}, "data": data,
            "binaryData": binary})
    };
    crate::resources::testing::Cases {
        valid: vec![map(json!({"a.b": "1"}), json!({"c": "AAA="}))],
        invalid: vec![
            (
                map(json!({"a": "1"}), json!({"a": "AAA="})),
                vec!["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
            ),
            (
                map(json!({"a/b": "1"}), json!({})),
                vec![
                    "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' \
                      or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ],
            ),
            (
                map(json!({"a": "x".repeat(MAX_SIZE + 1)}), json!({})),
                vec!["[]: Too long: may not be more than 1048576 bytes"],
            ),
        ],
        table: vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "data": {"a": "1"}, "binaryData": {"b": "AA=="}}),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{messages, object};

    #[test]
    fn a_frozen_map_keeps_flag_and_data() {
        let old = object(json!({"immutable": true, "data": {"a": "1"}}));
        let new = object(json!({"data": {"a": "2"}}));
        let mut errors = FieldErrors::new();
        frozen(&old, &new, &["data", "binaryData"], &mut errors);
        assert_eq!(
            messages(errors),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
    }
}
