//! Whether a configuration may be applied: its fields must be those of the schema and of the right type, and items that
//! are told apart must be there once. The words are those of `structured-merge-diff`, which users see.

use api::text::go;
use serde_json::{Map, Value};

use super::{
    element::Element,
    set::Set,
    shape::{Fields, Items, Shape, Slot, root_fields},
};
use crate::{model::Type, schema::Schema};

/// Everything that is wrong with a configuration, as one message; `None` when nothing is.
pub(super) fn validate(config: &Map<String, Value>, schema: &Schema) -> Option<String> {
    let mut errors = Errors::default();
    errors.map(config, root_fields(schema));
    let mut messages = errors.messages;
    match messages.len() {
        0 => None,
        1 => messages.pop(),
        _ => Some(format!("errors:\n  {}", messages.join("\n  "))),
    }
}

#[derive(Default)]
struct Errors {
    path: String,
    messages: Vec<String>,
}

impl Errors {
    fn push(&mut self, message: &str) {
        let place = if self.path.is_empty() { "" } else { ": " };
        self.messages.push(format!("{}{place}{message}", self.path));
    }

    fn below(&mut self, element: &Element<'_>, check: impl FnOnce(&mut Self)) {
        let mark = self.path.len();
        self.path.push_str(&element.to_string());
        check(self);
        self.path.truncate(mark);
    }

    fn map(&mut self, map: &Map<String, Value>, fields: Fields<'_>) {
        for (name, value) in map {
            let slot = fields.slot(name);
            self.below(&Element::field(name), |errors| match slot {
                Some(slot) => errors.value(value, slot),
                None => errors.push("field not declared in schema"),
            });
        }
    }

    fn value(&mut self, value: &Value, slot: Slot<'_>) {
        if value.is_null() || slot.is_any() {
            return;
        }
        match (slot.type_(), value) {
            (Type::Struct(link), Value::Object(map)) => self.map(map, Fields::Struct(link.body())),
            (Type::Map(_), Value::Object(map)) => self.map(map, slot.entries()),
            (Type::Struct(_) | Type::Map(_), _) => self.push(&format!("expected map, got &{{{}}}", go(value))),
            (Type::List(_), Value::Array(list)) => match slot.shape(Some(value)) {
                Shape::Items(items) => self.items(list, items),
                _ => self.list(list, slot),
            },
            (Type::List(_), _) => self.push(&format!("expected list, got &{{{}}}", go(value))),
            (type_, _) => {
                if let Some(message) = wrong_scalar(type_, value) {
                    self.push(&message);
                }
            }
        }
    }

    fn list(&mut self, list: &[Value], slot: Slot<'_>) {
        for (index, item) in list.iter().enumerate() {
            let index = i64::try_from(index).unwrap_or(i64::MAX);
            self.below(&Element::Index(index), |errors| errors.value(item, slot.item()));
        }
    }

    fn items(&mut self, list: &[Value], items: Items<'_>) {
        let mut seen = Set::default();
        for (index, item) in list.iter().enumerate() {
            let element = match items.element(item) {
                Ok(element) => element,
                Err(why) => return self.push(&format!("element {index}: {why}")),
            };
            if !seen.add(element.clone()) {
                self.push(&format!("duplicate entries for key {element}"));
            }
            self.below(&element, |errors| errors.value(item, items.item));
        }
    }
}

fn wrong_scalar(type_: &Type, value: &Value) -> Option<String> {
    let structured = value.is_array() || value.is_object();
    match type_ {
        Type::Bool if !value.is_boolean() => Some(format!("expected boolean, got &{{{}}}", go(value))),
        Type::Int32 | Type::Int64 | Type::Double if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", go_type(value)))
        }
        Type::String | Type::Bytes if !value.is_string() => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax(value)
        )),
        Type::Time | Type::MicroTime | Type::Quantity | Type::IntOrString if structured => {
            Some(format!("expected any scalar, got &{{{}}}", go(value)))
        }
        _ => None,
    }
}

/// As Go prints a value with `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => api::text::quote(text),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{}:{}", api::text::quote(key), go_syntax(value));
            let entries: Vec<String> = map.iter().map(entry).collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// As Go prints a value's type with `%T`.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
