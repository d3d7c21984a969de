//! What the cache holds and what it tells.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Key, Revision};

/// One cached value. Immutable, shared by all readers.
pub struct Item<E> {
    /// The key it is stored at.
    pub key: Key,
    /// The revision of its last change (of the deletion, in an event that tells of one).
    pub revision: Revision,
    /// The revision at which the key came into being.
    pub created: Revision,
    /// The bytes as they are served.
    pub bytes: Bytes,
    /// What the index made of it.
    pub entry: E,
    encodings: Mutex<Vec<(u8, Bytes)>>,
}

impl<E> Item<E> {
    pub(super) fn new(key: Key, revision: Revision, created: Revision, (bytes, entry): (Bytes, E)) -> Self {
        Item {
            key,
            revision,
            created,
            bytes,
            entry,
            encodings: Mutex::default(),
        }
    }

    /// Another encoding of the item, if somebody has asked for it.
    pub fn known(&self, slot: u8) -> Option<Bytes> {
        let encodings = self.encodings.lock();
        let found = encodings.iter().find(|(of, _)| *of == slot);
        found.map(|(_, made)| made.clone())
    }

    /// Lets go of the other encodings: those who follow the changes have all been told of this one.
    pub(super) fn forget(&self) {
        *self.encodings.lock() = Vec::new();
    }

    /// Another encoding of the item, made once for all readers and kept while the change that brought it is recent. The caller says what `slot` means. Readers of the same
    /// item wait while `make` runs, which must not ask this item for an encoding.
    pub fn memo(&self, slot: u8, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut encodings = self.encodings.lock();
        if let Some((_, made)) = encodings.iter().find(|(of, _)| *of == slot) {
            return made.clone();
        }
        let made = make();
        encodings.push((slot, made.clone()));
        made
    }
}

impl<E> fmt::Debug for Item<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// What happened to a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It came into being.
    Added,
    /// Its value was replaced.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Debug)]
pub struct Event<E> {
    /// What happened.
    pub kind: EventKind,
    /// The item as it is now; for a deletion as it was last, at the revision of the deletion.
    pub item: Arc<Item<E>>,
    /// The item before the change; `None` for one that was added.
    pub prev: Option<Arc<Item<E>>>,
    /// When it happened.
    pub revision: Revision,
}

impl<E> Clone for Event<E> {
    fn clone(&self) -> Self {
        Event {
            kind: self.kind,
            item: self.item.clone(),
            prev: self.prev.clone(),
            revision: self.revision,
        }
    }
}
