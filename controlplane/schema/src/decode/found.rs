//! What stands where something else was wanted, in the words of Go's decoder, and in those of Kubernetes' converter, which
//! takes over trees that a strategic merge patch made.

use serde_json::Number;

use crate::model::Type;

/// A value that does not fit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    Bool,
    /// `None`: not a finite one.
    Number(Option<&'a Number>),
    Text,
    List,
    Map,
}

impl Found<'_> {
    /// As Go's decoder names it: the number itself only where a number was wanted.
    pub(super) fn decoded(self, wanted: &Type) -> String {
        let numeric = matches!(wanted, Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString);
        match self {
            Self::Number(Some(number)) if numeric => format!("number {number}"),
            other => other.json().to_owned(),
        }
    }

    /// Its JSON type.
    pub(super) fn json(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Number(_) => "number",
            Self::Text => "string",
            Self::List => "array",
            Self::Map => "object",
        }
    }

    /// What the converter says of it; `None` where the type reads its own JSON, whose words are the decoder's.
    pub(super) fn converted(self, wanted: &Type) -> Option<String> {
        let found = self.kind();
        Some(match wanted {
            Type::Struct(_) => format!("cannot restore struct from: {found}"),
            Type::List(_) | Type::Bytes => format!("cannot restore slice from {found}"),
            Type::Map(_) => format!("cannot restore map from {found}"),
            // Go can make text of a whole number, namely the character of that code: this is refused by itself.
            Type::String if found == "int64" => "cannot convert int64 to string".to_owned(),
            Type::Int32 | Type::Int64 if matches!(self, Self::Number(_)) => {
                format!("cannot convert {found} to {}", wanted.go())
            }
            Type::String | Type::Int32 | Type::Int64 | Type::Double | Type::Bool => {
                format!("unrecognized type: {}", wanted.go())
            }
            Type::Any | Type::Quantity | Type::Time | Type::MicroTime | Type::IntOrString => return None,
        })
    }

    /// Its kind, as Go's reflection names it.
    fn kind(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Number(Some(number)) if !number.is_f64() => "int64",
            Self::Number(_) => "float64",
            Self::Text => "string",
            Self::List => "slice",
            Self::Map => "map",
        }
    }
}
