//! The model: a store in memory, as plain as the contract allows, that others are compared with and tests run on.
//!
//! All of it stands behind one lock, and history is kept until it is compacted. Values expire by tokio's clock, which
//! tests may pause, and are deleted by whoever looks next; there is no task behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::follow::{Log, follow};
use crate::rewind::Overlay;
use crate::ring::{Bounds, Ring};
use crate::{Backend, Change, Error, Expect, Key, Kv, Outcome, Page, Range, Read, Revision, Watch, Write};

/// A store in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Tells watchers of changes, and of deadlines that came nearer.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    current: BTreeMap<Key, Kv>,
    deadlines: BTreeMap<Key, Instant>,
    by_deadline: BTreeSet<(Instant, Key)>,
    history: Ring<Change>,
    revision: Revision,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Memory {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new()),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// Runs `f` on the state after what is due has expired, and tells watchers if anything changed.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.shared.with(f)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Shared {
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, changed) = {
            let mut state = self.state.lock();
            let before = (state.revision, state.history.floor(), state.next_deadline());
            state.expire(Instant::now());
            let result = f(&mut state);
            (
                result,
                before != (state.revision, state.history.floor(), state.next_deadline()),
            )
        };
        if changed {
            self.changed.send_replace(());
        }
        result
    }
}

impl State {
    fn new() -> Self {
        State {
            current: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
            history: Ring::new(
                Revision::FIRST,
                Bounds {
                    entries: usize::MAX,
                    weight: usize::MAX,
                },
            ),
            revision: Revision::FIRST,
        }
    }

    fn write(&mut self, write: Write, now: Instant) -> Outcome {
        if let Some((key, current)) = self.unmet(&write) {
            return Outcome::Conflict { key, current };
        }
        let prev = self.current.get(&write.key);
        if prev.map(|kv| &kv.value) == write.value.as_ref() {
            return Outcome::Unchanged(prev.map_or(self.revision, |kv| kv.revision));
        }
        let deadline = write.ttl.map(|ttl| now + ttl);
        Outcome::Committed(self.commit(write.key, write.value, deadline))
    }

    fn unmet(&self, write: &Write) -> Option<(Key, Option<Kv>)> {
        let own = std::iter::once((&write.key, write.expect));
        let guards = write.guards.iter().map(|(key, expect)| (key, *expect));
        own.chain(guards).find_map(|(key, expect): (&Key, Expect)| {
            let current = self.current.get(key);
            (!expect.met_by(current.map(|kv| kv.revision))).then(|| (key.clone(), current.cloned()))
        })
    }

    fn commit(&mut self, key: Key, value: Option<bytes::Bytes>, deadline: Option<Instant>) -> Revision {
        self.revision = self.revision.next();
        self.set_deadline(&key, deadline.filter(|_| value.is_some()));
        let change = Change {
            prev: self.current.remove(&key),
            key,
            revision: self.revision,
            value,
        };
        if let Some(kv) = change.kv() {
            self.current.insert(kv.key.clone(), kv);
        }
        self.history.push(self.revision, 0, change);
        self.revision
    }

    fn set_deadline(&mut self, key: &Key, deadline: Option<Instant>) {
        let old = match deadline {
            Some(new) => self.deadlines.insert(key.clone(), new),
            None => self.deadlines.remove(key),
        };
        if let Some(old) = old {
            self.by_deadline.remove(&(old, key.clone()));
        }
        if let Some(new) = deadline {
            self.by_deadline.insert((new, key.clone()));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, key)) = self
            .by_deadline
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .cloned()
        {
            self.commit(key, None, None);
        }
    }

    fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        let revision = at.unwrap_or(self.revision);
        self.check_not_future(revision)?;
        let wanted = |key: &Key| key.starts_with(prefix) && page.after.as_ref().is_none_or(|after| key > after);
        let mut overlay = Overlay::default();
        let since = self.history.after(revision)?.filter(|(_, change)| wanted(&change.key));
        since.for_each(|(_, change)| overlay.take_back(change.clone()));
        let start = match &page.after {
            Some(after) if **after >= *prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(Key::from(prefix)),
        };
        let present = self.current.range((start, Bound::Unbounded)).map(|(_, kv)| kv);
        let present = present.take_while(|kv| kv.key.starts_with(prefix)).cloned();
        let applied: Result<_, std::convert::Infallible> = overlay.apply(present.map(Ok), page.limit);
        let (items, more) = match applied {
            Ok(applied) => applied,
            Err(never) => match never {},
        };
        Ok(Range { items, more, revision })
    }

    fn check_not_future(&self, asked: Revision) -> Result<(), Error> {
        match asked > self.revision {
            true => Err(Error::FutureRevision {
                asked,
                current: self.revision,
            }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Backend for Memory {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        Ok(self.with(|state| Read {
            value: state.current.get(key).cloned(),
            revision: state.revision,
        }))
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        self.with(|state| state.range(prefix, page, at))
    }

    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        Ok(self.with(|state| state.write(write, Instant::now())))
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.with(|state| {
            state
                .check_not_future(from)
                .and_then(|()| state.history.after(from).map(drop))
        })?;
        let (shared, changed) = (self.shared.clone(), self.shared.changed.subscribe());
        Ok(follow(
            Changes {
                shared,
                changed,
                prefix: prefix.to_owned(),
                next_deadline: None,
            },
            from,
        ))
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.with(|state| {
            state.check_not_future(to)?;
            state.history.compact(to);
            Ok(())
        })
    }
}

/// What one watch reads: the history under a prefix.
struct Changes {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    prefix: String,
    next_deadline: Option<Instant>,
}

impl Log for Changes {
    async fn read(&mut self, from: Revision) -> Result<(Vec<Change>, Revision), Error> {
        self.changed.mark_unchanged();
        self.shared.with(|state| {
            self.next_deadline = state.next_deadline();
            let after = state.history.after(from)?.map(|(_, change)| change);
            let changes = after
                .filter(|change| change.key.starts_with(&self.prefix))
                .cloned()
                .collect();
            Ok((changes, state.revision))
        })
    }

    async fn changed(&mut self) {
        let expiry = async {
            match self.next_deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender lives as long as `shared`, which is held here.
            _ = self.changed.changed() => {}
            () = expiry => {}
        }
    }
}

#[cfg(test)]
mod tests;
