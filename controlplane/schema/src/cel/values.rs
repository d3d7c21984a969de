//! From JSON to the values of expressions, as far as an expression looks at them.

use std::{collections::HashMap, sync::Arc};

use kube_cel::cel::{
    Value,
    objects::{Key, Map, OptionalValue},
};
use serde_json::Value as Json;

use super::{functions, meter::Need};

/// What is known of a JSON value's schema: which decides whether a number is an integer, whether a text is a time, and
/// whether keys are names of fields, which are escaped, or data, which are not.
pub trait Shape {
    /// How a scalar is read.
    fn scalar(&self) -> Scalar;
    /// Whether the value is a map of data.
    fn is_map(&self) -> bool;
    /// The shape below a key; `None` where nothing is known, and the value is left out.
    fn key(&self, name: &str) -> Option<&Self>;
    /// The shape of items.
    fn item(&self) -> Option<&Self>;
}

/// No shape: everything is what it looks like.
#[derive(Clone, Copy, Debug)]
pub enum Unshaped {}

impl Shape for Unshaped {
    fn scalar(&self) -> Scalar {
        match *self {}
    }

    fn is_map(&self) -> bool {
        match *self {}
    }

    fn key(&self, _: &str) -> Option<&Self> {
        match *self {}
    }

    fn item(&self) -> Option<&Self> {
        match *self {}
    }
}

/// How a scalar is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// By its JSON type.
    Plain,
    Double,
    Timestamp,
    Duration,
    Bytes,
}

/// The value of an expression's variable. Without a shape, keys are not escaped.
pub fn from_json<S: Shape>(json: &Json, shape: Option<&S>, need: &Need) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => from_number(number, shape.map_or(Scalar::Plain, Shape::scalar)),
        Json::String(text) => from_text(text, shape.map_or(Scalar::Plain, Shape::scalar)),
        Json::Array(list) => {
            let item = shape.and_then(Shape::item);
            let all = Need::all();
            Value::List(Arc::new(
                list.iter().map(|value| from_json(value, item, &all)).collect(),
            ))
        }
        Json::Object(map) => from_map(map, shape, need),
    }
}

/// As [`from_json`], of a map.
pub fn from_map<S: Shape>(map: &serde_json::Map<String, Json>, shape: Option<&S>, need: &Need) -> Value {
    let entry = |(name, value): (&String, &Json)| {
        let (key, value) = entry(name, value, shape, need)?;
        Some((Key::String(Arc::new(key)), value))
    };
    let entries: HashMap<Key, Value> = map.iter().filter_map(entry).collect();
    Value::Map(Map { map: Arc::new(entries) })
}

fn entry<S: Shape>(name: &str, value: &Json, shape: Option<&S>, need: &Need) -> Option<(String, Value)> {
    let Some(shape) = shape else {
        let need = wanted(name, need)?;
        return Some((name.to_owned(), from_json::<S>(value, None, &need)));
    };
    let below = shape.key(name)?;
    let key = if shape.is_map() { name.to_owned() } else { escape(name)? };
    let need = wanted(&key, need)?;
    Some((key, from_json(value, Some(below), &need)))
}

/// What is needed below a key, if anything.
fn wanted<'a>(key: &str, need: &'a Need) -> Option<std::borrow::Cow<'a, Need>> {
    match need.is_all() {
        true => Some(std::borrow::Cow::Owned(Need::all())),
        false => need.field(key).map(std::borrow::Cow::Borrowed),
    }
}

fn from_number(number: &serde_json::Number, scalar: Scalar) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) if scalar != Scalar::Double => Value::Int(integer),
        (None, Some(integer)) if scalar != Scalar::Double => Value::UInt(integer),
        _ => Value::Float(number.as_f64().unwrap_or_default()),
    }
}

fn from_text(text: &str, scalar: Scalar) -> Value {
    let plain = || Value::String(Arc::new(text.to_owned()));
    let by = |function| functions::convert(function, text).unwrap_or_else(plain);
    match scalar {
        Scalar::Timestamp => by("timestamp"),
        Scalar::Duration => by("duration"),
        Scalar::Bytes => by("base64.decode"),
        Scalar::Plain | Scalar::Double => plain(),
    }
}

/// An optional value.
pub fn optional(value: Option<Value>) -> Value {
    let optional = value.map_or_else(OptionalValue::none, OptionalValue::of);
    Value::Opaque(Arc::new(optional))
}

/// Words of the expression language that cannot be names.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Whether a word belongs to the expression language, so that nothing can be called that.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// A field's name as expressions write it; `None` when they cannot.
pub fn escape(name: &str) -> Option<String> {
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '_' if rest.starts_with("__") => {
                out.push_str("__underscores__");
                taken = 2;
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => out.push(first),
            _ => return None,
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Some(out)
}
