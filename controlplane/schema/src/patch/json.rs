//! JSON Patch, with bounds: a patch is small, what it builds by copying need not be.

#[cfg(test)]
mod tests;

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::decode::MAX_DEPTH;

/// As Kubernetes has it.
const MAX_OPERATIONS: usize = 10_000;
/// Values copied by one patch, all together: as many as a request body of 3 MiB could hold.
const MAX_COPIED: usize = 3 << 20;

/// Applies the operations in order; on an error the document is spoilt.
///
/// # Errors
/// When the bytes are no JSON Patch, an operation does not apply, or the result would be out of bounds.
pub fn json(document: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations = read(patch)?;
    let got = operations.0.len();
    if got > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations {
            max: MAX_OPERATIONS,
            got,
        });
    }
    let mut copied = 0;
    for operation in &operations.0 {
        check_bounds(document, operation, &mut copied)?;
        json_patch::patch_unsafe(document, std::slice::from_ref(operation)).map_err(|_| PatchError::Unapplicable {
            message: words(document, operation),
        })?;
    }
    Ok(())
}

/// The operations. What is no list of maps was never a patch, in the words of Go's decoder; of a map that is no operation
/// Kubernetes finds out when it applies it.
fn read(patch: &[u8]) -> Result<Patch, PatchError> {
    serde_json::from_slice(patch).map_err(|error| match crate::decode::json_maps(patch) {
        Err(message) => PatchError::Malformed { message },
        Ok(()) => PatchError::Unapplicable {
            message: error.to_string(),
        },
    })
}

fn check_bounds(document: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), PatchError> {
    let too_large = |message: &str| {
        Err(PatchError::TooLarge {
            message: message.to_owned(),
        })
    };
    let source = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Copy(copy) => document.pointer(copy.from.as_str()),
        PatchOperation::Move(from) => document.pointer(from.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let Some(source) = source else { return Ok(()) };
    let (depth, size) = measure(source);
    if operation.path().count() + depth > MAX_DEPTH {
        return too_large("exceeded max depth");
    }
    if matches!(operation, PatchOperation::Copy(_)) {
        *copied = copied.saturating_add(size);
    }
    if *copied > MAX_COPIED {
        return too_large(&format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
        ));
    }
    Ok(())
}

/// Depth, and size in bytes of text, about.
fn measure(value: &Value) -> (usize, usize) {
    let within = |(depth, size): (usize, usize), (inner, added): (usize, usize)| (depth.max(inner + 1), size + added);
    match value {
        Value::Array(list) => list.iter().map(measure).fold((1, 2), within),
        Value::Object(map) => map.iter().fold((1, 2), |sum, (key, value)| {
            let (inner, added) = measure(value);
            within(sum, (inner, added + key.len() + 3))
        }),
        Value::String(text) => (0, text.len() + 2),
        _ => (0, 8),
    }
}

/// The words of the library that Kubernetes uses. What was missing is asked of the document as the operation found it:
/// a failed operation changes nothing, but for a move, which may have taken its source away.
fn words(document: &Value, operation: &PatchOperation) -> String {
    let path = operation.path().as_str();
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
    let has_parent = document.pointer(parent).is_some();
    let why = match operation {
        PatchOperation::Test(_) => return format!("testing value {path} failed: test failed"),
        PatchOperation::Remove(_) if has_parent => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}")
        }
        PatchOperation::Remove(_) => format!("remove operation does not apply: doc is missing path: {path:?}"),
        PatchOperation::Replace(_) if has_parent => {
            format!("replace operation does not apply: doc is missing key: {path}")
        }
        PatchOperation::Replace(_) => format!("replace operation does not apply: doc is missing path: {path}"),
        PatchOperation::Add(_) => format!("add operation does not apply: doc is missing path: {path:?}"),
        PatchOperation::Move(from) => {
            format!(
                "move operation does not apply: doc is missing from path: {}",
                from.from.as_str()
            )
        }
        PatchOperation::Copy(from) => {
            format!(
                "copy operation does not apply: doc is missing from path: {}",
                from.from.as_str()
            )
        }
    };
    format!("{why}: missing value")
}
