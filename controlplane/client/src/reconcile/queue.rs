//! The work queue of the keyed loop, pure: keys and instants in, keys out.
//!
//! A key is in at most one of three places: ready, waiting for its time, running; while it runs it may be marked dirty.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

use crate::backoff::exponential;

const FIRST_RETRY: Duration = Duration::from_millis(5);
const MAX_RETRY: Duration = Duration::from_secs(1000);

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// How a run ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    After(Duration),
    Failed,
}

pub(super) struct Queue<K> {
    ready: VecDeque<K>,
    is_ready: Set<K>,
    waiting: BTreeMap<(Instant, u64), K>,
    waits: Map<K, (Instant, u64)>,
    running: Set<K>,
    dirty: Set<K>,
    failures: Map<K, u32>,
    sequence: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            is_ready: Set::default(),
            waiting: BTreeMap::new(),
            waits: Map::default(),
            running: Set::default(),
            dirty: Set::default(),
            failures: Map::default(),
            sequence: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Something about `key` changed: run it as soon as possible.
    pub(super) fn add(&mut self, key: K) {
        if self.running.contains(&key) {
            self.dirty.insert(key);
            return;
        }
        if let Some(at) = self.waits.remove(&key) {
            self.waiting.remove(&at);
        }
        if self.is_ready.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// The next key to run, which is then running.
    pub(super) fn take(&mut self, now: Instant) -> Option<K> {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.waits.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.is_ready.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// When [`Queue::take`] will have something, if nothing is added.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// A run ended. `random` in [0, 1) spreads retries.
    pub(super) fn finish(&mut self, key: &K, outcome: Outcome, now: Instant, random: f64) {
        self.running.remove(key);
        let delay = match outcome {
            Outcome::Done => None,
            Outcome::After(delay) => Some(delay),
            Outcome::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                let delay = exponential(FIRST_RETRY, MAX_RETRY, *failures, random);
                *failures = failures.saturating_add(1);
                Some(delay)
            }
        };
        if outcome != Outcome::Failed {
            self.failures.remove(key);
        }
        if self.dirty.remove(key) {
            self.add(key.clone());
        } else if let Some(delay) = delay {
            self.sequence += 1;
            let at = (now + delay, self.sequence);
            self.waits.insert(key.clone(), at);
            self.waiting.insert(at, key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn failures_grow_the_delay_and_success_forgets_them() {
        let start = Instant::now();
        let mut queue = Queue::default();
        let mut delays = Vec::new();
        for _ in 0..4 {
            queue.add(1);
            queue.take(start);
            queue.finish(&1, Outcome::Failed, start, 0.0);
            delays.push(queue.next_wake().unwrap() - start);
        }
        assert_eq!(delays, [5, 10, 20, 40].map(Duration::from_millis));
        queue.add(1);
        queue.take(start);
        queue.finish(&1, Outcome::Done, start, 0.0);
        assert_eq!(queue.next_wake(), None);
        queue.add(1);
        queue.take(start);
        queue.finish(&1, Outcome::Failed, start, 0.0);
        assert_eq!(queue.next_wake().unwrap() - start, Duration::from_millis(5));
    }

    #[test]
    fn a_key_triggered_while_running_runs_once_more() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add("a");
        assert_eq!(queue.take(now), Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.take(now), None);
        queue.finish(&"a", Outcome::After(Duration::from_secs(9)), now, 0.0);
        assert_eq!(queue.take(now), Some("a"));
        queue.finish(&"a", Outcome::Done, now, 0.0);
        assert_eq!((queue.take(now), queue.next_wake()), (None, None));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Take,
        Finish(Outcome),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4).prop_map(Step::Add),
            Just(Step::Take),
            Just(Step::Finish(Outcome::Done)),
            Just(Step::Finish(Outcome::Failed)),
            (0u64..50).prop_map(|ms| Step::Finish(Outcome::After(Duration::from_millis(ms)))),
            (0u64..50).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// No key runs twice at once, and every key added is run after it was added.
        #[test]
        fn every_add_is_followed_by_a_run(steps in prop::collection::vec(step(), 0..80)) {
            let mut now = Instant::now();
            let mut queue = Queue::default();
            let mut running = Vec::new();
            let mut owed = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    Step::Add(key) => { queue.add(key); owed.insert(key); }
                    Step::Take => if let Some(key) = queue.take(now) {
                        prop_assert!(!running.contains(&key));
                        running.push(key);
                        owed.remove(&key);
                    },
                    Step::Finish(outcome) => if let Some(key) = running.pop() { queue.finish(&key, outcome, now, 0.5) },
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                }
            }
            for key in running { queue.finish(&key, Outcome::Done, now, 0.5); }
            while let Some(key) = queue.take(now) { owed.remove(&key); queue.finish(&key, Outcome::Done, now, 0.5); }
            prop_assert!(owed.is_empty());
        }
    }
}
