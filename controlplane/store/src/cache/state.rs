//! What a cache knows at one moment: the items and the latest events, always of the same revision. No IO.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::{Event, EventKind, Item};
use crate::ring::{Bounds, Ring};
use crate::{Error, Key, Revision};

pub(super) struct State<E> {
    items: OrdMap<Key, Arc<Item<E>>>,
    history: Ring<Event<E>>,
    revision: Revision,
    /// What has happened up to here is no longer fresh when time has passed once more.
    aging: Revision,
    /// How often the items were listed anew. A watcher from before cannot go on.
    generation: u64,
}

/// A change with its value indexed: for a deletion, the last one at the revision of the deletion.
pub(super) struct Indexed<E> {
    pub(super) key: Key,
    pub(super) revision: Revision,
    pub(super) created: Revision,
    pub(super) deleted: bool,
    pub(super) made: (Bytes, E),
}

impl<E> Indexed<E> {
    pub(super) fn into_item(self) -> Arc<Item<E>> {
        Arc::new(Item::new(self.key, self.revision, self.created, self.made))
    }
}

impl<E> State<E> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let revision = Revision::default();
        State {
            items: OrdMap::new(),
            history: Ring::new(revision, bounds),
            revision,
            aging: revision,
            generation: 0,
        }
    }

    /// Forgets what was there already at the call before this one, as far as there is more than `rest`.
    pub(super) fn age(&mut self, rest: Bounds) {
        self.history.shrink(self.aging, rest, |gone| gone.item.forget());
        self.aging = self.revision;
    }

    /// Whether time may make the history shorter.
    pub(super) fn exceeds(&self, rest: Bounds) -> bool {
        self.history.exceeds(rest)
    }

    /// Starts over from a complete listing. What happened since the last one is unknown, so no watcher survives it.
    pub(super) fn replace(&mut self, items: OrdMap<Key, Arc<Item<E>>>, revision: Revision) {
        self.items = items;
        self.history.restart(revision);
        self.revision = revision;
        self.aging = revision;
        self.generation += 1;
    }

    /// Takes in a change, unless it is known already, as some are after the backend's watch was resumed. Of one revision
    /// there are several only where values expired together; a deletion that is known finds nothing to delete.
    pub(super) fn apply(&mut self, change: Indexed<E>) {
        let (revision, deleted) = (change.revision, change.deleted);
        if revision < self.revision || (revision == self.revision && !deleted) {
            return;
        }
        if revision == self.revision
            && self
                .items
                .get(&change.key)
                .is_some_and(|item| item.revision >= revision)
        {
            return;
        }
        let item = change.into_item();
        let prev = match deleted {
            true => self.items.remove(&item.key),
            false => self.items.insert(item.key.clone(), item.clone()),
        };
        self.revision = revision;
        let kind = match (deleted, &prev) {
            (true, None) => return,
            (true, Some(_)) => EventKind::Deleted,
            (false, None) => EventKind::Added,
            (false, Some(_)) => EventKind::Modified,
        };
        let weight = item.bytes.len() + prev.as_ref().map_or(0, |prev| prev.bytes.len());
        self.history.push_with(
            revision,
            weight,
            Event {
                kind,
                item,
                prev,
                revision,
            },
            |gone| gone.item.forget(),
        );
    }

    /// Nothing else has happened up to `revision`.
    pub(super) fn progress(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Item<E>>> {
        self.items.get(key).cloned()
    }

    pub(super) fn snapshot(&self) -> Snapshot<E> {
        Snapshot {
            items: self.items.clone(),
            revision: self.revision,
        }
    }

    /// The events after `from` under `prefix`, and the revision up to which that is all of them: at most `limit`, and
    /// what else happened at the revision of the last.
    pub(super) fn events(
        &self,
        prefix: &str,
        from: Revision,
        limit: usize,
    ) -> Result<(Vec<Event<E>>, Revision), Error> {
        let mut found = Vec::new();
        for (_, event) in self
            .history
            .after(from)?
            .filter(|(_, event)| event.item.key.starts_with(prefix))
        {
            if let Some(last) = found
                .last()
                .filter(|last: &&Event<E>| found.len() >= limit && last.revision < event.revision)
            {
                let revision = last.revision;
                return Ok((found, revision));
            }
            found.push(event.clone());
        }
        Ok((found, self.revision.max(from)))
    }
}

/// Everything in a cache as of one revision.
pub struct Snapshot<E> {
    items: OrdMap<Key, Arc<Item<E>>>,
    /// The revision.
    pub revision: Revision,
}

impl<E> Snapshot<E> {
    /// The item at a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Item<E>>> {
        self.items.get(key)
    }

    /// The items whose keys begin with `prefix`, in order, starting behind `after`.
    pub fn range<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Item<E>>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.items
            .range::<_, str>((start, Bound::Unbounded))
            .map(|(_, item)| item)
            .take_while(move |item| item.key.starts_with(prefix))
    }

    /// How many items have keys that begin with `prefix`.
    pub fn len(&self, prefix: &str) -> usize {
        self.range(prefix, None).count()
    }

    /// Whether there is no item at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<E> Clone for Snapshot<E> {
    fn clone(&self) -> Self {
        Snapshot {
            items: self.items.clone(),
            revision: self.revision,
        }
    }
}
