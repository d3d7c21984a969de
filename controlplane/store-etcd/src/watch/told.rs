//! What the answers of a watch come to: changes, each once, and progress where it is owed. Pure.
//!
//! etcd never splits a revision over two answers, and cuts a large answer into fragments that are put together here; so
//! between answers the watch stands at a whole revision, from which it can be resumed.

use std::collections::VecDeque;

use store::{Change, Error, Revision, Signal};

use crate::call;
use crate::keyspace::{Keyspace, revision};
use crate::proto::{Event, WatchResponse, event::EventType};

/// Where a watch stands.
#[derive(Debug)]
pub(super) struct Told {
    space: Keyspace,
    /// Everything up to here has been told.
    cursor: Revision,
    /// The beginning of an answer whose end has not come.
    fragments: Vec<Event>,
    ready: VecDeque<Signal>,
    /// Progress at or after this revision has been asked for.
    owed: Option<Revision>,
}

/// What an answer means for the stream it came by.
#[derive(Debug, PartialEq)]
pub(super) enum Stream {
    GoesOn,
    /// etcd ended the watch; another stream may go on with it.
    Ended(String),
}

impl Told {
    pub(super) fn new(space: Keyspace, from: Revision) -> Self {
        Told {
            space,
            cursor: from,
            fragments: Vec::new(),
            ready: VecDeque::new(),
            owed: None,
        }
    }

    /// Where the next stream begins: behind what has been told.
    pub(super) fn resume(&mut self) -> Revision {
        self.fragments.clear();
        self.cursor
    }

    pub(super) fn next(&mut self) -> Option<Signal> {
        self.ready.pop_front()
    }

    /// Progress is asked for, by somebody who knows of `revision`.
    pub(super) fn owe(&mut self, revision: Revision) {
        self.owed = self.owed.max(Some(revision));
    }

    pub(super) fn owes(&self) -> bool {
        self.owed.is_some()
    }

    /// Takes in an answer. What a member says of progress counts only if it is `believed`.
    pub(super) fn take(&mut self, answer: WatchResponse, believed: bool) -> Result<Stream, Error> {
        if answer.canceled || answer.compact_revision > 0 {
            return match answer.compact_revision {
                0 => Ok(Stream::Ended(answer.cancel_reason)),
                compacted => Err(Error::Compacted {
                    compacted: revision(compacted),
                }),
            };
        }
        let is_progress = answer.events.is_empty() && !answer.created && self.fragments.is_empty();
        if is_progress {
            if believed {
                self.come_to(call::revision(answer.header.as_ref()));
            }
            return Ok(Stream::GoesOn);
        }
        self.fragments.extend(answer.events);
        if !answer.fragment {
            for event in std::mem::take(&mut self.fragments) {
                self.event(event)?;
            }
            // The last revision is whole only now.
            self.cursor = self.cursor.max(self.last_ready());
        }
        Ok(Stream::GoesOn)
    }

    fn last_ready(&self) -> Revision {
        match self.ready.back() {
            Some(Signal::Change(change)) => change.revision,
            Some(Signal::Progress(revision)) => *revision,
            None => self.cursor,
        }
    }

    fn event(&mut self, event: Event) -> Result<(), Error> {
        let is_put = event.r#type() == EventType::Put;
        let Some(kv) = event.kv else { return Ok(()) };
        let at = revision(kv.mod_revision);
        if at <= self.cursor {
            return Ok(());
        }
        let Some(key) = self.space.key(&kv.key)? else {
            self.come_to(at);
            return Ok(());
        };
        let created = is_put && kv.create_revision == kv.mod_revision;
        let prev = match event.prev_kv {
            Some(prev) if !created => self.space.kv(prev)?,
            _ => None,
        };
        if prev.is_none() && !created {
            // History was compacted away under the watch, which etcd does not call an error.
            return Err(Error::Compacted { compacted: at });
        }
        self.ready.push_back(Signal::Change(Change {
            key,
            revision: at,
            value: is_put.then_some(kv.value),
            prev,
        }));
        Ok(())
    }

    /// Everything before `at` has been told, and `at` holds nothing else.
    fn come_to(&mut self, at: Revision) {
        self.cursor = self.cursor.max(at);
        if self.owed.is_some_and(|owed| owed <= at) {
            self.owed = None;
            self.ready.push_back(Signal::Progress(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{KeyValue, ResponseHeader};

    fn told(from: u64) -> Told {
        Told::new(Keyspace::new("/"), Revision(from))
    }

    fn kv(key: &[u8], created: i64, revision: i64) -> KeyValue {
        KeyValue {
            key: key.to_vec().into(),
            value: revision.to_string().into(),
            create_revision: created,
            mod_revision: revision,
            ..KeyValue::default()
        }
    }

    fn put(key: &[u8], created: i64, prev: i64, revision: i64) -> Event {
        Event {
            r#type: EventType::Put.into(),
            kv: Some(kv(key, created, revision)),
            prev_kv: (prev > 0).then(|| kv(key, created, prev)),
        }
    }

    fn delete(key: &[u8], prev: i64, revision: i64) -> Event {
        Event {
            r#type: EventType::Delete.into(),
            kv: Some(kv(key, 0, revision)),
            prev_kv: (prev > 0).then(|| kv(key, prev, prev)),
        }
    }

    fn answer(revision: i64, events: Vec<Event>) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                revision,
                ..ResponseHeader::default()
            }),
            events,
            ..WatchResponse::default()
        }
    }

    fn all(told: &mut Told) -> Vec<String> {
        std::iter::from_fn(|| told.next())
            .map(|signal| match signal {
                Signal::Change(change) => {
                    let sign = if change.value.is_some() { "" } else { "-" };
                    let prev = change.prev.map_or(0, |prev| prev.revision.0);
                    format!("{sign}{}@{} was {prev}", change.key, change.revision)
                }
                Signal::Progress(revision) => format!("progress {revision}"),
            })
            .collect()
    }

    #[test]
    fn tells_changes_once_whatever_comes_twice() {
        let mut told = told(4);
        let events = vec![put(b"/a", 3, 3, 4), put(b"/a", 3, 4, 5), put(b"/b", 6, 0, 6)];
        told.take(answer(6, events.clone()), true).unwrap();
        assert_eq!(all(&mut told), ["a@5 was 4", "b@6 was 0"]);
        assert_eq!(told.resume(), Revision(6));
        told.take(answer(6, events), true).unwrap();
        assert_eq!(all(&mut told), [""; 0]);
    }

    #[test]
    fn values_that_expire_together_are_all_told() {
        let mut told = told(4);
        let events = vec![delete(b"/a", 2, 5), delete(b"/b", 3, 5), delete(b"/c", 4, 5)];
        told.take(answer(5, events), true).unwrap();
        assert_eq!(all(&mut told), ["-a@5 was 2", "-b@5 was 3", "-c@5 was 4"]);
        assert_eq!(told.resume(), Revision(5));
    }

    #[test]
    fn fragments_are_one_answer_and_half_of_one_is_none() {
        let mut told = told(4);
        let part = |fragment, events| WatchResponse {
            fragment,
            ..answer(6, events)
        };
        told.take(part(true, vec![delete(b"/a", 2, 5)]), true).unwrap();
        assert_eq!((all(&mut told), told.resume()), (vec![], Revision(4)));
        told.take(part(true, vec![delete(b"/a", 2, 5)]), true).unwrap();
        told.take(part(false, vec![delete(b"/b", 3, 5)]), true).unwrap();
        assert_eq!(all(&mut told), ["-a@5 was 2", "-b@5 was 3"]);
    }

    #[test]
    fn progress_is_told_where_it_is_owed_and_late_enough() {
        let mut told = told(4);
        told.take(answer(9, vec![]), true).unwrap();
        assert_eq!((all(&mut told), told.resume()), (vec![], Revision(9)));
        told.owe(Revision(12));
        told.take(answer(11, vec![]), true).unwrap();
        assert!(told.owes(), "a member that lags behind");
        told.take(answer(13, vec![]), false).unwrap();
        assert!(told.owes(), "one that is not believed");
        told.take(answer(13, vec![]), true).unwrap();
        told.take(answer(14, vec![]), true).unwrap();
        assert_eq!(all(&mut told), ["progress 13"]);
    }

    #[test]
    fn a_marker_is_progress_behind_what_came_before_it() {
        let mut told = told(4);
        told.owe(Revision(5));
        told.take(
            answer(
                7,
                vec![put(b"/a", 5, 0, 5), put(b"/\xff", 6, 0, 6), put(b"/b", 7, 0, 7)],
            ),
            false,
        )
        .unwrap();
        assert_eq!(all(&mut told), ["a@5 was 0", "progress 6", "b@7 was 0"]);
        assert_eq!(told.resume(), Revision(7));
    }

    #[test]
    fn what_was_compacted_away_is_an_error_and_not_a_change_without_a_past() {
        for event in [put(b"/a", 2, 0, 5), delete(b"/a", 0, 5)] {
            let error = told(4).take(answer(5, vec![event]), true).unwrap_err();
            assert!(matches!(error, Error::Compacted { compacted: Revision(5) }), "{error}");
        }
        let cancelled = WatchResponse {
            canceled: true,
            compact_revision: 8,
            ..answer(9, vec![])
        };
        let error = told(4).take(cancelled, true).unwrap_err();
        assert!(matches!(error, Error::Compacted { compacted: Revision(8) }), "{error}");
        let ended = WatchResponse {
            canceled: true,
            cancel_reason: "etcdserver: no leader".to_owned(),
            ..answer(9, vec![])
        };
        assert_eq!(
            told(4).take(ended, true).unwrap(),
            Stream::Ended("etcdserver: no leader".to_owned())
        );
    }
}
