//! The task that fills a cache: lists once, then follows the backend's watch for as long as it can.
//!
//! A watch that breaks is resumed from where the cache is, and nobody notices. Only where the backend no longer keeps
//! that revision is everything listed anew, and then no watcher of the cache can be continued.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use imbl::OrdMap;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::state::Indexed;
use super::{Index, Item, Options, Position, Shared};
use crate::{Backend, Change, Error, Key, Kv, Page, Revision, Signal, Watch};

/// How many changes are taken in under one lock.
const BATCH: usize = 256;

pub(super) async fn run<I: Index>(shared: Arc<Shared<I>>, backend: Arc<dyn Backend>, shutdown: CancellationToken) {
    let feed = Feed {
        shared: &shared,
        backend: &*backend,
    };
    shutdown.run_until_cancelled(feed.run()).await;
    shared.position.send_modify(|position| position.closed = true);
    shared.news.send_replace(true);
}

struct Feed<'a, I: Index> {
    shared: &'a Shared<I>,
    backend: &'a dyn Backend,
}

impl<I: Index> Feed<'_, I> {
    async fn run(&self) {
        let mut listed = false;
        let mut backoff = self.shared.options.backoff;
        loop {
            let before = self.shared.state.read().revision();
            let Err(error) = self.list_and_follow(&mut listed).await;
            if matches!(error, Error::Closed) {
                return;
            }
            if self.shared.state.read().revision() > before {
                backoff = self.shared.options.backoff;
            }
            backoff = self.pause(&error, backoff).await;
        }
    }

    /// Waits before the next attempt and returns how long the wait after it would be. There is no wait where the
    /// backend said what to do.
    async fn pause(&self, error: &Error, backoff: Duration) -> Duration {
        let prefix = &*self.shared.prefix;
        if matches!(error, Error::Compacted { .. } | Error::FutureRevision { .. }) {
            tracing::info!(prefix, error = error as &dyn StdError, "listing anew");
            return backoff;
        }
        tracing::warn!(
            prefix,
            error = error as &dyn StdError,
            ?backoff,
            "lost the store, will try again"
        );
        tokio::time::sleep(backoff).await;
        (backoff * 2).min(self.shared.options.max_backoff)
    }

    /// Lists unless that was done, then follows. Returns why it could not go on, with `listed` saying whether the
    /// cache can be resumed from where it is.
    async fn list_and_follow(&self, listed: &mut bool) -> Result<std::convert::Infallible, Error> {
        if !*listed {
            self.list().await?;
            *listed = true;
        }
        let from = self.shared.state.read().revision();
        let ended = match self.backend.watch(&self.shared.prefix, from).await {
            Ok(watch) => self.follow(watch).await,
            Err(error) => Err(error),
        };
        *listed = !matches!(ended, Err(Error::Compacted { .. } | Error::FutureRevision { .. }));
        ended
    }

    async fn list(&self) -> Result<(), Error> {
        let mut items = OrdMap::new();
        let mut page = Page::first(self.shared.options.page);
        let mut at = None;
        loop {
            let range = self.backend.range(&self.shared.prefix, page.clone(), at).await?;
            at = Some(range.revision);
            page.after = range.items.last().map(|kv| kv.key.clone());
            items.extend(range.items.into_iter().map(|kv| self.item(kv)));
            if !range.more {
                self.shared.state.write().replace(items, range.revision);
                self.publish();
                self.shared.news.send_replace(false);
                return Ok(());
            }
            // Indexing a page is a few milliseconds of work.
            tokio::task::yield_now().await;
        }
    }

    async fn follow(&self, mut watch: Watch) -> Result<std::convert::Infallible, Error> {
        // Somebody may have asked the watch before this one.
        watch.request_progress();
        let Options { fresh, rest, .. } = self.shared.options;
        let mut age = tokio::time::interval(fresh);
        age.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut left = None;
        loop {
            if let Some(signal) = left.take() {
                left = self.take(signal, &mut watch)?;
                tokio::task::yield_now().await;
                continue;
            }
            // A history that is short anyway wakes nobody.
            let long = self.shared.state.read().exceeds(rest);
            tokio::select! {
                signal = watch.next() => left = self.take(signal.ok_or_else(ended)??, &mut watch)?,
                () = self.shared.ask.notified() => watch.request_progress(),
                _ = age.tick(), if long => self.shared.state.write().age(rest),
            }
        }
    }

    /// Takes in a signal and whatever else is there already, indexed before the lock is taken. Returns a signal that is
    /// to be taken in next: the revision before it is whole only now that it has come.
    fn take(&self, first: Signal, watch: &mut Watch) -> Result<Option<Signal>, Error> {
        let mut batch: Vec<Indexed<I::Entry>> = Vec::new();
        let mut progress = Revision::default();
        let mut next = Some(Ok(first));
        let (mut failed, mut left) = (None, None);
        while let Some(signal) = next {
            let at = batch.last().map(|last| last.revision);
            match signal {
                Ok(Signal::Change(change)) if batch.len() >= BATCH && at != Some(change.revision) => {
                    left = Some(Signal::Change(change));
                    break;
                }
                Ok(Signal::Change(change)) => batch.extend(self.indexed(change)),
                Ok(Signal::Progress(revision)) => progress = revision,
                Err(error) => failed = Some(error),
            }
            next = match failed {
                None => watch.next().now_or_never().flatten(),
                Some(_) => None,
            };
        }
        let news = !batch.is_empty();
        {
            let mut state = self.shared.state.write();
            batch.into_iter().for_each(|change| state.apply(change));
            state.progress(progress);
        }
        self.publish();
        if news {
            self.shared.news.send_replace(false);
        }
        failed.map_or(Ok(left), Err)
    }

    fn publish(&self) {
        let revision = self.shared.state.read().revision();
        let now = Position {
            ready: true,
            closed: false,
            revision,
        };
        self.shared
            .position
            .send_if_modified(|position| std::mem::replace(position, now) != now);
    }

    fn item(&self, kv: Kv) -> (Key, Arc<Item<I::Entry>>) {
        let made = self.shared.index.index(&kv.key, kv.revision, &kv.value);
        (
            kv.key.clone(),
            Arc::new(Item::new(kv.key, kv.revision, kv.created, made)),
        )
    }

    /// `None` for the deletion of what was not there, which no backend tells of.
    fn indexed(&self, change: Change) -> Option<Indexed<I::Entry>> {
        let created = change.prev.as_ref().map_or(change.revision, |prev| prev.created);
        let deleted = change.value.is_none();
        let value = change.value.or(change.prev.map(|prev| prev.value))?;
        let made = self.shared.index.index(&change.key, change.revision, &value);
        Some(Indexed {
            key: change.key,
            revision: change.revision,
            created,
            deleted,
            made,
        })
    }
}

fn ended() -> Error {
    Error::unavailable("following changes", std::io::Error::other("the store ended the watch"))
}
