//! Claims of devices.

use super::{Tree, ensure_number, text};

/// Who does not say how many devices wants one.
pub(super) fn request(request: &mut Tree) {
    if text(request, "allocationMode").is_empty() {
        request.insert("allocationMode".to_owned(), "ExactCount".into());
    }
    if text(request, "allocationMode") == "ExactCount" {
        ensure_number(request, "count", 1);
    }
}
