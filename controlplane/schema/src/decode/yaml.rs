//! YAML as Kubernetes reads it: one document, YAML 1.1 numbers, anchors within measure.

use std::{collections::HashSet, fmt};

use api::text::quote;
use serde::{
    Deserialize,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Deserializer, Error, Spanned};

/// The keys that stand twice in one map, as Go's YAML decoder says where; nothing of what cannot be read.
pub(super) fn repeated_keys(bytes: &[u8]) -> Vec<String> {
    let read = with_deserializer(bytes, |deserializer| Repeated::deserialize(deserializer));
    read.map(|Repeated(keys)| keys).unwrap_or_default()
}

/// What a node has of them, in the order in which their values end.
#[derive(Default)]
struct Repeated(Vec<String>);

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RepeatedVisitor)
    }
}

struct RepeatedVisitor;

impl<'de> Visitor<'de> for RepeatedVisitor {
    type Value = Repeated;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_i128<E>(self, _: i128) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_u128<E>(self, _: u128) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_unit<E>(self) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_none<E>(self) -> Result<Repeated, E> {
        Ok(Repeated::default())
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, from: D) -> Result<Repeated, D::Error> {
        Repeated::deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Repeated, A::Error> {
        let mut all = Repeated::default();
        while let Some(Repeated(inner)) = items.next_element()? {
            all.0.extend(inner);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Repeated, A::Error> {
        let (mut all, mut seen) = (Repeated::default(), HashSet::new());
        while let Some((key, value)) = entries.next_entry::<String, Spanned<Repeated>>()? {
            all.0.extend(value.value.0);
            if seen.contains(&key) {
                let line = value.defined.line();
                all.0
                    .push(format!("line {line}: key {} already set in map", quote(&key)));
            }
            seen.insert(key);
        }
        Ok(all)
    }
}

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
