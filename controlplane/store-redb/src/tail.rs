//! The latest changes in memory, and the watches that read them.
//!
//! The writer publishes a batch after its commit and before it answers. It never waits for a watch: one that falls
//! behind what is kept here reads on from the file, and one that falls behind that is told so.

use std::sync::Arc;

use parking_lot::Mutex;
use store::follow::{Log, follow};
use store::ring::{Bounds, Ring};
use store::{Change, Error, Revision, Watch};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::format::Head;

/// How many changes a watch reads from the file at a time.
const PAGE: usize = 256;

#[derive(Debug)]
pub(crate) struct Tail {
    changes: Mutex<Ring<Change>>,
    published: watch::Sender<Published>,
}

/// What watches and linearizable reads go by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Published {
    revision: Revision,
    compacted: Revision,
    closed: bool,
}

impl Tail {
    /// Of a store that stands at `head`.
    pub(crate) fn new(head: Head, bounds: Bounds) -> Self {
        let Head {
            revision, compacted, ..
        } = head;
        let published = watch::Sender::new(Published {
            revision,
            compacted,
            closed: false,
        });
        Tail {
            changes: Mutex::new(Ring::new(revision, bounds)),
            published,
        }
    }

    /// Tells of changes that are durable, and of where the store stands with them.
    pub(crate) fn publish(&self, changes: Vec<Change>, head: Head) {
        {
            let mut tail = self.changes.lock();
            for change in changes {
                tail.push(change.revision, weight(&change), change);
            }
        }
        self.published.send_modify(|published| {
            published.revision = head.revision;
            published.compacted = head.compacted;
        });
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.published.send_modify(|published| published.closed = true);
    }

    /// The latest revision that has been acknowledged.
    pub(crate) fn revision(&self) -> Result<Revision, Error> {
        self.published.borrow().open().map(|published| published.revision)
    }
}

impl Published {
    fn open(self) -> Result<Self, Error> {
        match self.closed {
            true => Err(Error::Closed),
            false => Ok(self),
        }
    }
}

fn weight(change: &Change) -> usize {
    let values =
        change.value.as_ref().map_or(0, |value| value.len()) + change.prev.as_ref().map_or(0, |kv| kv.value.len());
    change.key.len() + values
}

/// Watches from `from`, which must be kept, and may be later than what was published if it has just been read.
pub(crate) async fn watch(engine: &Arc<Engine>, prefix: &str, from: Revision) -> Result<Watch, Error> {
    let published = engine.tail().published.subscribe();
    let now = published.borrow().open()?;
    if from < now.compacted || from > now.revision {
        engine.read(move |reader| reader.check_kept(from)).await?;
    }
    Ok(follow(
        Changes {
            engine: engine.clone(),
            published,
            prefix: prefix.to_owned(),
        },
        from,
    ))
}

/// What one watch reads.
struct Changes {
    engine: Arc<Engine>,
    published: watch::Receiver<Published>,
    prefix: String,
}

impl Changes {
    /// From memory, or `None` where that does not reach back far enough.
    fn latest(&self, from: Revision, now: Revision) -> Option<(Vec<Change>, Revision)> {
        let tail = self.engine.tail().changes.lock();
        let after = tail.after(from).ok()?.map(|(_, change)| change);
        let mut through = now.max(from);
        let mut changes = Vec::new();
        for change in after {
            through = through.max(change.revision);
            if change.key.starts_with(&self.prefix) {
                changes.push(change.clone());
            }
        }
        Some((changes, through))
    }
}

impl Log for Changes {
    async fn read(&mut self, from: Revision) -> Result<(Vec<Change>, Revision), Error> {
        let now = self.published.borrow_and_update().open()?;
        if from < now.compacted {
            return Err(Error::Compacted {
                compacted: now.compacted,
            });
        }
        if let Some(found) = self.latest(from, now.revision) {
            return Ok(found);
        }
        let prefix = self.prefix.clone();
        self.engine
            .read(move |reader| reader.changes(&prefix, from, PAGE))
            .await
    }

    async fn changed(&mut self) {
        // The sender lives as long as the engine, which is held here.
        let _ = self.published.changed().await;
    }
}
