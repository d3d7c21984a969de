//! Where our keys lie among those of others: under a root, as they are. Pure.
//!
//! Beside them lie markers: the range of a watch ends with a key that no key of ours can be, since it is no UTF-8. What a
//! marker is for is told in [`crate::watch`]; reads do not see it.

use bytes::{BufMut, Bytes, BytesMut};
use store::{Error, Key, Kv, Revision};

use crate::proto::KeyValue;

/// The last byte of a marker, which UTF-8 never has.
const MARKER: u8 = 0xff;

/// Maps keys to etcd's and back.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    root: Bytes,
}

impl Keyspace {
    /// `root` must not be empty.
    pub(crate) fn new(root: &str) -> Self {
        Keyspace {
            root: Bytes::copy_from_slice(root.as_bytes()),
        }
    }

    /// The key as etcd has it.
    pub(crate) fn raw(&self, key: &str) -> Bytes {
        self.join(key, &[])
    }

    /// Where keys that begin with `prefix` begin, or those of them behind `after`.
    pub(crate) fn start(&self, prefix: &str, after: Option<&str>) -> Bytes {
        match after {
            Some(after) if after >= prefix => self.join(after, &[0]),
            _ => self.raw(prefix),
        }
    }

    /// The first key behind all that begin with `prefix`. A string's last byte can always be raised.
    pub(crate) fn end(&self, prefix: &str) -> Bytes {
        let mut end = BytesMut::from(&*self.raw(prefix));
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end.freeze()
    }

    /// The marker of watches under `prefix`.
    pub(crate) fn marker(&self, prefix: &str) -> Bytes {
        self.join(prefix, &[MARKER])
    }

    /// The key of ours; `None` for a marker.
    pub(crate) fn key(&self, raw: &[u8]) -> Result<Option<Key>, Error> {
        if raw.last() == Some(&MARKER) {
            return Ok(None);
        }
        let key = raw
            .strip_prefix(&*self.root)
            .and_then(|key| std::str::from_utf8(key).ok());
        match key {
            Some(key) => Ok(Some(key.into())),
            None => Err(Error::Corrupt {
                what: format!("etcd's key {:?} is none of ours", String::from_utf8_lossy(raw)),
            }),
        }
    }

    /// What was found at a key; `None` for a marker.
    pub(crate) fn kv(&self, found: KeyValue) -> Result<Option<Kv>, Error> {
        let key = self.key(&found.key)?;
        Ok(key.map(|key| Kv {
            key,
            value: found.value,
            created: revision(found.create_revision),
            revision: revision(found.mod_revision),
        }))
    }

    fn join(&self, key: &str, tail: &[u8]) -> Bytes {
        let mut raw = BytesMut::with_capacity(self.root.len() + key.len() + tail.len());
        raw.put_slice(&self.root);
        raw.put_slice(key.as_bytes());
        raw.put_slice(tail);
        raw.freeze()
    }
}

/// The first key behind one of etcd's.
pub(crate) fn behind(raw: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(raw.len() + 1);
    next.put_slice(raw);
    next.put_u8(0);
    next.freeze()
}

/// etcd counts with a sign.
pub(crate) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

/// The reverse of [`revision`].
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_back_and_lie_within_their_prefixes(key in ".{0,12}", cut in 0usize..12) {
            let space = Keyspace::new("/wherry/");
            let raw = space.raw(&key);
            let found = space.key(&raw).unwrap();
            prop_assert_eq!(found.as_deref(), Some(&*key));
            let prefix: String = key.chars().take(cut).collect();
            prop_assert!(space.start(&prefix, None) <= raw && raw < space.end(&prefix));
            prop_assert!(raw < space.marker(&prefix) && space.marker(&prefix) < space.end(&prefix));
            prop_assert!(raw < space.start("", Some(&key)));
        }
    }

    #[test]
    fn markers_are_no_keys_and_what_is_not_ours_is_refused() {
        let space = Keyspace::new("/wherry/");
        assert_eq!(space.key(&space.marker("core/pods/")).unwrap(), None);
        assert!(space.key(b"/registry/pods/a").is_err());
        assert!(space.key(b"/wherry/\xc3(").is_err());
    }

    #[test]
    fn ranges_begin_behind_a_key_or_at_their_prefix() {
        let space = Keyspace::new("/");
        for (after, start) in [
            (None, "/p/"),
            (Some("a"), "/p/"),
            (Some("p/4"), "/p/4\0"),
            (Some("z"), "/z\0"),
        ] {
            assert_eq!(space.start("p/", after), start.as_bytes(), "{after:?}");
        }
        assert_eq!(space.end("p/"), &b"/p0"[..]);
    }
}
