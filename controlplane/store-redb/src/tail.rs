//! The latest changes in memory, and the watches that read them.
//!
//! The writer publishes a batch after its commit and before it answers. It never waits for a watch: one that falls
//! behind what is kept here reads on from the file, and one that falls behind that is told so.
//!
//! A write wakes the watches whose prefix it matches and no others. So a watch knows for what it was not woken: up to
//! the change that marks it there is nothing for it to read, however long ago it looked.

use std::sync::Arc;

use parking_lot::Mutex;
use store::follow::{Log, follow};
use store::ring::{Bounds, Ring};
use store::{Change, Error, Revision, Watch};
use tokio::sync::{Notify, watch};

use crate::engine::Engine;
use crate::format::Head;

/// How many changes a watch reads from the file at a time.
const PAGE: usize = 256;

#[derive(Debug)]
pub(crate) struct Tail {
    latest: Mutex<Latest>,
    published: watch::Sender<Published>,
}

#[derive(Debug)]
struct Latest {
    changes: Ring<Change>,
    readers: Vec<Arc<Reader>>,
}

/// One watch, as the writer sees it.
#[derive(Debug)]
struct Reader {
    prefix: String,
    unread: Mutex<Unread>,
    wake: Notify,
}

/// What is known of the changes that a watch has not read.
#[derive(Copy, Clone, Debug)]
enum Unread {
    /// None of them matches.
    Nothing,
    /// Those up to this revision do not match.
    After(Revision),
}

impl Reader {
    /// A change at this revision matches.
    fn mark(&self, at: Revision) {
        let mut unread = self.unread.lock();
        if matches!(*unread, Unread::Nothing) {
            *unread = Unread::After(Revision(at.0.saturating_sub(1)));
        }
    }
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
            latest: Mutex::new(Latest {
                changes: Ring::new(revision, bounds),
                readers: Vec::new(),
            }),
            published,
        }
    }

    /// Tells of changes that are durable, and of where the store stands with them.
    pub(crate) fn publish(&self, changes: Vec<Change>, head: Head) {
        let mut woken = Vec::new();
        {
            let mut latest = self.latest.lock();
            let Latest { changes: ring, readers } = &mut *latest;
            for reader in readers.iter() {
                if let Some(first) = changes.iter().find(|change| change.key.starts_with(&reader.prefix)) {
                    reader.mark(first.revision);
                    woken.push(reader.clone());
                }
            }
            for change in changes {
                ring.push(change.revision, weight(&change), change);
            }
        }
        self.published.send_modify(|published| {
            published.revision = head.revision;
            published.compacted = head.compacted;
        });
        woken.iter().for_each(|reader| reader.wake.notify_one());
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.published.send_modify(|published| published.closed = true);
        let latest = self.latest.lock();
        latest.readers.iter().for_each(|reader| reader.wake.notify_one());
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
    let reader = Arc::new(Reader {
        prefix: prefix.to_owned(),
        unread: Mutex::new(Unread::After(from)),
        wake: Notify::new(),
    });
    engine.tail().latest.lock().readers.push(reader.clone());
    let changes = Changes {
        engine: engine.clone(),
        published,
        reader,
    };
    Ok(follow(changes, from))
}

/// What one watch reads.
struct Changes {
    engine: Arc<Engine>,
    published: watch::Receiver<Published>,
    reader: Arc<Reader>,
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut latest = self.engine.tail().latest.lock();
        latest.readers.retain(|reader| !Arc::ptr_eq(reader, &self.reader));
    }
}

/// What a look at the latest changes has found.
enum Found {
    /// All changes up to a revision.
    All(Vec<Change>, Revision),
    /// The changes after this revision are no longer all in memory.
    Older(Revision),
}

impl Changes {
    /// The changes after `from`, as things stand `now`.
    fn latest(&self, from: Revision, now: Published) -> Result<Found, Error> {
        let latest = self.engine.tail().latest.lock();
        let mut unread = self.reader.unread.lock();
        let Unread::After(quiet) = *unread else {
            return Ok(Found::All(Vec::new(), now.revision.max(from)));
        };
        let from = from.max(quiet);
        if from < now.compacted {
            return Err(Error::Compacted {
                compacted: now.compacted,
            });
        }
        let Ok(after) = latest.changes.after(from) else {
            return Ok(Found::Older(from));
        };
        *unread = Unread::Nothing;
        let mut through = now.revision.max(from);
        let mut changes = Vec::new();
        for (_, change) in after {
            through = through.max(change.revision);
            if change.key.starts_with(&self.reader.prefix) {
                changes.push(change.clone());
            }
        }
        Ok(Found::All(changes, through))
    }
}

impl Log for Changes {
    async fn read(&mut self, from: Revision) -> Result<(Vec<Change>, Revision), Error> {
        let now = self.published.borrow_and_update().open()?;
        let from = match self.latest(from, now)? {
            Found::All(changes, through) => return Ok((changes, through)),
            Found::Older(from) => from,
        };
        let prefix = self.reader.prefix.clone();
        self.engine
            .read(move |reader| reader.changes(&prefix, from, PAGE))
            .await
    }

    async fn changed(&mut self) {
        self.reader.wake.notified().await;
    }
}
