//! How a range was at an earlier revision: what it is now, with the changes since then taken back.
//!
//! Pure. Every change carries what its key was before, so the state at a revision is the present one, overlaid for
//! each key changed since by what the first of those changes replaced.

use std::collections::BTreeMap;

use crate::{Change, Key, Kv};

/// What the keys changed since a revision were at it; `None` where the key did not exist.
#[derive(Debug, Default)]
pub struct Overlay(BTreeMap<Key, Option<Kv>>);

impl Overlay {
    /// Takes in a change. They must come oldest first.
    pub fn take_back(&mut self, change: Change) {
        self.0.entry(change.key).or_insert(change.prev);
    }

    /// Whether nothing has changed since.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The items as they were: `present` with the overlay applied, in the order of keys, which `present` must have.
    /// Both must already be cut to the same part of the key space.
    pub fn apply<E>(self, present: impl Iterator<Item = Result<Kv, E>>, limit: usize) -> Result<(Vec<Kv>, bool), E> {
        let mut before = self.0.into_iter().peekable();
        let mut items = Page {
            items: Vec::new(),
            limit,
        };
        for kv in present {
            let kv = kv?;
            while let Some((_, was)) = before.next_if(|(key, _)| *key < kv.key) {
                if items.is_beyond(was) {
                    return Ok((items.items, true));
                }
            }
            let was = before
                .next_if(|(key, _)| *key == kv.key)
                .map_or(Some(kv), |(_, was)| was);
            if items.is_beyond(was) {
                return Ok((items.items, true));
            }
        }
        for (_, was) in before {
            if items.is_beyond(was) {
                return Ok((items.items, true));
            }
        }
        Ok((items.items, false))
    }
}

struct Page {
    items: Vec<Kv>,
    limit: usize,
}

impl Page {
    /// Adds an item, or says that the page was full before it.
    fn is_beyond(&mut self, item: Option<Kv>) -> bool {
        match item {
            Some(_) if self.items.len() >= self.limit => true,
            Some(kv) => {
                self.items.push(kv);
                false
            }
            None => false,
        }
    }
}
