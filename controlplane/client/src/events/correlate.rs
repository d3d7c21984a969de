//! What becomes of an occurrence, decided without IO. The rules are those of client-go's EventCorrelator:
//! - the same event again raises the count of the first;
//! - more than ten events that differ in their note alone, within ten minutes, become one, "(combined from similar
//!   events)";
//! - an object may get 25 events in a burst and one per five minutes after; more are dropped.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
    time::Duration,
};

use foldhash::quality::FixedState;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{ObjectRef, Occurrence};

const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
const SIMILAR: usize = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// Entries kept per table; beyond it those used longest ago are forgotten.
const REMEMBERED: usize = 4096;

/// The event to write: a new one if `count` is 1, else an update of the one of that name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) note: String,
    pub(super) count: u32,
    pub(super) first: Timestamp,
}

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Write(Entry),
    TooMany,
}

/// What stands for a key: a component remembers thousands of events, and has no use for their words. Two that differ
/// have the same with a chance of one in 2^128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Print(u64, u64);

impl Print {
    fn of(key: &impl Hash) -> Self {
        let half = |seed| FixedState::with_seed(seed).hash_one(key);
        Print(half(0), half(1))
    }
}

#[derive(Default)]
pub(super) struct Correlator {
    /// By what they regard, their type, reason and note.
    entries: Remembered<Box<Entry>>,
    /// By the same but for the note.
    similar: Remembered<Group>,
    /// By what they regard.
    tokens: Remembered<Bucket>,
}

struct Group {
    notes: Vec<Print>,
    last: Instant,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Correlator {
    pub(super) fn observe(&mut self, what: &Occurrence, now: Instant, wall: Timestamp) -> Verdict {
        let mut regarding = what.regarding.clone();
        regarding.resource_version = String::new();
        let similar = Print::of(&(&regarding, what.type_, &what.reason));
        let (key_note, note) = self.fold(similar, what, now);
        let fresh = || {
            Box::new(Entry {
                name: event_name(&what.regarding.name, wall),
                note: String::new(),
                count: 0,
                first: wall,
            })
        };
        let entry = self.entries.get_or_insert(Print::of(&(similar, &key_note)), now, fresh);
        entry.count = entry.count.saturating_add(1);
        entry.note = note;
        let entry = (**entry).clone();
        if self.take_token(&what.regarding, now) {
            Verdict::Write(entry)
        } else {
            Verdict::TooMany
        }
    }

    /// The note that identifies the event, and the one it shows.
    fn fold(&mut self, similar: Print, what: &Occurrence, now: Instant) -> (String, String) {
        let fresh = || Group {
            notes: Vec::new(),
            last: now,
        };
        let group = self.similar.get_or_insert(similar, now, fresh);
        if now.duration_since(group.last) > SIMILAR_WITHIN {
            group.notes.clear();
        }
        group.last = now;
        let note = Print::of(&what.note);
        if group.notes.contains(&note) {
            return (what.note.clone(), what.note.clone());
        }
        if group.notes.len() < SIMILAR {
            group.notes.push(note);
            return (what.note.clone(), what.note.clone());
        }
        let combined = "(combined from similar events): ";
        (
            combined.to_owned(),
            super::truncated(format!("{combined}{}", what.note)),
        )
    }

    fn take_token(&mut self, regarding: &ObjectRef, now: Instant) -> bool {
        let ObjectRef {
            kind,
            namespace,
            name,
            uid,
            ..
        } = regarding;
        let key = Print::of(&(kind, namespace, name, uid));
        let bucket = self
            .tokens
            .get_or_insert(key, now, || Bucket { tokens: BURST, at: now });
        let refill = now.duration_since(bucket.at).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refill).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

/// `name.` and the time in nanoseconds as hexadecimal digits, as client-go names events.
fn event_name(regarding: &str, now: Timestamp) -> String {
    let room = regarding.floor_char_boundary(230);
    format!(
        "{}.{:x}",
        regarding.get(..room).unwrap_or(regarding),
        now.as_nanosecond()
    )
}

/// A map that forgets what was not used for longest.
struct Remembered<V>(HashMap<Print, (Instant, V), foldhash::fast::RandomState>);

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<V> Remembered<V> {
    fn get_or_insert(&mut self, key: Print, now: Instant, fresh: impl FnOnce() -> V) -> &mut V {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            let mut ages: Vec<Instant> = self.0.values().map(|(used, _)| *used).collect();
            let (_, median, _) = ages.select_nth_unstable(REMEMBERED / 2);
            let median = *median;
            self.0.retain(|_, (used, _)| *used > median);
        }
        let (used, value) = self.0.entry(key).or_insert_with(|| (now, fresh()));
        *used = now;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::Type;
    use super::*;

    fn occurrence(name: &str, note: &str) -> Occurrence {
        Occurrence {
            regarding: ObjectRef {
                kind: "Pod".into(),
                name: name.into(),
                ..ObjectRef::default()
            },
            type_: Type::Normal,
            reason: "Pulled".into(),
            action: String::new(),
            note: note.into(),
        }
    }

    fn counts(verdicts: &[Verdict]) -> Vec<u32> {
        verdicts
            .iter()
            .map(|v| if let Verdict::Write(entry) = v { entry.count } else { 0 })
            .collect()
    }

    #[test]
    fn a_repetition_raises_the_count_of_the_first() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let wall = Timestamp::UNIX_EPOCH;
        let verdicts: Vec<_> = (0..3)
            .map(|_| correlator.observe(&occurrence("p", "x"), now, wall))
            .collect();
        assert_eq!(counts(&verdicts), [1, 2, 3]);
    }

    #[test]
    fn an_object_gets_a_burst_and_then_one_per_five_minutes() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let mut observe =
            |name: &str, at: Instant| correlator.observe(&occurrence(name, "x"), at, Timestamp::UNIX_EPOCH);
        assert!((0..25).all(|_| observe("p", now) != Verdict::TooMany));
        assert_eq!(observe("p", now), Verdict::TooMany);
        assert_ne!(observe("other", now), Verdict::TooMany);
        assert_ne!(observe("p", now + REFILL), Verdict::TooMany);
        assert_eq!(observe("p", now + REFILL), Verdict::TooMany);
    }

    #[test]
    fn many_similar_events_are_combined() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let mut last = Verdict::TooMany;
        for n in 0..12 {
            last = correlator.observe(&occurrence("p", &format!("note {n}")), now, Timestamp::UNIX_EPOCH);
        }
        let Verdict::Write(entry) = last else { panic!("dropped") };
        assert_eq!(
            (entry.note.as_str(), entry.count),
            ("(combined from similar events): note 11", 2)
        );
    }

    #[test]
    fn memory_is_bounded() {
        let (mut remembered, now) = (Remembered::default(), Instant::now());
        for n in 0..3 * REMEMBERED {
            remembered.get_or_insert(Print::of(&n), now + Duration::from_millis(n as u64), || ());
            assert!(remembered.0.len() <= REMEMBERED);
        }
        assert!(remembered.0.contains_key(&Print::of(&(3 * REMEMBERED - 1))));
    }
}
