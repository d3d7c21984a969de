//! An API server in a map, the test double of the real one: create, read, list, watch, replace, merge, delete with
//! finalizers and propagation, status and other subresources, discovery; with revisions, conflicts, bookmarks, 410, and
//! faults on demand. It validates nothing and authorizes everybody, but refuses what is new in a namespace that is being deleted.

mod lifecycle;
mod serve;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use api::Object;
use http::Request;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::{Client, Kind};

/// A change: its revision, the object's place, the event's type, and the object.
type Change = (u64, Place, &'static str, Object);

/// Where an object is: `apps/v1/deployments`, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    resource: String,
    namespace: String,
    name: String,
}

#[derive(Default)]
struct State {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Place, Object>,
    history: Vec<Change>,
}

/// The server. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
    kinds: Arc<Vec<Kind>>,
    /// Ends all watches when it moves.
    pub epoch: watch::Sender<u64>,
    /// No request is answered while it is set.
    pub down: Arc<AtomicBool>,
    /// Creates to refuse from now on.
    pub refuse_creates: Arc<AtomicUsize>,
    /// Lists and watches served.
    pub lists: Arc<AtomicUsize>,
    pub watches: Arc<AtomicUsize>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// An empty server that names no kinds in discovery.
    pub fn new() -> Self {
        Self::serving(Vec::new())
    }

    /// An empty server that names these kinds in discovery. All others are served as well.
    pub fn serving(kinds: Vec<Kind>) -> Self {
        Self {
            state: Arc::default(),
            revision: watch::Sender::new(0),
            kinds: Arc::new(kinds),
            epoch: watch::Sender::new(0),
            down: Arc::default(),
            refuse_creates: Arc::default(),
            lists: Arc::default(),
            watches: Arc::default(),
        }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { fake.serve(request).await }
        });
        Client::new(kube::Client::new(service, "default"))
    }

    /// Stores an object as it is, as if somebody else had written it; gives its revision.
    ///
    /// # Panics
    /// If `object` is no JSON object.
    pub fn put(&self, kind: &Kind, object: Value) -> String {
        let object = Object::from_value(object).expect("an object");
        let place = place(kind, object.namespace().unwrap_or(""), object.name());
        self.state.lock().write(place, object);
        self.announce()
    }

    /// Merges a change into an object, as if somebody else had, its finalizers and deletion observed.
    pub fn change(&self, kind: &Kind, namespace: &str, name: &str, change: &Value) {
        let place = place(kind, namespace, name);
        let mut state = self.state.lock();
        if let Some(object) = state.objects.get(&place).cloned() {
            let mut tree = object.into_value();
            crate::request::merge(&mut tree, change);
            if let Ok(object) = Object::from_value(tree) {
                state.settle(place, object);
            }
        }
        drop(state);
        self.announce();
    }

    /// Removes an object at once.
    pub fn remove(&self, kind: &Kind, namespace: &str, name: &str) {
        self.state.lock().remove(&place(kind, namespace, name));
        self.announce();
    }

    /// Forgets the history, so that older watches get 410.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.revision;
        state.history.clear();
    }

    /// The latest revision.
    pub fn revision(&self) -> String {
        self.state.lock().revision.to_string()
    }

    /// All objects of a kind.
    pub fn all(&self, kind: &Kind) -> Vec<Object> {
        let resource = place(kind, "", "").resource;
        let state = self.state.lock();
        state
            .objects
            .iter()
            .filter(|(at, _)| at.resource == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// One object.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Object> {
        self.state.lock().objects.get(&place(kind, namespace, name)).cloned()
    }

    /// Waits until the objects of a kind are as `done` wants them.
    ///
    /// # Panics
    /// After an hour of the runtime's time, which tests pause.
    #[allow(clippy::panic, reason = "it fails the test that waits")]
    pub async fn wait_for(&self, kind: &Kind, done: impl Fn(&[Object]) -> bool) -> Vec<Object> {
        let mut revision = self.revision.subscribe();
        let wait = async {
            loop {
                revision.mark_unchanged();
                let found = self.all(kind);
                if done(&found) {
                    return found;
                }
                let _ = revision.changed().await; // its sender is `self`
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(3600), wait).await {
            Ok(found) => found,
            Err(_) => panic!("{kind} never came to be as wanted: {:#?}", self.all(kind)),
        }
    }

    /// Tells watchers.
    fn announce(&self) -> String {
        let revision = self.state.lock().revision;
        self.revision
            .send_if_modified(|at| revision > *at && std::mem::replace(at, revision) != revision);
        revision.to_string()
    }
}

fn place(kind: &Kind, namespace: &str, name: &str) -> Place {
    let group = if kind.group.is_empty() { "core" } else { &kind.group };
    Place {
        resource: format!("{group}/{}/{}", kind.version, kind.plural),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}
