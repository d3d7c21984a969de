//! What clients write down.

use std::collections::BTreeMap;

/// The name of an object.
pub type Key = String;
/// What was written; no two writes write the same.
pub type Value = u64;
/// A `resourceVersion`.
pub type Revision = u64;
/// A moment, in nanoseconds on one clock that all clients share.
pub type Moment = u64;

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Op {
    pub key: Key,
    pub what: What,
    /// When the request was sent.
    pub began: Moment,
    /// When its answer came, or when it was known that none would come.
    pub ended: Moment,
    pub answer: Answer,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Make the object, which must not be there.
    Create(Value),
    /// Replace the object, which must be at this revision.
    Update(Value, Revision),
    /// Read the object, and not from a cache that may be late.
    Read,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was written, at this revision.
    Written(Revision),
    /// It holds this value since this revision.
    Found(Value, Revision),
    /// It is not there.
    Missing,
    /// It was refused, and nothing was written.
    Refused,
    /// Nobody knows.
    Lost,
}

/// What a watcher saw, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It listed everything: values with the revisions they were written at, as of one revision.
    Listed(Revision, BTreeMap<Key, (Value, Revision)>),
    /// It began to watch, from behind this revision.
    Resumed(Revision),
    /// An event.
    Event(Event),
    /// Everything up to this revision has been told.
    Bookmark(Revision),
}

/// An object was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it was not there before.
    pub added: bool,
    pub key: Key,
    pub value: Value,
    pub revision: Revision,
}

/// Everything that was written down.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub ops: Vec<Op>,
    /// What each watcher saw.
    pub watchers: Vec<Vec<Seen>>,
    /// What there was in the end.
    pub last: BTreeMap<Key, (Value, Revision)>,
}
