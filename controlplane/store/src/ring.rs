//! A bounded memory of the latest entries of a log, for readers that each keep a place of their own.
//!
//! The ring never waits for a reader. One that asks for what has been dropped is told so, and nobody else notices.

use std::collections::VecDeque;

use crate::{Error, Revision};

/// The latest entries, each at a revision, in ascending order.
#[derive(Debug)]
pub struct Ring<T> {
    entries: VecDeque<Entry<T>>,
    /// Everything after this revision is still here.
    floor: Revision,
    /// The sum of the weights of the entries.
    weight: usize,
    bounds: Bounds,
}

#[derive(Debug)]
struct Entry<T> {
    revision: Revision,
    weight: usize,
    value: T,
}

/// How much a [`Ring`] keeps; the newest entry is kept in any case.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many entries.
    pub entries: usize,
    /// The sum of their weights, usually bytes.
    pub weight: usize,
}

impl<T> Ring<T> {
    /// An empty ring that knows of nothing up to and including `floor`.
    pub fn new(floor: Revision, bounds: Bounds) -> Self {
        Ring {
            entries: VecDeque::new(),
            floor,
            weight: 0,
            bounds,
        }
    }

    /// Adds an entry, which must not be earlier than any other, and drops the oldest ones beyond the bounds.
    pub fn push(&mut self, revision: Revision, weight: usize, value: T) {
        self.push_with(revision, weight, value, drop);
    }

    /// The same, handing over what is dropped.
    pub fn push_with(&mut self, revision: Revision, weight: usize, value: T, mut dropped: impl FnMut(T)) {
        debug_assert!(
            self.entries.back().is_none_or(|last| last.revision <= revision),
            "entries ascend"
        );
        self.entries.push_back(Entry {
            revision,
            weight,
            value,
        });
        self.weight += weight;
        while self.entries.len() > 1 && self.exceeds(self.bounds) {
            self.drop_oldest().into_iter().for_each(&mut dropped);
        }
    }

    /// Forgets everything up to and including `to`.
    pub fn compact(&mut self, to: Revision) {
        while self.entries.front().is_some_and(|oldest| oldest.revision <= to) {
            self.drop_oldest();
        }
        self.floor = self.floor.max(to);
    }

    /// Forgets the oldest entries up to and including `to`, for as long as there is more than `rest` allows, and hands
    /// them over.
    pub fn shrink(&mut self, to: Revision, rest: Bounds, mut dropped: impl FnMut(T)) {
        let old = |entry: &Entry<T>| entry.revision <= to;
        while self.exceeds(rest) && self.entries.front().is_some_and(old) {
            self.drop_oldest().into_iter().for_each(&mut dropped);
        }
        self.entries.shrink_to(self.entries.len() * 2);
    }

    /// Whether there is more than these bounds allow.
    pub fn exceeds(&self, bounds: Bounds) -> bool {
        self.entries.len() > bounds.entries || self.weight > bounds.weight
    }

    /// Forgets everything, and goes on from `floor`, which may lie before what was known.
    pub fn restart(&mut self, floor: Revision) {
        self.entries.clear();
        self.weight = 0;
        self.floor = floor;
    }

    /// The oldest revision from which entries can be read on.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// The entries after a revision, oldest first.
    pub fn after(&self, from: Revision) -> Result<impl Iterator<Item = (Revision, &T)>, Error> {
        if from < self.floor {
            return Err(Error::Compacted { compacted: self.floor });
        }
        let start = self.entries.partition_point(|entry| entry.revision <= from);
        Ok(self.entries.range(start..).map(|entry| (entry.revision, &entry.value)))
    }

    fn drop_oldest(&mut self) -> Option<T> {
        let oldest = self.entries.pop_front()?;
        self.weight -= oldest.weight;
        self.floor = oldest.revision;
        Some(oldest.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(entries: usize, weight: usize) -> Ring<u64> {
        Ring::new(Revision(1), Bounds { entries, weight })
    }

    fn after(ring: &Ring<u64>, from: u64) -> Option<Vec<u64>> {
        ring.after(Revision(from))
            .ok()
            .map(|entries| entries.map(|(_, value)| *value).collect())
    }

    #[test]
    fn gives_what_followed_and_refuses_what_was_dropped() {
        let mut ring = ring(3, usize::MAX);
        assert_eq!(after(&ring, 1), Some(vec![]));
        for revision in [2, 5, 6, 9] {
            ring.push(Revision(revision), 1, revision);
        }
        for (from, expected) in [
            (0, None),
            (1, None),
            (2, Some(vec![5, 6, 9])),
            (4, Some(vec![5, 6, 9])),
            (5, Some(vec![6, 9])),
            (9, Some(vec![])),
            (12, Some(vec![])),
        ] {
            assert_eq!(after(&ring, from), expected, "from {from}");
        }
    }

    #[test]
    fn keeps_within_its_weight_but_always_the_newest() {
        let mut ring = ring(100, 10);
        ring.push(Revision(2), 4, 2);
        ring.push(Revision(3), 6, 3);
        assert_eq!(after(&ring, 1), Some(vec![2, 3]));
        let mut gone = Vec::new();
        ring.push_with(Revision(4), 1, 4, |value| gone.push(value));
        assert_eq!(gone, [2]);
        assert_eq!((after(&ring, 1), after(&ring, 2)), (None, Some(vec![3, 4])));
        ring.push(Revision(5), 50, 5);
        assert_eq!((ring.floor(), after(&ring, 4)), (Revision(4), Some(vec![5])));
    }

    #[test]
    fn entries_of_one_revision_are_given_together_or_not_at_all() {
        let mut ring = ring(3, usize::MAX);
        for (revision, value) in [(2, 2), (3, 30), (3, 31), (3, 32)] {
            ring.push(Revision(revision), 1, value);
        }
        assert_eq!((after(&ring, 1), after(&ring, 2)), (None, Some(vec![30, 31, 32])));
        ring.push(Revision(4), 1, 4);
        assert_eq!((after(&ring, 2), after(&ring, 3)), (None, Some(vec![4])));
    }

    #[test]
    fn shrinks_by_age_and_only_as_far_as_there_is_too_much() {
        let mut ring = ring(100, 100);
        for revision in 2..8 {
            ring.push(Revision(revision), 1, revision);
        }
        let rest = |entries, weight| Bounds { entries, weight };
        for (to, rest, floor) in [
            (7, rest(6, 6), 1),
            (4, rest(2, 100), 4),
            (7, rest(100, 2), 5),
            (7, rest(0, 0), 7),
        ] {
            ring.shrink(Revision(to), rest, drop);
            assert_eq!(ring.floor(), Revision(floor), "to {to}, {rest:?}");
            assert_eq!(ring.exceeds(rest), floor < 7 && to < 7);
        }
    }

    #[test]
    fn compaction_raises_the_floor_and_never_lowers_it() {
        let mut ring = ring(100, 100);
        ring.push(Revision(2), 1, 2);
        ring.push(Revision(3), 1, 3);
        ring.compact(Revision(2));
        assert_eq!((after(&ring, 1), after(&ring, 2)), (None, Some(vec![3])));
        ring.compact(Revision(8));
        ring.compact(Revision(4));
        assert_eq!((ring.floor(), after(&ring, 8)), (Revision(8), Some(vec![])));
    }
}
