//! Where a value is wrong, and how: the words of `k8s.io/apimachinery/pkg/util/validation/field`.

use std::fmt;

use serde_json::Value;

use crate::text::quote;

/// The errors of one object; validation collects them all.
pub type FieldErrors = Vec<FieldError>;

/// A place in an object, written as Kubernetes writes it: `spec.containers[0].env`, `data[key]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// A path that starts at `field`; an empty `field` starts at the object itself.
    pub fn root(field: &str) -> Self {
        Self(field.to_owned())
    }

    /// The field `name` of the value at this path.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            self.extended([".", name, ""])
        }
    }

    /// Item `index` of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.extended(["[", index.to_string().as_str(), "]"])
    }

    /// Entry `key` of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.extended(["[", key, "]"])
    }

    /// Validation makes a path for everything it looks at, and shows next to none of them: without a formatter.
    fn extended(&self, [before, part, after]: [&str; 3]) -> Self {
        let mut path = String::with_capacity(self.0.len() + before.len() + part.len() + after.len());
        for text in [self.0.as_str(), before, part, after] {
            path.push_str(text);
        }
        Self(path)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a value; the names are those of `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// Missing or empty.
    Required,
    /// Malformed.
    Invalid,
    /// Malformed as a whole; the value is not repeated.
    InvalidUnshown,
    /// Outside an enumeration.
    NotSupported,
    /// Not unique.
    Duplicate,
    /// Well-formed, but not allowed here.
    Forbidden,
    /// Too many bytes.
    TooLong,
    /// Too many items.
    TooMany,
    /// Of the wrong type.
    TypeInvalid,
    /// Names something that does not exist.
    NotFound,
    /// Validation itself failed.
    Internal,
}

impl FieldErrorKind {
    /// The machine-readable name, as in a Status cause's `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid | Self::InvalidUnshown => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::InvalidUnshown | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            Self::InvalidUnshown | Self::Required | Self::Forbidden | Self::TooLong | Self::Internal
        )
    }
}

/// One wrong value. `Display` gives the whole message, [`FieldError::body`] the message without the path.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub path: String,
    /// The offending value; shown in the message only by the kinds that Kubernetes shows it for.
    pub value: Value,
    pub detail: String,
    /// Whether the value is left out of the message, because it would say nothing.
    pub omit_value: bool,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.0.clone(),
            value: value.into(),
            detail: detail.into(),
            omit_value: false,
        }
    }

    /// A value that must be given is missing or empty.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, Value::Null, detail)
    }

    /// A malformed value.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, value, detail)
    }

    /// Something too large to repeat is malformed, or at odds with itself.
    pub fn invalid_unshown(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::InvalidUnshown, path, Value::Null, detail)
    }

    /// A value outside an enumeration; `supported` is printed in the order given.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let detail = if list.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", list.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, path, value, detail)
    }

    /// A value that must be unique and is not.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, value, "")
    }

    /// A well-formed value that is not allowed here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, Value::Null, detail)
    }

    /// More than `max` bytes; the value itself is not repeated.
    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(
            FieldErrorKind::TooLong,
            path,
            Value::Null,
            format!("may not be more than {max} {unit}"),
        )
    }

    /// `actual` items where at most `max` are allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooMany,
            path,
            actual,
            format!("must have at most {max} {unit}"),
        )
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, path, value, detail)
    }

    /// A value that names something that does not exist.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::NotFound, path, value, "")
    }

    /// Validation itself failed.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, path, Value::Null, detail)
    }

    /// The same without the value in its message.
    #[must_use]
    pub fn without_value(mut self) -> Self {
        self.omit_value = true;
        self
    }

    /// The message without the path, as a Status cause carries it.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if self.kind.shows_value() && !self.omit_value {
            text.push_str(": ");
            text.push_str(&show(&self.value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl std::error::Error for FieldError {}

/// Joins messages as Go's aggregate error does: repeated ones once, several in brackets.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Joins what a kind's own rules found with what its schema found. Where both speak of one field in the same way, the
/// kind's words stay: they say more.
pub fn combine(specific: FieldErrors, general: FieldErrors) -> FieldErrors {
    let mut all = specific;
    let known = all.len();
    for error in general {
        let said = all
            .iter()
            .take(known)
            .any(|other| other.path == error.path && other.kind == error.kind);
        if !said {
            all.push(error);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let path = Path::root("spec").child("containers").index(0).child("env").key("A");
        assert_eq!(path.to_string(), "spec.containers[0].env[A]");
        assert_eq!(Path::default().child("values").index(1).to_string(), "values[1]");
    }

    #[test]
    fn words_every_kind_as_field_error_does() {
        let at = Path::root("spec").child("x");
        for (error, want) in [
            (FieldError::required(&at, ""), "spec.x: Required value"),
            (FieldError::required(&at, "why"), "spec.x: Required value: why"),
            (
                FieldError::invalid(&at, "a\"b", "bad"),
                r#"spec.x: Invalid value: "a\"b": bad"#,
            ),
            (FieldError::invalid(&at, 5, "bad"), "spec.x: Invalid value: 5: bad"),
            (
                FieldError::invalid(&at, Value::Null, "bad"),
                "spec.x: Invalid value: null: bad",
            ),
            (
                FieldError::invalid(&at, json!({"a": [1]}), ""),
                r#"spec.x: Invalid value: {"a":[1]}"#,
            ),
            (
                FieldError::not_supported(&at, "C", &["A", "B"]),
                r#"spec.x: Unsupported value: "C": supported values: "A", "B""#,
            ),
            (FieldError::duplicate(&at, "a"), r#"spec.x: Duplicate value: "a""#),
            (FieldError::forbidden(&at, "no"), "spec.x: Forbidden: no"),
            (
                FieldError::too_long(&at, 63),
                "spec.x: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&at, 5, 3),
                "spec.x: Too many: 5: must have at most 3 items",
            ),
            (
                FieldError::type_invalid(&at, 1, "must be a string"),
                "spec.x: Invalid value: 1: must be a string",
            ),
            (FieldError::not_found(&at, "a"), r#"spec.x: Not found: "a""#),
            (FieldError::internal(&at, "oops"), "spec.x: Internal error: oops"),
        ] {
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn aggregates_without_repeating() {
        let (a, b) = (
            FieldError::required(&Path::root("a"), ""),
            FieldError::required(&Path::root("b"), ""),
        );
        assert_eq!(aggregate(&[a.clone(), a.clone()]), "a: Required value");
        assert_eq!(aggregate(&[a.clone(), b, a]), "[a: Required value, b: Required value]");
    }

    #[test]
    fn a_kinds_own_words_win() {
        let (x, y) = (Path::root("x"), Path::root("y"));
        let own = FieldError::required(&x, "because");
        let all = combine(
            vec![own.clone()],
            vec![FieldError::required(&x, ""), FieldError::required(&y, "")],
        );
        assert_eq!(all, [own, FieldError::required(&y, "")]);
    }
}
