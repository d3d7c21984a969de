//! Whether a history can be true of a store in which every write takes a revision of its own.
//!
//! The truth is put together from all that was seen (every write has one revision, one key and one value), and then
//! everybody's part is held against it.

use std::collections::BTreeMap;

use crate::record::{Answer, History, Key, Moment, Op, Revision, Seen, Value, What};

/// The writes that took place, by revision.
type Truth = BTreeMap<Revision, (Key, Value)>;

/// What of a history cannot be; nothing, if it can be true.
pub fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let truth = truth(history, &mut wrong);
    origins(history, &truth, &mut wrong);
    compare_and_set(history, &truth, &mut wrong);
    for (index, watcher) in history.watchers.iter().enumerate() {
        told(index, watcher, &truth, &mut wrong);
    }
    kept(history, &truth, &mut wrong);
    let mut keys: BTreeMap<&Key, Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        keys.entry(&op.key).or_default().push(op);
    }
    for (key, ops) in keys {
        linear(key, &ops, &mut wrong);
    }
    wrong
}

/// Every write that anybody knows of. Two accounts of a revision must agree.
fn truth(history: &History, wrong: &mut Vec<String>) -> Truth {
    let mut truth = Truth::new();
    let mut add = |revision: Revision, key: &Key, value: Value, who: &str| {
        let told = (key.clone(), value);
        let known = truth.entry(revision).or_insert_with(|| told.clone());
        if *known != told {
            wrong.push(format!("revision {revision} is {known:?}, but {who} has {told:?}"));
        }
    };
    for op in &history.ops {
        match (op.what, op.answer) {
            (What::Create(value) | What::Update(value, _), Answer::Written(revision)) => {
                add(revision, &op.key, value, "who wrote it");
            }
            (_, Answer::Found(value, revision)) => add(revision, &op.key, value, "a reader"),
            _ => {}
        }
    }
    for seen in history.watchers.iter().flatten() {
        match seen {
            Seen::Event(event) => add(event.revision, &event.key, event.value, "a watcher"),
            Seen::Listed(_, state) => {
                for (key, (value, revision)) in state {
                    add(*revision, key, *value, "a list");
                }
            }
            Seen::Resumed(_) | Seen::Bookmark(_) => {}
        }
    }
    for (key, (value, revision)) in &history.last {
        add(*revision, key, *value, "the last list");
    }
    truth
}

/// Whatever was written was asked for, was not refused, and was written once.
fn origins(history: &History, truth: &Truth, wrong: &mut Vec<String>) {
    let mut asked: BTreeMap<Value, &Op> = BTreeMap::new();
    for op in &history.ops {
        if let What::Create(value) | What::Update(value, _) = op.what {
            asked.insert(value, op);
        }
    }
    let mut written: BTreeMap<Value, Revision> = BTreeMap::new();
    for (revision, (key, value)) in truth {
        match asked.get(value) {
            None => wrong.push(format!("nobody wrote {value}, which {key} has at {revision}")),
            Some(op) if op.key != *key => wrong.push(format!("{value} was written to {}, not to {key}", op.key)),
            Some(op) if op.answer == Answer::Refused => {
                wrong.push(format!("{value} was refused, but {key} has it at {revision}"));
            }
            Some(_) => {}
        }
        if let Some(before) = written.insert(*value, *revision) {
            wrong.push(format!("{value} was written twice, at {before} and {revision}"));
        }
    }
}

/// The writes of one key, oldest first.
fn versions<'a>(truth: &'a Truth, key: &'a Key) -> impl DoubleEndedIterator<Item = (Revision, Value)> + 'a {
    truth
        .iter()
        .filter(move |(_, (of, _))| of == key)
        .map(|(revision, (_, value))| (*revision, *value))
}

/// A write that names what it replaces has replaced that and nothing else.
fn compare_and_set(history: &History, truth: &Truth, wrong: &mut Vec<String>) {
    let mut last: BTreeMap<&Key, Revision> = BTreeMap::new();
    let mut before: BTreeMap<Value, Option<Revision>> = BTreeMap::new();
    for (revision, (key, value)) in truth {
        before.insert(*value, last.insert(key, *revision));
    }
    for op in &history.ops {
        let (value, expected) = match op.what {
            What::Create(value) => (value, None),
            What::Update(value, revision) => (value, Some(revision)),
            What::Read => continue,
        };
        if let Some(replaced) = before.get(&value).filter(|replaced| **replaced != expected) {
            wrong.push(format!(
                "{value} on {} was to replace {expected:?} and replaced {replaced:?}",
                op.key
            ));
        }
    }
}

/// A watcher is told every write behind the place where it began, once, in order; and its lists are what was so.
fn told(index: usize, watcher: &[Seen], truth: &Truth, wrong: &mut Vec<String>) {
    // Everything up to here has been told; nothing has been told yet before the first list or watch.
    let mut place: Option<Revision> = None;
    for seen in watcher {
        match seen {
            Seen::Listed(revision, state) => {
                let was = state_at(truth, *revision);
                if was != *state {
                    let differs: Vec<_> = was.iter().filter(|(key, at)| state.get(*key) != Some(at)).collect();
                    wrong.push(format!("watcher {index}: the list at {revision} lacks {differs:?}"));
                }
                place = Some(*revision);
            }
            Seen::Resumed(revision) => {
                if place.is_some_and(|place| place != *revision) {
                    wrong.push(format!("watcher {index} was at {place:?} and went on from {revision}"));
                }
                place = Some(*revision);
            }
            Seen::Event(event) => {
                let from = place.unwrap_or(0);
                if event.revision <= from {
                    wrong.push(format!(
                        "watcher {index}: {} was told again or late, at {from}",
                        event.revision
                    ));
                    continue;
                }
                missed(index, truth, from, event.revision.saturating_sub(1), wrong);
                let first = versions(truth, &event.key).next().map(|(revision, _)| revision);
                if event.added != (first == Some(event.revision)) {
                    wrong.push(format!(
                        "watcher {index}: {event:?} is not how {} began at {first:?}",
                        event.key
                    ));
                }
                place = Some(event.revision);
            }
            Seen::Bookmark(revision) => {
                let from = place.unwrap_or(0);
                if *revision < from {
                    wrong.push(format!(
                        "watcher {index}: a bookmark leads back from {from} to {revision}"
                    ));
                }
                missed(index, truth, from, *revision, wrong);
                place = Some(from.max(*revision));
            }
        }
    }
}

/// What happened after `from`, up to and including `to`, without being told.
fn missed(index: usize, truth: &Truth, from: Revision, to: Revision, wrong: &mut Vec<String>) {
    if from >= to {
        return;
    }
    let lost = truth.range(from + 1..=to).map(|(revision, (key, value))| {
        format!("watcher {index} was not told that {key} became {value} at {revision}, between {from} and {to}")
    });
    wrong.extend(lost);
}

fn state_at(truth: &Truth, revision: Revision) -> BTreeMap<Key, (Value, Revision)> {
    let until = truth.range(..=revision);
    until
        .map(|(revision, (key, value))| (key.clone(), (*value, *revision)))
        .collect()
}

/// In the end everything is as the last write left it, and no acknowledged write is missing.
fn kept(history: &History, truth: &Truth, wrong: &mut Vec<String>) {
    let end = state_at(truth, Revision::MAX);
    for (key, last) in &end {
        if history.last.get(key) != Some(last) {
            wrong.push(format!(
                "{key} was last {last:?} and is {:?} now",
                history.last.get(key)
            ));
        }
    }
}

/// Every operation on a key takes effect at one moment between its request and its answer: what was answered before a
/// request was sent is behind it, what was sent after an answer came is ahead of it.
fn linear(key: &Key, ops: &[&Op], wrong: &mut Vec<String>) {
    let sent: BTreeMap<Value, Moment> = ops
        .iter()
        .filter_map(|op| match op.what {
            What::Create(value) | What::Update(value, _) => Some((value, op.began)),
            What::Read => None,
        })
        .collect();
    // The revision each answered operation saw or made; 0 is "not there".
    let mut answered: Vec<(&Op, Revision)> = ops
        .iter()
        .filter_map(|op| match op.answer {
            Answer::Written(revision) | Answer::Found(_, revision) => Some((*op, revision)),
            Answer::Missing => Some((*op, 0)),
            Answer::Refused | Answer::Lost => None,
        })
        .collect();
    answered.sort_by_key(|(op, _)| op.ended);
    let known = Known::new(&answered);
    for (op, revision) in &answered {
        let least = known.before(op.began);
        if least > *revision || (least == *revision && matches!(op.what, What::Create(_) | What::Update(..))) {
            wrong.push(format!(
                "{key}: {op:?} is at {revision}, but {least} was known before it was sent"
            ));
        }
        if let Answer::Found(value, _) = op.answer
            && sent.get(&value).is_some_and(|sent| *sent > op.ended)
        {
            wrong.push(format!("{key}: {op:?} found what had not been sent"));
        }
    }
}

/// The highest revision that was known to anybody at a moment.
struct Known(Vec<(Moment, Revision)>);

impl Known {
    /// From operations in the order of their ends.
    fn new(answered: &[(&Op, Revision)]) -> Self {
        let mut highest = 0;
        let rising = answered.iter().map(|(op, revision)| {
            highest = highest.max(*revision);
            (op.ended, highest)
        });
        Self(rising.collect())
    }

    fn before(&self, moment: Moment) -> Revision {
        let until = self.0.partition_point(|(ended, _)| *ended < moment);
        until
            .checked_sub(1)
            .and_then(|last| self.0.get(last))
            .map_or(0, |(_, revision)| *revision)
    }
}
