//! A reader of a cache's history with a place of its own.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Event, Index, Shared};
use crate::{Error, Key, Revision};

/// How many events are handed out at once, so that a watcher far behind lets others run.
const BATCH: usize = 256;

/// Follows the changes under a prefix. Holds nothing of the cache's history back.
pub struct Watcher<I: Index> {
    shared: Arc<Shared<I>>,
    news: watch::Receiver<bool>,
    prefix: Key,
    position: Revision,
    generation: u64,
}

impl<I: Index> Watcher<I> {
    pub(super) fn start(shared: Arc<Shared<I>>, prefix: &str, from: Revision) -> Result<Self, Error> {
        let news = shared.news.subscribe();
        let generation = {
            let state = shared.state.read();
            if from > state.revision() {
                return Err(Error::FutureRevision {
                    asked: from,
                    current: state.revision(),
                });
            }
            state.events(prefix, from, 1)?;
            state.generation()
        };
        Ok(Watcher {
            shared,
            news,
            prefix: prefix.into(),
            position: from,
            generation,
        })
    }

    /// The next events, at least one, or `None` when the cache has been shut down. Fails with [`Error::Compacted`]
    /// when this watcher was too slow, or the cache had to start over: list again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<Event<I::Entry>>>, Error> {
        loop {
            let closed = *self.news.borrow_and_update();
            let events = self.read()?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if closed || self.news.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The revision up to which everything has been handed out: what a bookmark may say. It also moves on when
    /// [`Watcher::next`] is called and finds nothing.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// What there is to read now, possibly nothing.
    fn read(&mut self) -> Result<Vec<Event<I::Entry>>, Error> {
        let state = self.shared.state.read();
        if state.generation() != self.generation {
            return Err(Error::Compacted {
                compacted: state.revision(),
            });
        }
        let (events, position) = state.events(&self.prefix, self.position, BATCH)?;
        self.position = position;
        Ok(events)
    }
}
