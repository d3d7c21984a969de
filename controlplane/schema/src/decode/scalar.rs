//! Single values: which of them fit which type, and how they are stored.

use api::{Quantity, quantity::BadQuantity, time};
use base64::{
    DecodeError as Base64Error, Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Number, Value};

use super::found::Found;
use crate::model::Type;

/// Go accepts any bits behind the last symbol, and asks for padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A value that is neither list nor map.
pub(super) enum Scalar<'a> {
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

/// Why a value does not fit.
pub(super) enum Refused {
    /// Its JSON type is wrong, or its number too large.
    Type,
    /// The type's own parser refuses it, in these words.
    Text(String),
}

impl Scalar<'_> {
    /// For the words that refuse it.
    pub(super) fn found(&self) -> Found<'_> {
        match self {
            Self::Bool(_) => Found::Bool,
            Self::Number(number) => Found::Number(Some(number)),
            Self::Text(_) => Found::Text,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::from(*text),
        }
    }
}

/// The JSON type of a value, as Go names it.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The value as it is stored, if it fits.
pub(super) fn accept(type_: &Type, scalar: &Scalar<'_>) -> Result<Value, Refused> {
    match (type_, scalar) {
        (Type::Any, _) | (Type::Bool, Scalar::Bool(_)) | (Type::String, Scalar::Text(_)) => Ok(scalar.to_value()),
        (Type::Double, Scalar::Number(_)) => Ok(scalar.to_value()),
        (Type::Int32, Scalar::Number(number)) => int32(number).ok_or(Refused::Type),
        (Type::Int64, Scalar::Number(number)) => number.as_i64().map(Value::from).ok_or(Refused::Type),
        (Type::IntOrString, Scalar::Text(_)) => Ok(scalar.to_value()),
        (Type::IntOrString, Scalar::Number(number)) => int32(number).ok_or_else(|| not_an_int32(scalar)),
        (Type::IntOrString, Scalar::Bool(_)) => Err(not_an_int32(scalar)),
        (Type::Quantity, Scalar::Text(text)) => quantity(text.trim()),
        (Type::Quantity, Scalar::Number(number)) => quantity(&number.to_string()),
        (Type::Quantity, Scalar::Bool(_)) => Err(Refused::Text(BadQuantity::Format.to_string())),
        (Type::Bytes, Scalar::Text(text)) => bytes(text),
        (Type::Time, Scalar::Text(text)) => timestamp(text, "2006-01-02T15:04:05Z07:00", time::rfc3339),
        (Type::MicroTime, Scalar::Text(text)) => timestamp(text, "2006-01-02T15:04:05.000000Z07:00", time::micro),
        (Type::Time | Type::MicroTime, _) => Err(Refused::Text(format!(
            "json: cannot unmarshal {} into Go value of type string",
            scalar.found().json()
        ))),
        _ => Err(Refused::Type),
    }
}

fn int32(number: &Number) -> Option<Value> {
    number
        .as_i64()
        .and_then(|number| i32::try_from(number).ok())
        .map(Value::from)
}

fn not_an_int32(scalar: &Scalar<'_>) -> Refused {
    Refused::Text(format!(
        "json: cannot unmarshal {} into Go value of type int32",
        scalar.found().decoded(&Type::IntOrString)
    ))
}

fn quantity(text: &str) -> Result<Value, Refused> {
    // Kubernetes reads the empty text as nothing at all.
    if text.is_empty() {
        return Ok(Value::from("0"));
    }
    let quantity: Quantity = text
        .parse()
        .map_err(|error: BadQuantity| Refused::Text(error.to_string()))?;
    Ok(Value::from(quantity.to_string()))
}

fn bytes(text: &str) -> Result<Value, Refused> {
    let folded = text.contains(['\r', '\n']);
    let text = if folded {
        text.replace(['\r', '\n'], "")
    } else {
        text.to_owned()
    };
    match BASE64.decode(&text) {
        Ok(bytes) => Ok(Value::from(if folded { BASE64.encode(bytes) } else { text })),
        Err(error) => {
            let at = match error {
                Base64Error::InvalidByte(at, _) | Base64Error::InvalidLastSymbol { offset: at, .. } => at,
                Base64Error::InvalidLength(_) | Base64Error::InvalidPadding => text.len() - text.len() % 4,
            };
            Err(Refused::Text(format!("illegal base64 data at input byte {at}")))
        }
    }
}

fn timestamp(text: &str, layout: &str, print: fn(api::Timestamp) -> String) -> Result<Value, Refused> {
    match time::parse(text) {
        Some(at) => Ok(Value::from(print(at))),
        None => Err(Refused::Text(bad_time(text, layout))),
    }
}

/// Go says which part of the layout it could not find.
fn bad_time(text: &str, layout: &str) -> String {
    let mut rest = text;
    for part in ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", "Z07:00"] {
        let (width, digits) = (part.len(), part.bytes().all(|byte| byte.is_ascii_digit()));
        let found = rest.get(..width).filter(|found| match digits {
            true => found.bytes().all(|byte| byte.is_ascii_digit()),
            false => *found == part,
        });
        if found.is_none() {
            return format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}");
        }
        rest = rest.get(width..).unwrap_or_default();
    }
    format!("parsing time {text:?}: out of range")
}
