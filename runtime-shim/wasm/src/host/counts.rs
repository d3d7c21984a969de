//! What a container's guests have done, counted: requests and how long they took, instances made, traps.
//!
//! A request costs three relaxed additions and two readings of the monotonic clock. Nothing here is ever reset; who wants
//! rates subtracts.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use cri::Latencies;

/// One place for each bound, and one for what is above them all.
const PLACES: usize = Latencies::BOUNDS.len() + 1;

/// Counts of one container.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Instances made.
    pub(crate) instances: AtomicU64,
    pub(crate) traps: AtomicU64,
    latency: [AtomicU64; PLACES],
    nanoseconds: AtomicU64,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            instances: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            latency: array::from_fn(|_| AtomicU64::new(0)),
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// An instance is being made.
    pub(crate) fn instance(&self) {
        self.instances.fetch_add(1, Relaxed);
    }

    /// Counts an error of a guest, if it is a trap.
    pub(crate) fn failed(&self, error: &wasmtime::Error) {
        if error.downcast_ref::<wasmtime::Trap>().is_some() {
            self.traps.fetch_add(1, Relaxed);
        }
    }

    /// A request's answer has begun.
    pub(crate) fn answered(&self, took: Duration) {
        if let Some(place) = self.latency.get(place(took)) {
            place.fetch_add(1, Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// How long requests took; nothing where there were none.
    pub(crate) fn latencies(&self) -> Latencies {
        let counts: Vec<u64> = self.latency.iter().map(|count| count.load(Relaxed)).collect();
        match counts.iter().all(|count| *count == 0) {
            true => Latencies::default(),
            false => Latencies {
                counts,
                sum_nanoseconds: self.nanoseconds.load(Relaxed),
            },
        }
    }
}

/// The first bound that is not below it.
fn place(took: Duration) -> usize {
    let microseconds = took.as_nanos().div_ceil(1_000);
    Latencies::BOUNDS.partition_point(|bound| u128::from(*bound) < microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_falls_under_the_first_bound_that_holds_it() {
        for (microseconds, expected) in [
            (0, 0),
            (50, 0),
            (51, 1),
            (1_000, 4),
            (1_001, 5),
            (60_000_000, 17),
            (60_000_001, 18),
        ] {
            assert_eq!(place(Duration::from_micros(microseconds)), expected, "{microseconds}");
        }
        assert_eq!(place(Duration::from_nanos(50_001)), 1);
    }

    #[test]
    fn what_was_never_asked_says_nothing_of_latency() {
        let counts = Counts::new();
        assert_eq!(counts.latencies(), Latencies::default());
        counts.answered(Duration::from_micros(40));
        counts.answered(Duration::from_secs(100));
        let found = counts.latencies();
        assert_eq!(found.counts.len(), PLACES);
        assert_eq!((found.counts[0], found.counts[PLACES - 1]), (1, 1));
        assert_eq!(found.sum_nanoseconds, 100_000_040_000);
    }

    #[test]
    fn only_traps_are_traps() {
        let counts = Counts::new();
        counts.failed(&wasmtime::Error::from(wasmtime::Trap::UnreachableCodeReached));
        counts.failed(&wasmtime::Error::msg("no trap"));
        assert_eq!(counts.traps.load(Relaxed), 1);
    }
}
