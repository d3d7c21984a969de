//! The object as it travels between decoding and commit: a JSON tree, edited by path, with accessors for the metadata
//! that every kind has. It knows no schema; what is absent and what has the wrong type both read as absent.

mod meta;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};

pub use meta::OwnerReference;

/// A Kubernetes object as a JSON tree. The root is always a map.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Object(Map<String, Value>);

/// A JSON value that is not a map cannot be an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object must be a JSON map, not {found}")]
pub struct NotAnObject {
    /// The JSON type that was found.
    pub found: &'static str,
}

impl Object {
    /// An object with nothing but its version and kind.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let mut map = Map::new();
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
        Self(map)
    }

    /// Takes a tree.
    ///
    /// # Errors
    /// When the tree's root is not a map.
    pub fn from_value(value: Value) -> Result<Self, NotAnObject> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(NotAnObject {
                found: type_name(&other),
            }),
        }
    }

    /// Parses trusted bytes, leniently: the last of two equal keys wins. Outside bytes go through the `schema` crate.
    ///
    /// # Errors
    /// When the bytes are not JSON, or not a map.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The tree.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The root map.
    pub fn map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The root map, for editing.
    pub fn map_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// Encodes as JSON without white space.
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a tree of JSON values always encodes")
    }

    /// The value at a dotted path of field names (`spec.template.spec.nodeName`); list indexes are not supported.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let (parent, last) = split(path);
        walk(&self.0, parent)?.get(last)
    }

    /// As [`Object::at`], for editing.
    pub fn at_mut(&mut self, path: &str) -> Option<&mut Value> {
        let (parent, last) = split(path);
        walk_mut(&mut self.0, parent)?.get_mut(last)
    }

    /// Sets the value at a dotted path, making the maps on the way; what is in the way and no map is replaced by one.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) {
        let (parent, last) = split(path);
        make(&mut self.0, parent).insert(last.to_owned(), value.into());
    }

    /// Removes and returns the value at a dotted path. Maps left empty stay.
    pub fn remove(&mut self, path: &str) -> Option<Value> {
        let (parent, last) = split(path);
        walk_mut(&mut self.0, parent)?.remove(last)
    }

    /// The text at a path.
    pub fn str_at(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// The integer at a path.
    pub fn i64_at(&self, path: &str) -> Option<i64> {
        self.at(path)?.as_i64()
    }

    /// The boolean at a path.
    pub fn bool_at(&self, path: &str) -> Option<bool> {
        self.at(path)?.as_bool()
    }

    /// The list at a path, empty when absent.
    pub fn list_at(&self, path: &str) -> &[Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The map at a path.
    pub fn map_at(&self, path: &str) -> Option<&Map<String, Value>> {
        self.at(path)?.as_object()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The JSON type of a value, as messages name it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('.') {
        Some((parent, last)) => (Some(parent), last),
        None => (None, path),
    }
}

fn segments(parent: Option<&str>) -> impl Iterator<Item = &str> {
    parent.into_iter().flat_map(|path| path.split('.'))
}

fn walk<'a>(root: &'a Map<String, Value>, parent: Option<&str>) -> Option<&'a Map<String, Value>> {
    segments(parent).try_fold(root, |map, field| map.get(field)?.as_object())
}

fn walk_mut<'a>(root: &'a mut Map<String, Value>, parent: Option<&str>) -> Option<&'a mut Map<String, Value>> {
    segments(parent).try_fold(root, |map, field| map.get_mut(field)?.as_object_mut())
}

fn make<'a>(root: &'a mut Map<String, Value>, parent: Option<&str>) -> &'a mut Map<String, Value> {
    segments(parent).fold(root, |map, field| {
        let value = map.entry(field).or_insert(Value::Null);
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut().expect("just made a map")
    })
}
