//! The keyed reconcile loop: per key one run at a time, many keys at once, again after a failure with growing delays.
//!
//! A reconciler is told which key to look at and nothing else; it reads the state, plans and acts. It must be idempotent
//! and may be dropped at any await. After an own write it waits (with [`crate::Informer::wait_seen`]) until the shared
//! cache has got as far, or a lagging cache would make it act twice. A panic in a run is caught, counts as a failure of
//! that key, and does not spread.

mod queue;

use std::{convert::Infallible, error::Error, fmt, hash::Hash, panic::AssertUnwindSafe, time::Duration};

use api::names::NamespacedName;
use futures::{
    FutureExt, StreamExt,
    future::OptionFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use self::queue::{Outcome, Queue};
use crate::{Delta, Informer};

/// What a reconciler wants next for its key, when nothing changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Done,
    /// Another run after this long.
    After(Duration),
}

impl Action {
    /// The sooner of the two.
    #[must_use]
    pub fn or_sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (Self::Done, action) | (action, Self::Done) => action,
        }
    }
}

/// A source of keys to reconcile. It never ends.
pub type Trigger<K> = BoxStream<'static, K>;

/// Each object that is there, and then each that changes.
pub fn on_change<T: Send + Sync + 'static>(informer: &Informer<T>) -> Trigger<NamespacedName> {
    informer.changes().boxed()
}

/// The keys that a change of another object concerns, by its states before and after.
pub fn mapped<T, K, I>(informer: &Informer<T>, map: impl Fn(&Delta<T>) -> I + Send + 'static) -> Trigger<K>
where
    T: Send + Sync + 'static,
    K: Send + 'static,
    I: IntoIterator<Item = K>,
    I::IntoIter: Send + 'static,
{
    informer
        .deltas()
        .flat_map(move |delta| stream::iter(map(&delta)))
        .boxed()
}

/// Every object of the informer, once per period: the full pass that makes up for whatever was missed.
pub fn every<T: Send + Sync + 'static>(period: Duration, informer: &Informer<T>) -> Trigger<NamespacedName> {
    let informer = informer.clone();
    let rounds = stream::unfold(informer, move |informer| async move {
        tokio::time::sleep(period.mul_f64(1.0 + rand::random::<f64>() / 10.0)).await;
        let keys: Vec<NamespacedName> = informer.snapshot().iter().map(|(key, _)| key.clone()).collect();
        Some((stream::iter(keys), informer))
    });
    rounds.flatten().boxed()
}

/// Runs `reconcile` for every key that `triggers` yield, at most `workers` at once, never twice at once for one key.
/// Never returns; drop it to stop.
///
/// A key that is triggered while it runs is run again after. An error or panic is retried after 5 ms, doubled at each
/// further one up to 1000 s, with jitter; a trigger in between runs it at once.
pub async fn keyed<K, F, Fut, E>(
    name: &'static str,
    workers: usize,
    triggers: Vec<Trigger<K>>,
    reconcile: F,
) -> Infallible
where
    K: Clone + Eq + Hash + fmt::Display + Send + 'static,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Action, E>>,
    E: Error + 'static,
{
    let mut triggers = stream::select_all(triggers);
    let mut queue = Queue::default();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < workers.max(1)
            && let Some(key) = queue.take(Instant::now())
        {
            running.push(run_one(name, key, &reconcile));
        }
        let wake: OptionFuture<_> = queue
            .next_wake()
            .filter(|_| running.len() < workers.max(1))
            .map(sleep_until)
            .into();
        tokio::select! {
            Some(key) = triggers.next() => {
                queue.add(key);
                while let Some(Some(key)) = triggers.next().now_or_never() {
                    queue.add(key);
                }
            }
            Some((key, outcome)) = running.next() => queue.finish(&key, outcome, Instant::now(), rand::random()),
            Some(()) = wake => {}
            else => std::future::pending::<()>().await,
        }
    }
}

async fn run_one<K, F, Fut, E>(name: &'static str, key: K, reconcile: &F) -> (K, Outcome)
where
    K: Clone + fmt::Display,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Action, E>>,
    E: Error + 'static,
{
    let span = tracing::debug_span!("reconcile", controller = name, object = %key);
    let run = AssertUnwindSafe(async { reconcile(key.clone()).await })
        .catch_unwind()
        .instrument(span.clone());
    let result = run.await;
    let _entered = span.enter();
    let outcome = match result {
        Ok(Ok(Action::Done)) => Outcome::Done,
        Ok(Ok(Action::After(delay))) => Outcome::After(delay),
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn Error, "reconcile failed and will be retried");
            Outcome::Failed
        }
        Err(_) => {
            tracing::error!("reconcile panicked and will be retried");
            Outcome::Failed
        }
    };
    (key, outcome)
}

#[cfg(test)]
mod tests;
