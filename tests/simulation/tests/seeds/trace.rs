//! Follows the store itself, past the API: a digest of its whole history, and what must never happen in it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

use api::Object;
use futures::StreamExt;
use harness::store::Weathered;
use store::{Backend, Change, Signal};

/// What was seen so far.
#[derive(Default)]
struct Seen {
    digest: u64,
    changes: u64,
    /// The node of each pod, by uid.
    bound: HashMap<String, String>,
    wrong: Vec<String>,
}

/// The history of a store, as it is made.
pub struct Trace(Arc<Mutex<Seen>>);

impl Trace {
    /// Follows a store from now on.
    pub async fn follow(store: &Weathered) -> Self {
        let calm = store.calm().clone();
        let from = calm.revision().await.expect("a store in memory answers");
        let mut watch = calm.watch("", from).await.expect("a store in memory can be watched");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let keep = seen.clone();
        tokio::spawn(async move {
            while let Some(Ok(signal)) = watch.next().await {
                if let Signal::Change(change) = signal {
                    keep.lock().expect("nobody panics").take(&change);
                }
            }
        });
        Self(seen)
    }

    /// Fails if something happened that must not.
    pub fn verdict(&self) -> Result<(), String> {
        let seen = self.0.lock().expect("nobody panics");
        match seen.wrong.is_empty() {
            true => Ok(()),
            false => Err(seen.wrong.join("\n")),
        }
    }

    pub fn digest(&self) -> u64 {
        self.0.lock().expect("nobody panics").digest
    }

    pub fn changes(&self) -> u64 {
        self.0.lock().expect("nobody panics").changes
    }
}

impl Seen {
    fn take(&mut self, change: &Change) {
        let mut hasher = DefaultHasher::new();
        // There stand the port that a kubelet got, and how large this machine and how full its disk is.
        let of_machine = ["core/nodes/", "core/events/"]
            .iter()
            .any(|prefix| change.key.starts_with(prefix));
        let value = change.value.as_ref().filter(|_| !of_machine);
        (self.digest, change.revision, &change.key, value).hash(&mut hasher);
        self.digest = hasher.finish();
        self.changes += 1;
        let text = change.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        tracing::trace!(target: "history", revision = %change.revision, key = %change.key, value = %text);
        if let Some(value) = change.value.as_ref().filter(|_| change.key.starts_with("core/pods/")) {
            self.pod(&Object::from_slice(value).expect("a pod is stored as JSON"));
        }
    }

    /// A pod is bound once: its node never changes and never goes away.
    fn pod(&mut self, pod: &Object) {
        let node = pod.str_at("spec.nodeName").unwrap_or_default();
        let before = self.bound.insert(pod.uid().to_owned(), node.to_owned());
        if let Some(before) = before.filter(|before| !before.is_empty() && before != node) {
            let name = pod.name();
            self.wrong
                .push(format!("pod {name} was bound to {before} and is on {node:?} now"));
        }
    }
}
