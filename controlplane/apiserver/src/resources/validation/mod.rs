//! Rules shared by several kinds. A rule takes the place it checks ([`At`]) and adds to a list of errors: all problems are
//! reported, none hides another. The wording is Kubernetes', because people search for it.

pub(crate) mod addresses;
mod at;
pub(crate) mod cron;
pub(crate) mod labels;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod pod;
pub(crate) mod quantity;
pub(crate) mod share;

use api::{FieldError, FieldErrors};

pub(crate) use at::At;

/// What a kind's rules and its schema say together. Both may see the same fault; the kind says it better.
pub(crate) fn merge(mut by_kind: FieldErrors, by_schema: FieldErrors) -> FieldErrors {
    let known = by_kind.len();
    for error in by_schema {
        let same = |e: &FieldError| e.path == error.path && e.kind == error.kind;
        if !by_kind.iter().take(known).any(same) {
            by_kind.push(error);
        }
    }
    by_kind
}
