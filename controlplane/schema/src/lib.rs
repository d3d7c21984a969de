//! Everything that is a function of an object's tree and its schema: strict decoding, pruning, defaulting, validation,
//! patches, and the OpenAPI documents that describe the schemas to clients.
//!
//! Types come from k8s-openapi's JSON schemas; what those lack stands in `facts/`. Custom resources bring [`structural`]
//! schemas, which hold expressions of [`cel`]. Rules that are particular to one kind
//! (an immutable selector, a port that must be unique) are not here: they belong to the kind's strategy.

pub mod apply;
pub mod cel;
mod compile;
mod decode;
mod default;
mod facts;
mod model;
pub mod openapi;
pub mod patch;
pub mod protobuf;
mod schema;
pub mod structural;
#[cfg(test)]
mod tests;
mod validate;

pub use decode::{DecodeError, Decoded, FieldValidation, check, check_merged, decode_json, decode_yaml, repeated_keys};
pub use default::default;
pub use schema::Schema;
pub use validate::validate;
