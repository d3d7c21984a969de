//! Pods that wait for a node, pure: pods, events and instants in, the next pod out.
//!
//! A pod is *active* (to be tried now, by priority, then by age), *backing off* (to be tried at its time), or
//! *unschedulable* (to be tried when something in the cluster changes, or after five minutes at the latest).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use api::NamespacedName;
use tokio::time::Instant;

use crate::view::Pod;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// No pod waits for an event for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Debug)]
enum State {
    Active,
    /// Until then.
    BackingOff(Instant),
    /// Since then, and not before then even if something changes.
    Unschedulable {
        since: Instant,
        not_before: Instant,
    },
    /// Taken, and something changed since.
    InFlight {
        changed: bool,
    },
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    state: State,
    attempts: u32,
    /// Order of first arrival.
    arrival: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: Map<NamespacedName, Entry>,
    active: BTreeMap<(Reverse<i32>, u64), NamespacedName>,
    timers: BTreeSet<(Instant, u64, NamespacedName)>,
    arrivals: u64,
}

impl Queue {
    /// A pod without a node was seen, new or changed.
    pub(crate) fn put(&mut self, pod: Arc<Pod>) {
        let key = pod.key();
        if self.entries.get(&key).is_some_and(|entry| entry.pod.uid != pod.uid) {
            self.remove(&key);
        }
        let Some(entry) = self.entries.get_mut(&key) else {
            self.arrivals += 1;
            let entry = Entry {
                pod,
                state: State::Active,
                attempts: 0,
                arrival: self.arrivals,
            };
            self.active.insert(rank(&entry), key.clone());
            self.entries.insert(key, entry);
            return;
        };
        if matches!(entry.state, State::Active) {
            self.active.remove(&rank(entry));
        }
        entry.pod = pod;
        if matches!(entry.state, State::Active) {
            self.active.insert(rank(entry), key);
        }
    }

    /// The pod is gone, bound or finished.
    pub(crate) fn remove(&mut self, key: &NamespacedName) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.active.remove(&rank(&entry));
        if let Some(at) = timer(&entry) {
            self.timers.remove(&(at, entry.arrival, key.clone()));
        }
    }

    /// The next pod to try; it is in flight until it is removed or reported on.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Arc<Pod>> {
        while let Some((at, _, key)) = self.timers.first()
            && *at <= now
        {
            let key = key.clone();
            self.set(&key, State::Active);
        }
        let (_, key) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::InFlight { changed: false };
        entry.attempts += 1;
        Some(entry.pod.clone())
    }

    /// No node was found. If the cluster changed while the pod was tried, it only backs off.
    pub(crate) fn unschedulable(&mut self, key: &NamespacedName, now: Instant) {
        let Some(Entry {
            attempts,
            state: State::InFlight { changed },
            ..
        }) = self.entries.get(key)
        else {
            return;
        };
        let not_before = now + backoff(*attempts);
        let state = if *changed {
            State::BackingOff(not_before)
        } else {
            State::Unschedulable { since: now, not_before }
        };
        self.set(key, state);
    }

    /// The attempt failed for a reason that is not the pod's: try again after a while.
    pub(crate) fn retry(&mut self, key: &NamespacedName, now: Instant) {
        if let Some(entry) = self.entries.get(key) {
            let at = now + backoff(entry.attempts);
            self.set(key, State::BackingOff(at));
        }
    }

    /// Something in the cluster changed that may help: whoever waits for that is tried again, though not before its
    /// back-off is over.
    pub(crate) fn cluster_changed(&mut self, now: Instant) {
        self.changed_for(|_| true, now);
    }

    /// The same of a claim, a volume or a class, which only helps pods that have claims.
    pub(crate) fn storage_changed(&mut self, now: Instant) {
        self.changed_for(|pod| !pod.claims.is_empty(), now);
    }

    fn changed_for(&mut self, concerns: impl Fn(&Pod) -> bool, now: Instant) {
        let mut moves = Vec::new();
        for (key, entry) in self.entries.iter_mut().filter(|(_, entry)| concerns(&entry.pod)) {
            match &mut entry.state {
                State::Unschedulable { not_before, .. } => moves.push((key.clone(), *not_before)),
                State::InFlight { changed } => *changed = true,
                State::Active | State::BackingOff(_) => {}
            }
        }
        for (key, not_before) in moves {
            self.set(
                &key,
                if not_before <= now {
                    State::Active
                } else {
                    State::BackingOff(not_before)
                },
            );
        }
    }

    /// When [`Queue::take`] will have something, if nothing changes.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Whether a pod can be taken without waiting.
    pub(crate) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    fn set(&mut self, key: &NamespacedName, state: State) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.active.remove(&rank(entry));
        if let Some(at) = timer(entry) {
            self.timers.remove(&(at, entry.arrival, key.clone()));
        }
        entry.state = state;
        if matches!(entry.state, State::Active) {
            self.active.insert(rank(entry), key.clone());
        }
        if let Some(at) = timer(entry) {
            self.timers.insert((at, entry.arrival, key.clone()));
        }
    }
}

fn rank(entry: &Entry) -> (Reverse<i32>, u64) {
    (Reverse(entry.pod.priority), entry.arrival)
}

fn timer(entry: &Entry) -> Option<Instant> {
    match entry.state {
        State::BackingOff(at) => Some(at),
        State::Unschedulable { since, .. } => Some(since + LONGEST_WAIT),
        State::Active | State::InFlight { .. } => None,
    }
}

/// 1 s after the first attempt, doubled after each further one up to 10 s.
fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1)))
        .min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests;
