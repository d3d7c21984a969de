//! The three patches that are a function of the tree: JSON Patch (RFC 6902), merge patch (RFC 7396), and Kubernetes'
//! strategic merge patch. The result is a tree; [`crate::check`] then makes it fit the schema.

mod json;
mod strategic;

use serde_json::Value;

pub use json::json;
pub use strategic::strategic;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The bytes are no patch of the kind they claim to be: the caller is answered 400.
    #[error("error decoding patch: {message}")]
    Malformed { message: String },
    /// More operations than are allowed: 413.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {got}")]
    TooManyOperations { max: usize, got: usize },
    /// A patch that would make a tree too deep or too large: 413.
    #[error("{message}")]
    TooLarge { message: String },
    /// The patch does not apply to this object: 422.
    #[error("{message}")]
    Unapplicable { message: String },
    /// A directive of a strategic merge patch makes no sense: 400.
    #[error("{message}")]
    Directive { message: String },
}

/// Reads a merge patch or a strategic merge patch, which are maps.
///
/// # Errors
/// When the bytes are no JSON map, in the words of Go's decoder.
pub fn map(patch: &[u8]) -> Result<Value, String> {
    crate::decode::json_map(patch)
}

/// Merges as RFC 7396 says: maps are merged, null removes, everything else replaces.
pub fn merge(document: &mut Value, patch: &Value) {
    json_patch::merge(document, patch);
}
