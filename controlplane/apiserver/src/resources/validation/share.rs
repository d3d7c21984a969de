//! A number, or a share of one in per cent: how many pods may be missing, or must be there.

use api::FieldErrors;
use serde_json::Value;

use super::At;

/// If set, not negative, and a percentage if it is a text.
pub(crate) fn count_or_percent(at: &At<'_>, errors: &mut FieldErrors) {
    let Some(Value::String(text)) = at.value() else {
        return at.non_negative(errors);
    };
    let digits = text.strip_suffix('%').unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        errors.push(at.invalid(
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for \
             validation is '[0-9]+%')",
        ));
    }
}

/// The number, whether it counts or is a percentage.
pub(crate) fn amount(at: &At<'_>) -> Option<i64> {
    at.i64().or_else(|| at.str().strip_suffix('%')?.parse().ok())
}

/// A percentage of at most the whole.
pub(crate) fn at_most_all(at: &At<'_>, errors: &mut FieldErrors) {
    if at.str().ends_with('%') && amount(at).is_some_and(|percent| percent > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}
