//! What an informer holds, and the two ways it moves: a watch event, and a complete list.
//!
//! Both are diffs against what is there, so that a re-list reports exactly what changed in between.

use std::sync::Arc;

use api::names::NamespacedName;
use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::changes::{Delta, Pending, Subscribers};

/// A resource version as a number, `None` if it is not one.
pub(super) fn revision(resource_version: &str) -> Option<u64> {
    resource_version.parse().ok()
}

/// An object as the server sent it: its key, its revision, and what `T` keeps of it.
#[derive(Debug)]
pub(super) struct Received<T> {
    pub(super) key: NamespacedName,
    pub(super) revision: u64,
    pub(super) object: Arc<T>,
}

struct Held<T> {
    revision: u64,
    object: Arc<T>,
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self {
            revision: self.revision,
            object: self.object.clone(),
        }
    }
}

/// All objects of an informer at one moment.
pub struct Snapshot<T> {
    items: OrdMap<NamespacedName, Held<T>>,
    /// The revision the contents are at.
    pub revision: u64,
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            revision: self.revision,
        }
    }
}

impl<T> Snapshot<T> {
    /// The object at `at`.
    pub fn get(&self, at: &NamespacedName) -> Option<&Arc<T>> {
        self.items.get(at).map(|held| &held.object)
    }

    /// All objects in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&NamespacedName, &Arc<T>)> {
        self.items.iter().map(|(key, held)| (key, &held.object))
    }

    /// The objects of one namespace in order of their names.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a NamespacedName, &'a Arc<T>)> {
        let from = NamespacedName {
            namespace: Some(namespace.into()),
            name: "".into(),
        };
        self.items
            .range(from..)
            .take_while(move |(key, _)| key.namespace.as_deref() == Some(namespace))
            .map(|(key, held)| (key, &held.object))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The state behind an informer. Written by its one reflector, read by anybody.
pub(super) struct Shared<T> {
    contents: RwLock<Snapshot<T>>,
    subscribers: Mutex<Subscribers<T>>,
    revision: watch::Sender<u64>,
    version: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

impl<T> Shared<T> {
    pub(super) fn new() -> Self {
        Self {
            contents: RwLock::new(Snapshot {
                items: OrdMap::new(),
                revision: 0,
            }),
            subscribers: Mutex::new(Subscribers::default()),
            revision: watch::Sender::new(0),
            version: watch::Sender::new(0),
            synced: watch::Sender::new(false),
        }
    }

    pub(super) fn get(&self, at: &NamespacedName) -> Option<Arc<T>> {
        self.contents.read().get(at).cloned()
    }

    pub(super) fn snapshot(&self) -> Snapshot<T> {
        self.contents.read().clone()
    }

    pub(super) fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    pub(super) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A queue of changes that starts with everything there is.
    pub(super) fn subscribe(&self) -> Arc<Pending<T>> {
        let mut subscribers = self.subscribers.lock(); // held over both steps, so that no change falls in between
        let pending = subscribers.add();
        for (key, object) in self.contents.read().iter() {
            pending.push(Delta {
                key: key.clone(),
                old: None,
                new: Some(object.clone()),
            });
        }
        pending
    }

    /// An `ADDED` or `MODIFIED` event.
    pub(super) fn upsert(&self, received: Received<T>) {
        let seen = received.revision;
        let mut subscribers = self.subscribers.lock();
        let delta = put(&mut self.contents.write().items, received);
        self.publish(&mut subscribers, delta.into_iter().collect(), Some(seen));
    }

    /// A `DELETED` event. `revision` is the deletion's.
    pub(super) fn delete(&self, key: NamespacedName, revision: u64) {
        let mut subscribers = self.subscribers.lock();
        let old = self.contents.write().items.remove(&key);
        let delta = old.map(|held| Delta {
            key,
            old: Some(held.object),
            new: None,
        });
        self.publish(&mut subscribers, delta.into_iter().collect(), Some(revision));
    }

    /// A bookmark: nothing changed up to `revision`.
    pub(super) fn bookmark(&self, revision: u64) {
        let mut subscribers = self.subscribers.lock();
        self.publish(&mut subscribers, Vec::new(), Some(revision));
    }

    /// A complete list at `revision`. `unreadable` are keys that `T` could not describe: what is known of them stays.
    pub(super) fn replace(&self, list: Vec<Received<T>>, unreadable: &[NamespacedName], revision: u64) {
        let mut subscribers = self.subscribers.lock();
        let mut contents = self.contents.write();
        let mut before = std::mem::take(&mut contents.items);
        let mut deltas = Vec::new();
        for received in list {
            let held = before.remove(&received.key);
            deltas.extend(relisted(&mut contents.items, held, received));
        }
        for key in unreadable {
            if let Some(held) = before.remove(key) {
                contents.items.insert(key.clone(), held);
            }
        }
        deltas.extend(before.into_iter().map(|(key, held)| Delta {
            key,
            old: Some(held.object),
            new: None,
        }));
        contents.revision = revision;
        drop(contents);
        self.publish(&mut subscribers, deltas, None);
        self.revision.send_replace(revision);
        self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
    }

    /// Tells everyone, after the contents have moved. Runs under the subscribers' lock, so that deltas keep their order.
    fn publish(&self, subscribers: &mut Subscribers<T>, deltas: Vec<Delta<T>>, seen: Option<u64>) {
        if let Some(seen) = seen {
            let mut contents = self.contents.write();
            contents.revision = contents.revision.max(seen);
        }
        if !deltas.is_empty() {
            subscribers.push(deltas);
            self.version.send_modify(|version| *version = version.wrapping_add(1));
        }
        if let Some(seen) = seen {
            self.revision.send_if_modified(|at| {
                seen > *at && {
                    *at = seen;
                    true
                }
            });
        }
    }
}

/// Puts an object, unless the one held is as new.
fn put<T>(items: &mut OrdMap<NamespacedName, Held<T>>, received: Received<T>) -> Option<Delta<T>> {
    let Received { key, revision, object } = received;
    if items
        .get(&key)
        .is_some_and(|held| held.revision >= revision && revision != 0)
    {
        return None;
    }
    let old = items.insert(
        key.clone(),
        Held {
            revision,
            object: object.clone(),
        },
    );
    Some(Delta {
        key,
        old: old.map(|held| held.object),
        new: Some(object),
    })
}

/// Puts an object of a complete list, whose word counts even if its revision is lower than the one held: the store may
/// have been restored from a backup.
fn relisted<T>(
    items: &mut OrdMap<NamespacedName, Held<T>>,
    held: Option<Held<T>>,
    received: Received<T>,
) -> Option<Delta<T>> {
    let Received { key, revision, object } = received;
    match held {
        Some(held) if held.revision == revision => {
            items.insert(key, held);
            None
        }
        held => {
            items.insert(
                key.clone(),
                Held {
                    revision,
                    object: object.clone(),
                },
            );
            Some(Delta {
                key,
                old: held.map(|held| held.object),
                new: Some(object),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> NamespacedName {
        NamespacedName {
            namespace: Some("ns".into()),
            name: format!("o{name}").as_str().into(),
        }
    }

    fn received(name: u8, revision: u64) -> Received<u64> {
        Received {
            key: key(name),
            revision,
            object: Arc::new(revision),
        }
    }

    #[test]
    fn a_relist_reports_only_what_changed() {
        let shared = Shared::new();
        shared.replace(vec![received(1, 1), received(2, 2), received(3, 3)], &[], 3);
        let pending = shared.subscribe();
        pending.drain();
        shared.replace(vec![received(1, 1), received(2, 5)], &[], 6);
        let deltas: Vec<_> = pending
            .drain()
            .into_iter()
            .map(|d| (d.key, d.old.map(|o| *o), d.new.map(|n| *n)))
            .collect();
        assert_eq!(deltas, [(key(2), Some(2), Some(5)), (key(3), Some(3), None)]);
    }

    #[test]
    fn an_unreadable_object_keeps_its_last_state() {
        let shared = Shared::new();
        shared.replace(vec![received(1, 1)], &[], 1);
        shared.replace(vec![], &[key(1), key(2)], 2);
        assert_eq!(shared.get(&key(1)).as_deref(), Some(&1));
        assert!(shared.get(&key(2)).is_none());
    }

    #[test]
    fn a_replayed_event_is_reported_once() {
        let shared = Shared::new();
        shared.replace(vec![], &[], 1);
        let pending = shared.subscribe();
        shared.upsert(received(1, 2));
        pending.drain();
        shared.upsert(received(1, 2));
        assert!(pending.drain().is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Delete(u8),
        Relist,
        Drain,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..5).prop_map(Step::Put),
            3 => (0u8..5).prop_map(Step::Delete),
            1 => Just(Step::Relist),
            2 => Just(Step::Drain),
        ]
    }

    proptest! {
        /// A follower that applies deltas ends with what the informer holds, whatever it was late for.
        #[test]
        fn deltas_rebuild_the_contents(steps in prop::collection::vec(step(), 0..60)) {
            let shared = Shared::new();
            let mut truth = std::collections::BTreeMap::new();
            let mut follower = std::collections::BTreeMap::new();
            let pending = shared.subscribe();
            let mut revision = 0;
            let drain = |follower: &mut std::collections::BTreeMap<NamespacedName, u64>| {
                for delta in pending.drain() {
                    assert_eq!(follower.get(&delta.key).copied(), delta.old.map(|old| *old));
                    match delta.new {
                        Some(new) => follower.insert(delta.key, *new),
                        None => follower.remove(&delta.key),
                    };
                }
            };
            for step in steps {
                revision += 1;
                match step {
                    Step::Put(name) => {
                        truth.insert(key(name), revision);
                        shared.upsert(received(name, revision));
                    }
                    Step::Delete(name) => {
                        truth.remove(&key(name));
                        shared.delete(key(name), revision);
                    }
                    Step::Relist => {
                        let list = truth.iter().map(|(k, r)| Received { key: k.clone(), revision: *r, object: Arc::new(*r) });
                        shared.replace(list.collect(), &[], revision);
                    }
                    Step::Drain => drain(&mut follower),
                }
            }
            drain(&mut follower);
            prop_assert_eq!(&follower, &truth);
            let held: std::collections::BTreeMap<_, _> = shared.snapshot().iter().map(|(k, v)| (k.clone(), **v)).collect();
            prop_assert_eq!(held, truth);
        }
    }
}
