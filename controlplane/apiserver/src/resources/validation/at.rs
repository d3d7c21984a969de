//! A cursor over a JSON tree that knows its own field path, so that a rule and the path in its message cannot differ.
//!
//! Rules run on trees that were decoded against a schema: a value of the wrong type reads as absent here. Absent, null and
//! zero values are told apart only by [`At::is_set`], as Go's omitempty does.

use api::field::Path;
use api::{FieldError, FieldErrors, Object};
use serde_json::{Map, Value};

/// A place in a tree: its path and what stands there, if anything.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    path: Path,
    value: Option<&'a Value>,
}

impl<'a> At<'a> {
    /// A top-level field, e.g. `spec`.
    pub(crate) fn root(object: &'a Object, field: &str) -> Self {
        At {
            path: Path::root(field),
            value: object.map().get(field).filter(|v| !v.is_null()),
        }
    }

    pub(crate) fn child(&self, field: &str) -> At<'a> {
        let value = self.value.and_then(|v| v.get(field)).filter(|v| !v.is_null());
        At {
            path: self.path.child(field),
            value,
        }
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Vec<At<'a>> {
        let list = self
            .value
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter()
            .enumerate()
            .map(|(i, v)| At {
                path: self.path.index(i),
                value: Some(v),
            })
            .collect()
    }

    /// The entries of a map, their paths written as `path[key]`.
    pub(crate) fn entries(&self) -> Vec<(&'a str, At<'a>)> {
        let Some(map) = self.map() else { return Vec::new() };
        map.iter()
            .map(|(k, v)| {
                (
                    k.as_str(),
                    At {
                        path: self.path.key(k),
                        value: Some(v),
                    },
                )
            })
            .collect()
    }

    /// The entry of a map, its path written as `path[key]`.
    pub(crate) fn key(&self, key: &str) -> At<'a> {
        let value = self.value.and_then(|v| v.get(key)).filter(|v| !v.is_null());
        At {
            path: self.path.key(key),
            value,
        }
    }

    /// The same value under another path.
    pub(crate) fn named(&self, path: Path) -> At<'a> {
        At {
            path,
            value: self.value,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn value(&self) -> Option<&'a Value> {
        self.value
    }

    pub(crate) fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value.and_then(Value::as_object)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// Absent, or a string, list or map with nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::String(s)) => s.is_empty(),
            Some(Value::Array(a)) => a.is_empty(),
            Some(Value::Object(o)) => o.is_empty(),
            Some(_) => false,
        }
    }

    pub(crate) fn str(&self) -> &'a str {
        self.value.and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn i64(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    pub(crate) fn bool(&self) -> bool {
        self.value.and_then(Value::as_bool).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(a)) => a.len(),
            Some(Value::Object(o)) => o.len(),
            _ => 0,
        }
    }

    fn shown(&self) -> Value {
        self.value.cloned().unwrap_or_else(|| Value::String(String::new()))
    }

    pub(crate) fn required(&self, detail: &str) -> FieldError {
        FieldError::required(&self.path, detail)
    }

    pub(crate) fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.shown(), detail)
    }

    /// Invalid, with another value shown than the one that stands here.
    pub(crate) fn invalid_as(&self, shown: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, shown.into(), detail)
    }

    /// Invalid, where what stands here is too large to be shown.
    pub(crate) fn invalid_unshown(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid_unshown(&self.path, detail)
    }

    pub(crate) fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&self.path, self.shown(), supported)
    }

    pub(crate) fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(&self.path, detail)
    }

    pub(crate) fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.shown())
    }

    /// Duplicate, with another value shown than the one that stands here.
    pub(crate) fn duplicate_as(&self, shown: impl Into<Value>) -> FieldError {
        FieldError::duplicate(&self.path, shown.into())
    }

    pub(crate) fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path, self.shown())
    }

    /// Adds what a rule over strings has to say about this one.
    pub(crate) fn check(&self, errors: &mut FieldErrors, rule: fn(&str) -> Vec<String>) {
        errors.extend(rule(self.str()).into_iter().map(|message| self.invalid(message)));
    }

    /// [`At::check`], where something stands here.
    pub(crate) fn check_if_set(&self, errors: &mut FieldErrors, rule: fn(&str) -> Vec<String>) {
        if !self.is_empty() {
            self.check(errors, rule);
        }
    }

    /// Required, then [`At::check`].
    pub(crate) fn require(&self, errors: &mut FieldErrors, rule: fn(&str) -> Vec<String>) {
        if self.is_empty() {
            errors.push(self.required(""));
        } else {
            self.check(errors, rule);
        }
    }

    /// Required, and one of `supported`.
    pub(crate) fn require_one_of(&self, errors: &mut FieldErrors, supported: &[&str]) {
        if self.is_empty() {
            errors.push(self.required(""));
        } else {
            self.one_of(errors, supported);
        }
    }

    /// If set, one of `supported`.
    pub(crate) fn one_of(&self, errors: &mut FieldErrors, supported: &[&str]) {
        if self.is_set() && !supported.contains(&self.str()) {
            errors.push(self.not_supported(supported));
        }
    }

    /// If set, a number within bounds.
    pub(crate) fn within(&self, errors: &mut FieldErrors, low: i64, high: i64) {
        if self.i64().is_some_and(|n| n < low || n > high) {
            errors.push(self.invalid(format!("must be between {low} and {high}, inclusive")));
        }
    }

    /// If set, a number that is not negative.
    pub(crate) fn non_negative(&self, errors: &mut FieldErrors) {
        if self.i64().is_some_and(|n| n < 0) {
            errors.push(self.invalid("must be greater than or equal to 0"));
        }
    }

    /// As before; like [`At::immutable`] for what is a pointer in Go: nothing is shown as null.
    pub(crate) fn fixed(&self, errors: &mut FieldErrors, old: &At<'_>) {
        if self.value != old.value {
            let shown = self.value.cloned().unwrap_or(Value::Null);
            errors.push(self.invalid_as(shown, "field is immutable"));
        }
    }

    /// The same as before; `old` is the field of the stored object.
    pub(crate) fn immutable(&self, errors: &mut FieldErrors, old: &At<'_>) {
        if self.value != old.value {
            errors.push(self.invalid("field is immutable"));
        }
    }
}
