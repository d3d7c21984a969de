//! The watch cache: everything under one prefix in memory, and the latest changes for any number of watchers.
//!
//! One task lists the prefix and follows the backend's watch. Reads take a snapshot in constant time; watchers read the
//! same bounded history, each from a place of its own, so that a slow one falls out alone, with
//! [`Error::Compacted`], and holds up nobody. What an item is served as, and what is known of it, is decided by the
//! [`Index`]: the cache itself never looks into a value.

mod feed;
mod item;
mod state;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use item::{Event, EventKind, Item};
pub use state::Snapshot;
pub use watcher::Watcher;

use crate::ring::Bounds;
use crate::{Backend, Error, Key, Revision};
use state::State;

/// What the owner of the data knows about it.
pub trait Index: Send + Sync + 'static {
    /// What is remembered of an item beside its bytes.
    type Entry: Send + Sync + 'static;

    /// Makes of a stored value the bytes that are served and the entry. Called once for each change; for a deletion,
    /// with the last value and the revision of the deletion.
    fn index(&self, key: &str, revision: Revision, stored: &Bytes) -> (Bytes, Self::Entry);
}

/// How much a cache keeps, and how it reads.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many changes are kept for watchers.
    pub history: usize,
    /// How many bytes of served values those changes may hold.
    pub history_bytes: usize,
    /// For how long changes are kept in any case; what is older, and at the latest twice as old, is kept only as far
    /// as `rest` allows. A watcher that is told of progress comes back with a younger revision than that.
    pub fresh: Duration,
    /// How much is kept of what is not fresh.
    pub rest: Bounds,
    /// How many items are listed at a time.
    pub page: usize,
    /// How long to wait before the first retry after the backend failed; doubled for each further one.
    pub backoff: Duration,
    /// The longest such wait.
    pub max_backoff: Duration,
    /// How long [`Cache::fresh`] waits for what the backend has told of.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            history: 4096,
            history_bytes: 8 << 20,
            // As the watch cache of Kubernetes (`eventFreshDuration`).
            fresh: Duration::from_secs(75),
            rest: Bounds {
                entries: 100,
                weight: 64 << 10,
            },
            page: 500,
            backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(5),
            patience: Duration::from_secs(10),
        }
    }
}

/// Everything under one prefix. Made by [`Cache::start`]; ends with its token.
pub struct Cache<I: Index> {
    shared: Arc<Shared<I>>,
    backend: Arc<dyn Backend>,
}

/// What the feeding task, the readers and the watchers share.
struct Shared<I: Index> {
    prefix: Key,
    index: I,
    options: Options,
    state: RwLock<State<I::Entry>>,
    position: watch::Sender<Position>,
    /// Moves when there may be something for watchers to read; says whether the cache has been shut down. Apart from the
    /// position, which also moves when nothing has happened here, and would then wake every watcher for nothing.
    news: watch::Sender<bool>,
    /// Wakes the feeding task to ask the backend for progress.
    ask: Notify,
}

/// How far the cache has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Position {
    ready: bool,
    closed: bool,
    revision: Revision,
}

impl<I: Index> Cache<I> {
    /// Starts the task that fills the cache and keeps it current until `shutdown`.
    pub fn start(
        backend: Arc<dyn Backend>,
        prefix: &str,
        index: I,
        options: Options,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let bounds = Bounds {
            entries: options.history,
            weight: options.history_bytes,
        };
        let shared = Arc::new(Shared {
            prefix: prefix.into(),
            index,
            options,
            state: RwLock::new(State::new(bounds)),
            position: watch::Sender::new(Position {
                ready: false,
                closed: false,
                revision: Revision::default(),
            }),
            news: watch::Sender::new(false),
            ask: Notify::new(),
        });
        tasks.spawn(feed::run(shared.clone(), backend.clone(), shutdown));
        Arc::new(Cache { shared, backend })
    }

    /// Returns when the first listing is complete (or the cache has been shut down).
    pub async fn ready(&self) {
        // An error means that the sender is gone, and we hold it.
        let _ = self
            .shared
            .position
            .subscribe()
            .wait_for(|position| position.ready || position.closed)
            .await;
    }

    /// Whether the first listing is complete.
    pub fn is_ready(&self) -> bool {
        self.shared.position.borrow().ready
    }

    /// The revision up to which the cache has seen everything under its prefix.
    pub fn revision(&self) -> Revision {
        self.shared.position.borrow().revision
    }

    /// Returns when every write that was acknowledged before this call is visible here: what makes a read from the
    /// cache as consistent as one from the store. Fails with [`Error::Timeout`] where the backend answers and its watch
    /// does not come.
    pub async fn fresh(&self) -> Result<Revision, Error> {
        let now = self.backend.revision().await?;
        if let Some(reached) = self.at(now) {
            return Ok(reached);
        }
        match tokio::time::timeout(self.shared.options.patience, self.reach(now)).await {
            Ok(reached) => reached,
            Err(_) => Err(Error::Timeout { revision: now }),
        }
    }

    /// Where the cache is, if it has come to `revision` already.
    fn at(&self, revision: Revision) -> Option<Revision> {
        let position = self.shared.position.borrow();
        (position.ready && !position.closed && position.revision >= revision).then_some(position.revision)
    }

    /// Returns when the cache has come to `revision`, or with [`Error::Timeout`].
    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<(), Error> {
        match tokio::time::timeout(timeout, self.reach(revision)).await {
            Ok(reached) => reached.map(drop),
            Err(_) => Err(Error::Timeout { revision }),
        }
    }

    async fn reach(&self, revision: Revision) -> Result<Revision, Error> {
        let mut position = self.shared.position.subscribe();
        let reached = |at: &Position| at.ready && at.revision >= revision;
        if !reached(&position.borrow()) {
            self.shared.ask.notify_one();
        }
        let at = position
            .wait_for(|at| at.closed || reached(at))
            .await
            .map_err(|_| Error::Closed)?;
        match at.closed {
            true => Err(Error::Closed),
            false => Ok(at.revision),
        }
    }

    /// The item at a key.
    pub fn get(&self, key: &str) -> Option<Arc<Item<I::Entry>>> {
        self.shared.state.read().get(key)
    }

    /// Everything, as of one revision. Takes constant time and holds up nobody for as long as it lives.
    pub fn snapshot(&self) -> Snapshot<I::Entry> {
        self.shared.state.read().snapshot()
    }

    /// Every change after `from` to keys that begin with `prefix`. Fails with [`Error::Compacted`] if `from` is no
    /// longer in the history, and with [`Error::FutureRevision`] if the cache has not come to it (see
    /// [`Cache::wait_for`]).
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher<I>, Error> {
        Watcher::start(self.shared.clone(), prefix, from)
    }
}

#[cfg(test)]
mod tests;
