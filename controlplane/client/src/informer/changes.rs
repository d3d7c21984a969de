//! Following an informer: per reader a queue that holds each changed key once, with what it was when the reader last
//! took it and what it is now. It is as long as there are distinct keys, never longer, and pushing to it never waits.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use api::names::NamespacedName;
use futures::{Stream, StreamExt, task::AtomicWaker};
use parking_lot::Mutex;

use super::Informer;

/// A change of one object. `old` is `None` for a new one, `new` is `None` for a deleted one. Several changes since the
/// reader last looked are one delta; if they cancel out (created and deleted), both are `None`.
#[derive(Debug)]
pub struct Delta<T> {
    pub key: NamespacedName,
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T> Delta<T> {
    /// The states before and after, those that exist.
    pub fn states(&self) -> impl Iterator<Item = &T> {
        self.old.as_deref().into_iter().chain(self.new.as_deref())
    }
}

/// One reader's queue.
pub(super) struct Pending<T> {
    queue: Mutex<Queue<T>>,
    waker: AtomicWaker,
}

struct Queue<T> {
    order: VecDeque<NamespacedName>,
    states: HashMap<NamespacedName, States<T>, foldhash::fast::RandomState>,
}

type States<T> = (Option<Arc<T>>, Option<Arc<T>>);

impl<T> Pending<T> {
    fn new() -> Self {
        let queue = Queue {
            order: VecDeque::new(),
            states: HashMap::default(),
        };
        Self {
            queue: Mutex::new(queue),
            waker: AtomicWaker::new(),
        }
    }

    pub(super) fn push(&self, delta: Delta<T>) {
        let mut queue = self.queue.lock();
        match queue.states.get_mut(&delta.key) {
            Some(states) => states.1 = delta.new,
            None => {
                queue.order.push_back(delta.key.clone());
                queue.states.insert(delta.key, (delta.old, delta.new));
            }
        }
        drop(queue);
        self.waker.wake();
    }

    fn pop(&self) -> Option<Delta<T>> {
        let mut queue = self.queue.lock();
        let key = queue.order.pop_front()?;
        let (old, new) = queue.states.remove(&key)?;
        Some(Delta { key, old, new })
    }

    #[cfg(test)]
    pub(super) fn drain(&self) -> Vec<Delta<T>> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

/// All readers of an informer. Those that are dropped fall out at the next change.
pub(super) struct Subscribers<T>(Vec<Weak<Pending<T>>>);

impl<T> Default for Subscribers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Subscribers<T> {
    pub(super) fn add(&mut self) -> Arc<Pending<T>> {
        let pending = Arc::new(Pending::new());
        self.0.push(Arc::downgrade(&pending));
        pending
    }

    pub(super) fn push(&mut self, deltas: Vec<Delta<T>>) {
        self.0.retain(|subscriber| {
            let Some(pending) = subscriber.upgrade() else {
                return false;
            };
            for Delta { key, old, new } in &deltas {
                pending.push(Delta {
                    key: key.clone(),
                    old: old.clone(),
                    new: new.clone(),
                });
            }
            true
        });
    }
}

/// A stream of [`Delta`]s that never ends and never loses the latest state of a key.
pub struct Deltas<T> {
    pending: Arc<Pending<T>>,
    /// Keeps the watch alive while somebody follows it.
    informer: Informer<T>,
}

impl<T> Deltas<T> {
    pub(super) fn new(pending: Arc<Pending<T>>, informer: Informer<T>) -> Self {
        Self { pending, informer }
    }

    /// The informer that is followed.
    pub fn informer(&self) -> &Informer<T> {
        &self.informer
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Option<Delta<T>> {
        self.pending.pop()
    }
}

impl<T> Stream for Deltas<T> {
    type Item = Delta<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delta<T>>> {
        if let Some(delta) = self.pending.pop() {
            return Poll::Ready(Some(delta));
        }
        self.pending.waker.register(cx.waker());
        match self.pending.pop() {
            Some(delta) => Poll::Ready(Some(delta)),
            None => Poll::Pending,
        }
    }
}

/// A stream of the keys that changed; it never ends.
pub struct Changes<T> {
    deltas: Deltas<T>,
}

impl<T> Changes<T> {
    pub(super) fn new(deltas: Deltas<T>) -> Self {
        Self { deltas }
    }

    /// The next key that changed.
    pub async fn recv(&mut self) -> NamespacedName {
        match self.next().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl<T> Stream for Changes<T> {
    type Item = NamespacedName;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NamespacedName>> {
        self.deltas
            .poll_next_unpin(cx)
            .map(|delta| delta.map(|delta| delta.key))
    }
}
