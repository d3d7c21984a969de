//! What stands in the file: five tables and how their values are laid out. Numbers are big-endian.
//!
//! | table   | key                  | value                                                             |
//! |---------|----------------------|-------------------------------------------------------------------|
//! | current | key                  | created u64, revision u64, deadline u64 (ms, 0: none), value      |
//! | history | revision             | what changed: see [`encode_change`]                               |
//! | expiry  | (deadline in ms, key)| nothing                                                           |
//! | head    | "revision", "compacted", "history bytes" | u64                                           |
//! | format  | "format"             | u64, [`FORMAT`]                                                   |
//!
//! A file with a higher format is refused before anything else is read.

use bytes::{Buf, BufMut, Bytes};
use redb::TableDefinition;
use store::{Change, Key, Kv, Revision};

/// The layout that this version writes.
pub(crate) const FORMAT: u64 = 1;

pub(crate) const CURRENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("current");
pub(crate) const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
pub(crate) const EXPIRY: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("expiry");
pub(crate) const HEAD: TableDefinition<'_, &str, u64> = TableDefinition::new("head");
pub(crate) const FORMATS: TableDefinition<'_, &str, u64> = TableDefinition::new("format");

/// Where a store stands; written with every batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The latest revision.
    pub(crate) revision: Revision,
    /// The revision up to which history was removed.
    pub(crate) compacted: Revision,
    /// The length of all values in the history table.
    pub(crate) history_bytes: u64,
}

impl Head {
    /// Of a store without anything.
    pub(crate) const EMPTY: Head = Head {
        revision: Revision::FIRST,
        compacted: Revision::FIRST,
        history_bytes: 0,
    };

    /// By the names under which its numbers are kept.
    pub(crate) fn fields(self) -> [(&'static str, u64); 3] {
        [
            ("revision", self.revision.0),
            ("compacted", self.compacted.0),
            ("history bytes", self.history_bytes),
        ]
    }

    /// The reverse of [`Head::fields`].
    pub(crate) fn from_fields([revision, compacted, history_bytes]: [u64; 3]) -> Self {
        Head {
            revision: Revision(revision),
            compacted: Revision(compacted),
            history_bytes,
        }
    }
}

/// A value of the table of what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) created: Revision,
    pub(crate) revision: Revision,
    /// When it expires, in milliseconds since 1970; 0 is never.
    pub(crate) deadline: u64,
    pub(crate) value: Bytes,
}

impl Stored {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.value.len());
        out.put_u64(self.created.0);
        out.put_u64(self.revision.0);
        out.put_u64(self.deadline);
        out.put_slice(&self.value);
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        Some(Stored {
            created: Revision(bytes.try_get_u64().ok()?),
            revision: Revision(bytes.try_get_u64().ok()?),
            deadline: bytes.try_get_u64().ok()?,
            value: Bytes::copy_from_slice(bytes),
        })
    }

    /// The revision alone.
    pub(crate) fn decode_revision(mut bytes: &[u8]) -> Option<Revision> {
        bytes.try_get_u64().ok()?;
        let revision = Revision(bytes.try_get_u64().ok()?);
        bytes.try_get_u64().ok().map(|_deadline| revision)
    }

    pub(crate) fn into_kv(self, key: impl Into<Key>) -> Kv {
        Kv {
            key: key.into(),
            value: self.value,
            created: self.created,
            revision: self.revision,
        }
    }
}

const HAS_VALUE: u8 = 1;
const HAS_PREV: u8 = 2;

/// A change without its revision: flags u8, key (u32 length), value (u32 length, if any), and what was before, if
/// anything: created u64, revision u64, value.
pub(crate) fn encode_change(change: &Change) -> Vec<u8> {
    let value = change.value.as_deref();
    let prev_length = change.prev.as_ref().map_or(0, |prev| prev.value.len());
    let mut out = Vec::with_capacity(25 + change.key.len() + value.map_or(0, <[u8]>::len) + prev_length);
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.put_u8(flag(value.is_some(), HAS_VALUE) | flag(change.prev.is_some(), HAS_PREV));
    put_sized(&mut out, change.key.as_bytes());
    if let Some(value) = value {
        put_sized(&mut out, value);
    }
    if let Some(prev) = &change.prev {
        out.put_u64(prev.created.0);
        out.put_u64(prev.revision.0);
        out.put_slice(&prev.value);
    }
    out
}

/// The reverse of [`encode_change`]; `None` where the bytes are not that.
pub(crate) fn decode_change(revision: Revision, mut bytes: &[u8]) -> Option<Change> {
    let flags = bytes.try_get_u8().ok()?;
    let key = Key::from(std::str::from_utf8(take_sized(&mut bytes)?).ok()?);
    let value = match flags & HAS_VALUE {
        0 => None,
        _ => Some(Bytes::copy_from_slice(take_sized(&mut bytes)?)),
    };
    let prev = match flags & HAS_PREV {
        0 => None,
        _ => {
            let created = Revision(bytes.try_get_u64().ok()?);
            let revision = Revision(bytes.try_get_u64().ok()?);
            Some(Kv {
                key: key.clone(),
                value: Bytes::copy_from_slice(bytes),
                created,
                revision,
            })
        }
    };
    Some(Change {
        key,
        revision,
        value,
        prev,
    })
}

/// The key of an encoded change, without the rest.
pub(crate) fn changed_key(mut bytes: &[u8]) -> Option<&str> {
    bytes.try_get_u8().ok()?;
    std::str::from_utf8(take_sized(&mut bytes)?).ok()
}

/// redb refuses values of 3 GiB, so a length always fits.
fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = bytes.try_get_u32().ok()?;
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Bytes> {
        any::<Vec<u8>>().prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn changes_come_back(
            key in ".{0,20}",
            revision: u64,
            value in proptest::option::of(value()),
            prev in proptest::option::of((value(), any::<u64>(), any::<u64>())),
        ) {
            let key = Key::from(key);
            let prev = prev.map(|(value, created, revision)| Kv {
                key: key.clone(), value, created: Revision(created), revision: Revision(revision),
            });
            let change = Change { key, revision: Revision(revision), value, prev };
            let encoded = encode_change(&change);
            prop_assert_eq!(changed_key(&encoded), Some(&*change.key));
            prop_assert_eq!(decode_change(change.revision, &encoded), Some(change));
        }

        #[test]
        fn values_come_back(created: u64, revision: u64, deadline: u64, value in value()) {
            let stored = Stored { created: Revision(created), revision: Revision(revision), deadline, value };
            prop_assert_eq!(Stored::decode_revision(&stored.encode()), Some(stored.revision));
            prop_assert_eq!(Stored::decode(&stored.encode()), Some(stored));
        }

        #[test]
        fn anything_else_is_refused_or_read_but_never_a_panic(bytes: Vec<u8>) {
            let _ = (Stored::decode(&bytes), decode_change(Revision(2), &bytes), changed_key(&bytes));
        }
    }
}
