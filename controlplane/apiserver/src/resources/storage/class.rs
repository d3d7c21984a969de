//! What storage classes and volume attributes classes have in common: who serves them, and opaque parameters.

use api::{FieldError, FieldErrors};

use crate::resources::validation::At;
use crate::resources::validation::names::is_qualified_name;

const MAX_PARAMETERS: usize = 512;
/// Bytes of all keys and values together.
const MAX_SIZE: usize = 256 * 1024;

/// The name of who provisions: a qualified name in any case.
pub(super) fn provisioner(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        return errors.push(at.required(""));
    }
    let lower = at.str().to_lowercase();
    let messages = is_qualified_name(&lower);
    errors.extend(
        messages
            .into_iter()
            .map(|message| at.invalid_as(lower.as_str(), message)),
    );
}

/// A map of parameters, which only their reader understands.
pub(super) fn parameters(at: &At<'_>, errors: &mut FieldErrors) {
    if at.len() > MAX_PARAMETERS {
        return errors.push(FieldError::too_long(at.path(), MAX_PARAMETERS));
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.push(at.invalid_as(key, "field can not be empty."));
        }
        size += key.len() + value.str().len();
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(at.path(), MAX_SIZE));
    }
}
