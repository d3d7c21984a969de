//! From outside bytes to a tree that fits its schema.
//!
//! Decoding is strict and lenient at once, as Kubernetes' is: a wrong type is an error, with the words of Go's decoder;
//! an unknown or duplicate field is dropped and reported, and the caller decides by `fieldValidation` whether that is an
//! error, a warning or nothing. A null field is absent. Quantities, times and base64 come out in canonical form.

mod context;
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

/// Makes a tree fit, as if it had just been decoded: for trees that a patch made. Returns the problems.
///
/// # Errors
/// When a value has the wrong type or the tree is too deep; the tree is then spoilt.
pub fn check(value: &mut Value, schema: &Schema) -> Result<Vec<String>, DecodeError> {
    let mut context = Context::default();
    let checked = run(value.take(), schema, &mut context);
    let json = |error: serde_json::Error| DecodeError::Json {
        message: error.to_string(),
    };
    let Decoded { object, problems } = finish(checked, schema, context, json)?;
    *value = object.into_value();
    Ok(problems)
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
    let found = scalar::json_type(&value);
    let mut object = Object::from_value(value).map_err(|_| DecodeError::Type {
        message: format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"),
    })?;
    if let Some(structural) = schema.custom() {
        let gone = structural.prune(&mut object);
        problems.extend(
            gone.iter()
                .map(|path| format!("unknown field {}", api::text::quote(path))),
        );
    }
    Ok(Decoded { object, problems })
}
