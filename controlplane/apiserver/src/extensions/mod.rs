//! What becomes of CustomResourceDefinitions: their names are granted, their kinds served, and when they are deleted their
//! objects go before them.
//!
//! One loop looks at all definitions whenever one has changed. It is level-triggered, and every API server over a store
//! runs it: what it writes is decided by [`plan`] from the definitions alone and written by compare-and-set, so that whoever
//! comes second finds it done.

mod plan;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use store::{Expect, Key, Outcome, Revision, Write};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::registry::catalog::{CachedSnapshot, Kind};
use crate::registry::custom::Definition;
use crate::registry::encode;
use crate::registry::index::parse;
use crate::resources::apiextensions::custom_resource_definition::is_true;
use crate::server::Shared;
use plan::{Names, Summary};

pub(crate) const GROUP: &str = "apiextensions.k8s.io";
pub(crate) const PLURAL: &str = "customresourcedefinitions";

/// How soon something is looked at again that waits for what no change of a definition tells.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a kind that is no longer served goes on for requests that have found it.
const GRACE: Duration = Duration::from_secs(1);
/// How long a new kind is waited for until it is served, its objects read or not.
const FILLED: Duration = Duration::from_secs(5);

/// Follows the definitions until the server ends.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let Some(definitions) = shared.registry.kind(GROUP, PLURAL) else {
        shared.registry.replace(Vec::new());
        return;
    };
    let follow = async {
        definitions.cache.ready().await;
        let mut extensions = Extensions {
            shared,
            definitions,
            known: BTreeMap::new(),
            retired: Vec::new(),
        };
        extensions.follow().await;
    };
    tokio::select! {
        () = follow => {}
        () = shutdown.cancelled() => {}
    }
}

struct Extensions {
    shared: Arc<Shared>,
    definitions: Arc<Kind>,
    /// What is remembered of each definition, so that only changed ones are read again.
    known: BTreeMap<Key, Known>,
    /// Kinds that are no longer served, and since when.
    retired: Vec<(Instant, Arc<Kind>)>,
}

struct Known {
    revision: Revision,
    summary: Summary,
    fingerprint: u64,
}

impl Extensions {
    async fn follow(&mut self) {
        loop {
            let snapshot = self.definitions.cache.snapshot();
            let watcher = self
                .definitions
                .cache
                .watch(&self.definitions.prefix, snapshot.revision);
            let waits = self.sync(&snapshot).await;
            let Ok(mut watcher) = watcher else { continue };
            let again = async {
                match waits {
                    true => tokio::time::sleep(AGAIN).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                next = watcher.next() => if matches!(next, Ok(None)) { return },
                () = again => {}
            }
        }
    }

    /// Does what the definitions ask for; tells whether something has to be looked at again.
    async fn sync(&mut self, snapshot: &CachedSnapshot) -> bool {
        self.end_retired();
        self.read(snapshot);
        self.serve(snapshot).await;
        let mut waits = !self.retired.is_empty();
        let keys: Vec<Key> = self.known.keys().cloned().collect();
        for key in keys {
            waits |= self.settle(snapshot, &key).await;
        }
        waits
    }

    fn end_retired(&mut self) {
        self.retired.retain(|(since, kind)| {
            let stays = since.elapsed() < GRACE;
            if let Some(custom) = kind.custom.as_ref().filter(|_| !stays) {
                custom.end();
            }
            stays
        });
    }

    /// Reads the definitions that have changed.
    fn read(&mut self, snapshot: &CachedSnapshot) {
        let items: Vec<_> = snapshot.range(&self.definitions.prefix, None).collect();
        self.known.retain(|key, _| snapshot.get(key).is_some());
        for item in items {
            if self
                .known
                .get(&item.key)
                .is_some_and(|known| known.revision == item.revision)
            {
                continue;
            }
            let object = parse(&item.bytes);
            let definition = Definition {
                object: &object,
                bytes: item.bytes.clone(),
                key: item.key.clone(),
            };
            let known = Known {
                revision: item.revision,
                summary: Summary::of(&object),
                fingerprint: definition.fingerprint(),
            };
            self.known.insert(item.key.clone(), known);
        }
    }

    /// Serves the kinds of definitions whose names are accepted; those that have not changed go on as they are.
    async fn serve(&mut self, snapshot: &CachedSnapshot) {
        let before = self.shared.registry.custom();
        let mut changed = false;
        let mut kinds = Vec::new();
        let wanted = self.known.iter().filter(|(_, known)| known.summary.is_served());
        let wanted: Vec<(&Key, &Known)> = wanted.collect();
        for (key, known) in wanted {
            let same = before.iter().find(|kind| {
                let custom = kind.custom.as_ref();
                custom.is_some_and(|c| c.definition == *key && c.fingerprint == known.fingerprint)
            });
            let kind = match (same, snapshot.get(key)) {
                (Some(kind), _) => kind.clone(),
                (None, Some(item)) => {
                    changed = true;
                    let object = parse(&item.bytes);
                    let definition = Definition {
                        object: &object,
                        bytes: item.bytes.clone(),
                        key: key.clone(),
                    };
                    let (resource, custom) = definition.build(&self.shared.webhooks, self.shared.registry.lifetime());
                    let kind = self.shared.registry.launch(resource, Some(custom));
                    if tokio::time::timeout(FILLED, kind.cache.ready()).await.is_err() {
                        tracing::warn!(%key, "the objects of a kind cannot be read yet");
                    }
                    kind
                }
                (None, None) => continue,
            };
            if let Some(custom) = &kind.custom {
                changed |= custom.update(known.summary.established, known.summary.terminating);
            }
            kinds.push(kind);
        }
        let first = self.shared.registry.version() == 0;
        if first || changed || kinds.len() != before.len() {
            let gone = self.shared.registry.replace(kinds);
            let now = Instant::now();
            self.retired.extend(gone.into_iter().map(|kind| (now, kind)));
        }
    }

    /// Takes one definition a step further; tells whether it waits for something.
    async fn settle(&mut self, snapshot: &CachedSnapshot, key: &Key) -> bool {
        let Some(known) = self.known.get(key) else { return false };
        if known.summary.wants_removal {
            return remove::step(&self.shared, &self.definitions, key).await;
        }
        let others = self
            .known
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(_, known)| &known.summary);
        let taken = Names::taken(others, &known.summary.group);
        let served = self.served(key, known.fingerprint);
        let Some(change) = plan::next(&known.summary, &taken, served) else {
            return known.summary.is_served() && !known.summary.established && !served;
        };
        let Some(item) = snapshot.get(key) else { return false };
        let mut object = parse(&item.bytes);
        change.apply(&mut object, self.shared.now());
        if is_true(&object, "Established") && !known.summary.established {
            self.publish(key);
        }
        if write(&self.shared, key, item.revision, &object).await
            && let Some(known) = self.known.get_mut(key)
        {
            // The next one sees which names are taken; the rest is read when the change comes by.
            known.summary = Summary::of(&object);
        }
        false
    }

    /// Lets discovery show a kind: whoever reads that it is established finds it there. Should it not come to that, the next
    /// look at the definition takes it back.
    fn publish(&self, key: &Key) {
        let kinds = self.shared.registry.custom();
        let mut custom = kinds.iter().filter_map(|kind| kind.custom.as_ref());
        if let Some(custom) = custom.find(|custom| custom.definition == *key)
            && custom.update(true, custom.is_terminating())
        {
            self.shared.registry.touch();
        }
    }

    /// Whether the kind of a definition answers requests here.
    fn served(&self, key: &Key, fingerprint: u64) -> bool {
        self.shared.registry.custom().iter().any(|kind| {
            let custom = kind.custom.as_ref();
            custom.is_some_and(|c| c.definition == *key && c.fingerprint == fingerprint) && kind.cache.is_ready()
        })
    }
}

/// Writes a definition as it should be, unless somebody was faster: then the loop comes by again. Tells whether it was
/// written.
async fn write(shared: &Shared, key: &Key, revision: Revision, object: &Object) -> bool {
    let write = Write::update(key.clone(), encode::stored(object), revision);
    commit(shared, key, write).await
}

/// Removes a definition for good.
async fn delete(shared: &Shared, key: &Key, revision: Revision) -> bool {
    commit(shared, key, Write::delete(key.clone(), Expect::At(revision))).await
}

async fn commit(shared: &Shared, key: &Key, write: Write) -> bool {
    match shared.backend.write(write).await {
        Ok(Outcome::Committed(_) | Outcome::Unchanged(_)) => true,
        Ok(Outcome::Conflict { .. }) => false,
        Err(error) => {
            tracing::warn!(%key, error = &error as &dyn std::error::Error, "a definition's status could not be written");
            false
        }
    }
}
