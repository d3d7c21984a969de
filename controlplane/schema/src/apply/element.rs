//! One step of a path into an object: a field, a list's item by its keys or by its value, or an index.
//!
//! Elements are ordered as `sigs.k8s.io/structured-merge-diff` orders them, numbers by their value, and written as
//! FieldsV1 writes them: `f:replicas`, `k:{"name":"web"}`, `v:"a"`, `i:0`. Names and values are borrowed from the object
//! or from the managed fields wherever they can be.

use std::{borrow::Cow, cmp::Ordering, fmt};

use api::text::quote;
use serde_json::{Map, Number, Value};

/// One step of a path.
#[derive(Clone, Debug)]
pub(crate) enum Element<'a> {
    Field(Cow<'a, str>),
    /// The item of a list whose key fields have these values, sorted by name.
    Key(Vec<(Cow<'a, str>, Cow<'a, Value>)>),
    /// The item of a set.
    Value(Cow<'a, Value>),
    Index(i64),
}

/// Why text is no element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadElement {
    /// Of a kind that does not exist yet: to be passed over.
    Unknown,
    Malformed(String),
}

impl<'a> Element<'a> {
    pub(crate) fn field(name: &'a str) -> Self {
        Self::Field(Cow::Borrowed(name))
    }

    /// Reads what [`Element::encode`] writes.
    pub(crate) fn decode(text: &'a str) -> Result<Self, BadElement> {
        let malformed = BadElement::Malformed;
        let (kind, rest) = match text.split_at_checked(2) {
            Some((head, rest)) if head.ends_with(':') => (head, rest),
            Some(_) => return Err(malformed(format!("missing colon: {text}"))),
            None => return Err(malformed("key must be 2 characters long:".to_owned())),
        };
        match kind {
            "f:" => Ok(Self::field(rest)),
            "v:" => match serde_json::from_str(rest) {
                Ok(value) => Ok(Self::Value(Cow::Owned(value))),
                Err(error) => Err(malformed(error.to_string())),
            },
            "k:" => {
                let keys: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|error| malformed(error.to_string()))?;
                let keys = keys
                    .into_iter()
                    .map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
                Ok(Self::Key(keys.collect()))
            }
            "i:" => match rest.parse() {
                Ok(index) => Ok(Self::Index(index)),
                Err(_) => Err(malformed(format!(
                    "strconv.Atoi: parsing {}: invalid syntax",
                    quote(rest)
                ))),
            },
            _ => Err(BadElement::Unknown),
        }
    }

    /// As a key of FieldsV1.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name].concat(),
            Self::Key(keys) => {
                let mut out = String::from("k:{");
                for (nth, (name, value)) in keys.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    push_json(&mut out, &**name);
                    out.push(':');
                    push_json(&mut out, &**value);
                }
                out.push('}');
                out
            }
            Self::Value(value) => {
                let mut out = String::from("v:");
                push_json(&mut out, &**value);
                out
            }
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for Element<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => compare_keys(a, b),
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element<'_> {}

/// As messages show it: `.spec`, `[name="web"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (nth, (name, value)) in keys.iter().enumerate() {
                    let comma = if nth > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", show(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", show(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

/// JSON as Go's encoder writes it by default: what HTML gives a meaning to is escaped.
pub(super) fn push_json<T: serde::Serialize + ?Sized>(out: &mut String, value: &T) {
    let text = serde_json::to_string(value).expect("a tree of JSON values always encodes");
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        out.push_str(&text);
        return;
    }
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
}

fn compare_keys(a: &[(Cow<'_, str>, Cow<'_, Value>)], b: &[(Cow<'_, str>, Cow<'_, Value>)]) -> Ordering {
    for ((a_name, a_value), (b_name, b_value)) in a.iter().zip(b) {
        let order = a_name.cmp(b_name).then_with(|| compare(a_value, b_value));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

/// A total order over values of any type; 1 and 1.0 are the same.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differing = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            differing.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let entry = |((a_key, a), (b_key, b)): ((&String, &Value), (&String, &Value))| {
                a_key.cmp(b_key).then_with(|| compare(a, b))
            };
            let differing = a.iter().zip(b).map(entry).find(|order| order.is_ne());
            differing.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => kind(a).cmp(&kind(b)),
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            a.total_cmp(&b)
        }
    }
}

/// Whether two values are the same to a client: 1 and 1.0 are.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((a_key, a), (b_key, b))| a_key == b_key && equal(a, b))
        }
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b).is_eq(),
        _ => a == b,
    }
}
