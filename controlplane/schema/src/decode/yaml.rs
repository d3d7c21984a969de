//! YAML as Kubernetes reads it: one document, YAML 1.1 numbers, anchors within measure.

use serde_saphyr::{Deserializer, Error};

/// Runs a decoder over a document. Duplicate keys go through to it, so that it can report them by path.
pub(super) fn with_deserializer<R>(
    bytes: &[u8],
    decode: impl for<'e> FnOnce(Deserializer<'_, 'e>) -> Result<R, Error>,
) -> Result<R, Error> {
    serde_saphyr::with_deserializer_from_slice_with_options(bytes, options(), decode)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        budget: serde_saphyr::budget! {
            max_depth: super::MAX_DEPTH,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
    }
}
