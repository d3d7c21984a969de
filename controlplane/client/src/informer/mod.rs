//! Shared informers: one list and watch per (kind, scope, type), however many components of this process read it.
//!
//! An informer's contents are a prefix of the server's history: it never goes back, never loses a change and never
//! reports one twice, through reconnects and re-lists. While the API server is away it keeps what it has (fail static).
//! Readers take an O(1) [`Snapshot`]; those that follow changes get coalescing [`Deltas`]. Nobody can slow the watch
//! down: a reader that is late finds fewer, larger deltas.

mod changes;
mod reflect;
mod store;
mod wire;

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use api::names::NamespacedName;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::store::Shared;
use crate::{Client, Kind, meta::MetaObject, options::ListOptions};

pub use self::{
    changes::{Changes, Delta, Deltas},
    store::Snapshot,
};

/// Which objects of a kind an informer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    #[default]
    All,
    /// One namespace.
    Namespace(String),
    /// One object.
    Object(NamespacedName),
    /// A field selector, `spec.nodeName=n1`.
    Fields(String),
    /// A label selector.
    Labels(String),
}

impl Scope {
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(namespace) => Some(namespace),
            Self::Object(at) => at.namespace.as_deref(),
            Self::All | Self::Fields(_) | Self::Labels(_) => None,
        }
    }

    fn options(&self) -> ListOptions {
        let mut options = ListOptions::default();
        match self {
            Self::Object(at) => options.fields = format!("metadata.name={}", at.name),
            Self::Fields(fields) => options.fields.clone_from(fields),
            Self::Labels(labels) => options.labels.clone_from(labels),
            Self::All | Self::Namespace(_) => {}
        }
        options
    }
}

/// What the server is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    Whole,
    Metadata,
}

/// Weak: an informer ends when its last reader is dropped.
type Running = HashMap<SharedKey, Weak<dyn Any + Send + Sync>, foldhash::fast::RandomState>;
type SharedKey = (Kind, Scope, Form, TypeId);

/// The informers of one identity in this process. Cheap to clone.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    shared: Arc<Mutex<Running>>,
}

impl Informers {
    /// Informers that read as `client` does, in tasks of `tasks`, until `shutdown`.
    pub fn new(client: Client, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self {
            client,
            tasks,
            shutdown,
            shared: Arc::default(),
        }
    }

    /// The client that the informers read by, for live reads as the same identity.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The shared informer of a kind, started by its first caller. `T` should hold only the fields that are used.
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(&self, kind: &Kind, scope: Scope) -> Informer<T> {
        self.start(kind, scope, Form::Whole)
    }

    /// The shared informer of a kind's metadata, for whatever walks over all kinds.
    pub fn get_metadata(&self, kind: &Kind, scope: Scope) -> Informer<MetaObject> {
        self.start(kind, scope, Form::Metadata)
    }

    fn start<T: DeserializeOwned + Send + Sync + 'static>(&self, kind: &Kind, scope: Scope, form: Form) -> Informer<T> {
        let key: SharedKey = (kind.clone(), scope.clone(), form, TypeId::of::<T>());
        let mut shared = self.shared.lock();
        if let Some(running) = shared.get(&key).and_then(Weak::upgrade)
            && let Ok(handle) = running.downcast::<Handle<T>>()
        {
            return Informer { handle };
        }
        shared.retain(|_, informer| informer.strong_count() > 0);
        let stop = self.shutdown.child_token();
        let state = Arc::new(Shared::<T>::new());
        let reflector = reflect::Reflector {
            client: self.client.clone(),
            kind: kind.clone(),
            scope,
            form,
            state: state.clone(),
        };
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            stopped.run_until_cancelled(reflector.run()).await;
        });
        let handle = Arc::new(Handle {
            kind: kind.clone(),
            state,
            _stop: stop.drop_guard(),
        });
        let erased: Arc<dyn Any + Send + Sync> = handle.clone();
        shared.insert(key, Arc::downgrade(&erased));
        Informer { handle }
    }
}

struct Handle<T> {
    kind: Kind,
    state: Arc<Shared<T>>,
    _stop: DropGuard,
}

/// A reader of a shared informer. Cheap to clone; the watch ends when the last clone is dropped.
pub struct Informer<T> {
    handle: Arc<Handle<T>>,
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
        }
    }
}

impl<T> fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Informer").field(&self.handle.kind).finish()
    }
}

impl<T: Send + Sync + 'static> Informer<T> {
    /// The kind it holds.
    pub fn kind(&self) -> &Kind {
        &self.handle.kind
    }

    /// Waits for the first complete list. Never returns if the informer is shut down before.
    pub async fn synced(&self) {
        if self.handle.state.synced().wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the first complete list has been read.
    pub fn is_synced(&self) -> bool {
        *self.handle.state.synced().borrow()
    }

    /// The object at `at`.
    pub fn get(&self, at: &NamespacedName) -> Option<Arc<T>> {
        self.handle.state.get(at)
    }

    /// All objects in order of their keys.
    pub fn list(&self) -> Vec<(NamespacedName, Arc<T>)> {
        self.snapshot()
            .iter()
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect()
    }

    /// Everything at one revision; O(1).
    pub fn snapshot(&self) -> Snapshot<T> {
        self.handle.state.snapshot()
    }

    /// The keys that change from now on, after all that are there now; a key that changes often comes once.
    pub fn changes(&self) -> Changes<T> {
        Changes::new(self.deltas())
    }

    /// As [`Informer::changes`], with the object before and after: for mapping a change to what it concerns.
    pub fn deltas(&self) -> Deltas<T> {
        Deltas::new(self.handle.state.subscribe(), self.clone())
    }

    /// A counter that moves with every change: for snapshot loops.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.handle.state.version()
    }

    /// Whether the informer has got as far as a write that was answered with `resource_version`. Resource versions are
    /// compared as numbers (KEP-5504, comparable resource versions); one that is none counts as seen.
    pub fn has_seen(&self, resource_version: &str) -> bool {
        store::revision(resource_version).is_none_or(|wanted| *self.handle.state.revision().borrow() >= wanted)
    }

    /// Waits until [`Informer::has_seen`]: after an own write, before the next decision on the same objects. The write
    /// must have been to an object in the informer's scope.
    pub async fn wait_seen(&self, resource_version: &str) {
        let Some(wanted) = store::revision(resource_version) else {
            return;
        };
        if self
            .handle
            .state
            .revision()
            .wait_for(|seen| *seen >= wanted)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until an own write, of which `written` is the answer, is seen.
    pub async fn wait_written(&self, written: &api::Object) {
        self.wait_seen(written.resource_version().unwrap_or_default()).await;
    }

    /// Waits until the object at `at` is as `accept` wants it (`None`: it is gone).
    pub async fn wait_until(&self, at: &NamespacedName, accept: impl Fn(Option<&T>) -> bool) {
        let mut version = self.version();
        loop {
            version.mark_unchanged();
            if accept(self.get(at).as_deref()) {
                return;
            }
            if version.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
