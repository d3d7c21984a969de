//! From outside bytes to a tree that fits its schema.
//!
//! Decoding is strict and lenient at once, as Kubernetes' is: a wrong type is an error, with the words of Go's decoder;
//! an unknown or duplicate field is dropped and reported, and the caller decides by `fieldValidation` whether that is an
//! error, a warning or nothing. A null field is absent. Quantities, times and base64 come out in canonical form.

mod context;
mod found;
mod scalar;
mod syntax;
#[cfg(test)]
mod tests;
mod tree;
mod yaml;

use api::Object;
use serde::de::{DeserializeSeed as _, Deserializer};
use serde_json::Value;

use self::{context::Context, tree::Seed};
use crate::schema::Schema;

/// How deep a tree may be; serde_json refuses deeper text by itself.
pub(crate) const MAX_DEPTH: usize = 128;

/// What to do about unknown and duplicate fields: the `fieldValidation` query parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Strict,
    /// The default since Kubernetes 1.25.
    #[default]
    Warn,
    Ignore,
}

impl FieldValidation {
    /// Reads the query parameter; absent or empty is `Warn`.
    ///
    /// # Errors
    /// With Kubernetes' words, when the value is none of the three.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "Strict" => Ok(Self::Strict),
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            other => Err(api::FieldError::not_supported(
                &api::Path::root("fieldValidation"),
                other,
                &["Ignore", "Strict", "Warn"],
            )
            .to_string()),
        }
    }
}

/// A decoded object and what was dropped on the way.
#[derive(Debug)]
pub struct Decoded {
    pub object: Object,
    /// `unknown field "spec.foo"`, `duplicate field "spec.x"`, in the order of the text; at most 100.
    pub problems: Vec<String>,
}

impl Decoded {
    /// The problems as one message, as a strict request is refused with it.
    pub fn strict_error(problems: &[String]) -> String {
        format!("strict decoding error: {}", problems.join(", "))
    }
}

/// Why bytes or a tree cannot be an object of the schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A value of the wrong type, or one that its type's parser refuses, in the words of Go's decoder.
    #[error("{message}")]
    Type { message: String },
    /// Text that is not JSON.
    #[error("couldn't get version/kind; json parse error: {message}")]
    Json { message: String },
    /// Text that is not YAML, or uses anchors beyond measure.
    #[error("yaml parse error: {message}")]
    Yaml { message: String },
    /// Nesting that no object needs.
    #[error("exceeded max depth")]
    TooDeep,
}

/// Decodes JSON.
///
/// # Errors
/// When the bytes are not JSON, nest too deep, or a value has the wrong type.
pub fn decode_json(bytes: &[u8], schema: &Schema) -> Result<Decoded, DecodeError> {
    let mut context = Context::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let decoded = run(&mut deserializer, schema, &mut context).and_then(|value| deserializer.end().map(|()| value));
    finish(decoded, schema, context, |error: serde_json::Error| {
        let message = error.to_string();
        if message.starts_with("recursion limit") {
            return DecodeError::TooDeep;
        }
        DecodeError::Json {
            message: syntax::fault(bytes).unwrap_or(message),
        }
    })
}

/// Decodes YAML, of one document.
///
/// # Errors
/// As [`decode_json`]; also when anchors and aliases would make too much of too little.
pub fn decode_yaml(bytes: &[u8], schema: &Schema) -> Result<Decoded, DecodeError> {
    let mut context = Context::default();
    let decoded = yaml::with_deserializer(bytes, |deserializer| run(deserializer, schema, &mut context));
    finish(decoded, schema, context, |error| DecodeError::Yaml {
        message: error.to_string(),
    })
}

/// The keys that stand twice in one map of a YAML text, `line 3: key "a" already set in map`, as Kubernetes refuses an
/// apply for them. A JSON text is YAML, too.
pub fn repeated_keys(bytes: &[u8]) -> Vec<String> {
    yaml::repeated_keys(bytes)
}

/// Makes a tree fit, as if it had just been decoded: for trees that a patch made. Returns the problems.
///
/// # Errors
/// When a value has the wrong type or the tree is too deep; the tree is then spoilt.
pub fn check(value: &mut Value, schema: &Schema) -> Result<Vec<String>, DecodeError> {
    fit(value, schema, Context::default())
}

/// The same for a tree that a strategic merge patch made. Kubernetes turns that into an object without encoding it, and
/// says of what does not fit what its converter says.
///
/// # Errors
/// As [`check`], in other words.
pub fn check_merged(value: &mut Value, schema: &Schema) -> Result<Vec<String>, DecodeError> {
    fit(value, schema, Context::converting())
}

fn fit(value: &mut Value, schema: &Schema, mut context: Context) -> Result<Vec<String>, DecodeError> {
    let checked = run(value.take(), schema, &mut context);
    let json = |error: serde_json::Error| DecodeError::Json {
        message: error.to_string(),
    };
    let Decoded { object, problems } = finish(checked, schema, context, json)?;
    *value = object.into_value();
    Ok(problems)
}

/// A JSON map.
///
/// # Errors
/// When the bytes are none, in the words of Go's decoder.
pub(crate) fn json_map(bytes: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice(bytes) {
        Ok(map @ Value::Object(_)) => Ok(map),
        Ok(other) => Err(not_a_map(&other)),
        Err(error) => Err(syntax::fault(bytes).unwrap_or_else(|| error.to_string())),
    }
}

/// Whether bytes are a JSON list of maps, as a JSON Patch is.
///
/// # Errors
/// When they are not, in the words of Go's decoder.
pub(crate) fn json_maps(bytes: &[u8]) -> Result<(), String> {
    let refused = |value: &Value, type_| {
        let found = scalar::json_type(value);
        Err(format!("json: cannot unmarshal {found} into Go value of type {type_}"))
    };
    match serde_json::from_slice(bytes) {
        Ok(Value::Array(items)) => match items.iter().find(|item| !item.is_object()) {
            Some(item) => refused(item, "handlers.jsonPatchOp"),
            None => Ok(()),
        },
        Ok(other) => refused(&other, "[]handlers.jsonPatchOp"),
        Err(error) => Err(syntax::fault(bytes).unwrap_or_else(|| error.to_string())),
    }
}

fn not_a_map(value: &Value) -> String {
    let found = scalar::json_type(value);
    format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}")
}

fn run<'de, D: Deserializer<'de>>(from: D, schema: &Schema, context: &mut Context) -> Result<Value, D::Error> {
    Seed::root(schema.decoding(), context).deserialize(from)
}

fn finish<E>(
    decoded: Result<Value, E>,
    schema: &Schema,
    context: Context,
    other: impl FnOnce(E) -> DecodeError,
) -> Result<Decoded, DecodeError> {
    let (mut problems, error) = context.finish();
    if let Some(error) = error {
        return Err(error);
    }
    let value = decoded.map_err(other)?;
    let message = not_a_map(&value);
    let mut object = Object::from_value(value).map_err(|_| DecodeError::Type { message })?;
    if let Some(structural) = schema.custom() {
        let gone = structural.prune(&mut object);
        problems.extend(
            gone.iter()
                .map(|path| format!("unknown field {}", api::text::quote(path))),
        );
    }
    Ok(Decoded { object, problems })
}
