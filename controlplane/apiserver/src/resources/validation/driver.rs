//! Names of drivers: what registers with a node to serve storage (CSI) or devices (dynamic resource allocation).

use api::{FieldError, FieldErrors};

use super::At;
use super::names::is_dns1123_subdomain;

/// The longest name of a driver; it becomes part of a socket's path.
pub(crate) const MAX: usize = 63;

/// A driver's name: a DNS subdomain in any case, not too long.
pub(crate) fn name(at: &At<'_>, errors: &mut FieldErrors) {
    let text = at.str();
    if text.is_empty() {
        return errors.push(at.required(""));
    }
    if text.len() > MAX {
        errors.push(FieldError::too_long(at.path(), MAX));
    }
    let messages = is_dns1123_subdomain(&text.to_lowercase());
    errors.extend(messages.into_iter().map(|message| at.invalid(message)));
}
