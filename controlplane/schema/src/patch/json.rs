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
    let operations: Patch = serde_json::from_slice(patch).map_err(|error| PatchError::Malformed {
        message: error.to_string(),
    })?;
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
        json_patch::patch_unsafe(document, std::slice::from_ref(operation)).map_err(|error| {
            PatchError::Unapplicable {
                message: words(operation, &error),
            }
        })?;
    }
    Ok(())
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

fn words(operation: &PatchOperation, error: &json_patch::PatchError) -> String {
    let (name, path) = match operation {
        PatchOperation::Add(_) => ("add", operation.path()),
        PatchOperation::Remove(_) => ("remove", operation.path()),
        PatchOperation::Replace(_) => ("replace", operation.path()),
        PatchOperation::Move(_) => ("move", operation.path()),
        PatchOperation::Copy(_) => ("copy", operation.path()),
        PatchOperation::Test(_) => {
            return format!("testing value {} failed", operation.path().as_str());
        }
    };
    format!(
        "{name} operation does not apply: doc is missing path: {}: {}",
        path.as_str(),
        error.kind
    )
}
