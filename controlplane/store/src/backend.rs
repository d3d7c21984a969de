//! The seam between the API server and a store: five methods, bytes and revisions only.
//!
//! Every committed change takes one revision, and revisions are the only clock there is; only values that expire at one
//! moment may be deleted at one revision together. A backend never looks into a value. What is deliberately absent: writes to several keys at once. Several keys can be compared (guards), one is
//! changed.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Watch;

/// A point in the history of the whole store. Each change has its own; an empty store stands at revision 1, so that 0
/// never names a state.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Where an empty store stands.
    pub const FIRST: Revision = Revision(1);

    /// The revision of the change that follows this one.
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The path of a value, ordered bytewise: `group/plural/namespace/name`.
pub type Key = Arc<str>;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// The path.
    pub key: Key,
    /// The bytes as they were written.
    pub value: Bytes,
    /// The revision at which the key came into being (again).
    pub created: Revision,
    /// The revision of the last change.
    pub revision: Revision,
}

/// What a read found, and the revision of the store it was read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What was found.
    pub value: T,
    /// The store's revision at that moment, not the value's.
    pub revision: Revision,
}

/// Which part of a range to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Start behind this key; `None` starts at the first.
    pub after: Option<Key>,
    /// How many items at most.
    pub limit: usize,
}

impl Page {
    /// Everything at once.
    pub fn all() -> Self {
        Page {
            after: None,
            limit: usize::MAX,
        }
    }

    /// The first `limit` items.
    pub fn first(limit: usize) -> Self {
        Page { after: None, limit }
    }
}

/// Items in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// At most as many as the page allows.
    pub items: Vec<Kv>,
    /// Whether further items follow the last.
    pub more: bool,
    /// The revision of which this is the state: ask for the next page at this one.
    pub revision: Revision,
}

/// What must hold of a key for a write to happen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key is not there.
    Absent,
    /// The key's last change is this one.
    At(Revision),
}

impl Expect {
    /// Whether a key whose last change is `current` (`None`: it is absent) meets the expectation.
    pub fn met_by(self, current: Option<Revision>) -> bool {
        match self {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::At(revision) => current == Some(revision),
        }
    }
}

/// A change of one key, made if it and all guards are as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key to change.
    pub key: Key,
    /// What must hold of it.
    pub expect: Expect,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
    /// What must hold of other keys.
    pub guards: Vec<(Key, Expect)>,
    /// How long the value lives. The backend then deletes it by an ordinary change at some moment after that, within a
    /// few seconds or a twentieth of that time. Values that expire together may be deleted at one revision, at which
    /// nothing else happens. Each committed write sets this anew; an unchanged one does not.
    pub ttl: Option<Duration>,
}

impl Write {
    /// Sets a key whatever it was.
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Write {
            key: key.into(),
            expect: Expect::Any,
            value: Some(value.into()),
            guards: Vec::new(),
            ttl: None,
        }
    }

    /// Sets a key that must not exist yet.
    pub fn create(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Write {
            expect: Expect::Absent,
            ..Write::put(key, value)
        }
    }

    /// Sets a key that must be as it was at `revision`.
    pub fn update(key: impl Into<Key>, value: impl Into<Bytes>, revision: Revision) -> Self {
        Write {
            expect: Expect::At(revision),
            ..Write::put(key, value)
        }
    }

    /// Deletes a key that is as `expect` says.
    pub fn delete(key: impl Into<Key>, expect: Expect) -> Self {
        Write {
            key: key.into(),
            expect,
            value: None,
            guards: Vec::new(),
            ttl: None,
        }
    }

    /// Adds a guard.
    pub fn guard(mut self, key: impl Into<Key>, expect: Expect) -> Self {
        self.guards.push((key.into(), expect));
        self
    }

    /// Lets the value expire.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// What became of a write that the store could decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, at this revision.
    Committed(Revision),
    /// The key already had that value (or, for a delete, was absent): nothing was committed. The revision is the
    /// key's last change, or the store's where there is no key.
    Unchanged(Revision),
    /// The key, or a guard, is not as expected: this is how it is. Nothing was committed.
    Conflict {
        /// The first key that is not as expected; the changed key is looked at before the guards.
        key: Key,
        /// How it is.
        current: Option<Kv>,
    },
}

/// One key changed at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// When.
    pub revision: Revision,
    /// The new value; `None` means it was deleted.
    pub value: Option<Bytes>,
    /// How it was before; `None` means it was created.
    pub prev: Option<Kv>,
}

impl Change {
    /// The key as it is after this change.
    pub fn kv(&self) -> Option<Kv> {
        let value = self.value.clone()?;
        let created = self.prev.as_ref().map_or(self.revision, |prev| prev.created);
        Some(Kv {
            key: self.key.clone(),
            value,
            created,
            revision: self.revision,
        })
    }
}

/// Why a store could not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is no longer kept.
    #[error("revision is no longer kept: history begins at {compacted}")]
    Compacted {
        /// The oldest revision that can be read at or watched from.
        compacted: Revision,
    },
    /// The revision asked for has not happened.
    #[error("revision {asked} is in the future: the store is at {current}")]
    FutureRevision {
        /// What was asked for.
        asked: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The store did not answer, or failed; the same call may succeed later. Nothing was written.
    #[error("store unavailable while {doing}")]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// A write may have been carried out or not, and that cannot be found out now: nobody answered after it was sent.
    /// Look before trying again.
    #[error("store did not say whether it is done with {doing}")]
    Undecided {
        /// What was attempted.
        doing: &'static str,
        /// Why nobody answered.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The value, with what has to be said of it, is larger than the store takes; nothing was written.
    #[error("the value is larger than the store takes")]
    TooLarge,
    /// There is no space for the write; nothing was written. Writes succeed again when there is space.
    #[error("no space left for the store: free space on {place}")]
    Full {
        /// The file, disk or quota that is full.
        place: String,
    },
    /// Something stored cannot be what was written.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// Which, and how.
        what: String,
    },
    /// A revision did not arrive in time.
    #[error("timed out waiting for revision {revision}")]
    Timeout {
        /// The revision.
        revision: Revision,
    },
    /// The store, or the cache over it, has been shut down.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// An [`Error::Unavailable`] with its cause.
    pub fn unavailable(doing: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Error::Unavailable {
            doing,
            source: Arc::new(source),
        }
    }

    /// An [`Error::Undecided`] with its cause.
    pub fn undecided(doing: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Error::Undecided {
            doing,
            source: Arc::new(source),
        }
    }
}

/// A store. Every method may be cancelled; a cancelled write may still be committed.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Reads one key. Linearizable: it sees every write acknowledged before the call.
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error>;

    /// Reads the keys that begin with `prefix`, in order: as they are (linearizable), or as they were at a revision
    /// that is still kept. All items are of one moment.
    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error>;

    /// Changes one key. Returns when the change is durable and visible to reads and watches.
    async fn write(&self, write: Write) -> Result<Outcome, Error>;

    /// Every change after `from` to keys that begin with `prefix`, in the order of revisions, none lost or doubled. The
    /// changes of one revision follow each other without a wait in between.
    /// Fails with [`Error::Compacted`] where `from` is too old, at once or as an item; after an error the stream ends.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error>;

    /// Forgets history: afterwards nothing can be read at, or watched from, a revision before `to`.
    async fn compact(&self, to: Revision) -> Result<(), Error>;

    /// Where the store is now; linearizable.
    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.get("").await?.revision)
    }
}

#[async_trait]
impl<B: Backend + ?Sized> Backend for Arc<B> {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        (**self).get(key).await
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        (**self).range(prefix, page, at).await
    }

    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        (**self).write(write).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        (**self).watch(prefix, from).await
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        (**self).compact(to).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        (**self).revision().await
    }
}
