//! The kinds that are served: each with its cache, found by group, version and plural.
//!
//! Built-in kinds are there from the start. Custom ones come and go ([`Registry::replace`]); a request finds both without a
//! lock that somebody could hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::names::{GroupKind, GroupResource};
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use store::Backend;
use store::cache::{Cache, Item, Options, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::custom::Custom;
use super::index::{Entry, KindIndex};
use super::resource::{Resource, Served, Subresource};

pub(crate) type CachedItem = Arc<Item<Entry>>;
pub(crate) type CachedSnapshot = Snapshot<Entry>;

/// One storage kind and everything cached of it.
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    pub(crate) cache: Arc<Cache<KindIndex>>,
    pub(crate) index: KindIndex,
    /// What all its keys begin with: `group/plural/`.
    pub(crate) prefix: String,
    /// What a CustomResourceDefinition adds, if the kind is of one.
    pub(crate) custom: Option<Custom>,
}

impl Kind {
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> String {
        super::key(&self.resource.group, &self.resource.plural, namespace, name)
    }

    /// What the keys of a namespace, or of all (`None`), begin with.
    pub(crate) fn scope_prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// Whether discovery shows it.
    fn is_public(&self) -> bool {
        self.custom.as_ref().is_none_or(Custom::is_established)
    }
}

/// A kind in one of its served versions.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) kind: Arc<Kind>,
    nth: usize,
}

impl Endpoint {
    /// A kind in the version in which its objects rest.
    pub(crate) fn storage_of(kind: &Arc<Kind>) -> Self {
        Endpoint {
            kind: kind.clone(),
            nth: 0,
        }
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.kind.resource
    }

    pub(crate) fn served(&self) -> &Served {
        let served = &self.kind.resource.served;
        served.get(self.nth).unwrap_or_else(|| self.kind.resource.storage())
    }

    /// The version in which objects are worked on between decoding and commit: the storage version, but for custom
    /// resources, whose versions have rules of their own.
    pub(crate) fn hub(&self) -> &Served {
        match self.kind.custom {
            Some(_) => self.served(),
            None => self.kind.resource.storage(),
        }
    }

    /// Whether objects rest in this version, so that stored bytes are served as they are.
    pub(crate) fn is_storage(&self) -> bool {
        self.nth == 0 && self.kind.custom.is_none()
    }

    /// Which of the kind's served versions this is.
    pub(crate) fn nth(&self) -> usize {
        self.nth
    }

    /// The kind in every version in which it is served.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Endpoint> {
        endpoints_of(&self.kind)
    }

    /// Group and plural as the request named them, for messages.
    pub(crate) fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.served().group, &self.resource().plural)
    }

    pub(crate) fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.served().group, &self.resource().kind)
    }

    /// The parts of an object that have an endpoint in this version.
    pub(crate) fn subresources(&self) -> &[Subresource] {
        match &self.served().view {
            Some(view) => &view.subresources,
            None => &self.resource().subresources,
        }
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources().iter().find(|s| s.name() == name)
    }

    /// The verbs it answers to.
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match &self.kind.custom {
            Some(custom) if custom.is_terminating() => super::custom::TERMINATING_VERBS,
            _ => self.resource().verbs,
        }
    }
}

/// Kinds by name.
#[derive(Default)]
struct Table {
    kinds: Vec<Arc<Kind>>,
    /// By plural; several groups may have the same one.
    endpoints: HashMap<Box<str>, Vec<Endpoint>, RandomState>,
}

impl Table {
    fn new(kinds: Vec<Arc<Kind>>) -> Self {
        let mut table = Table::default();
        for kind in &kinds {
            let endpoints = table.endpoints.entry(kind.resource.plural.as_ref().into()).or_default();
            endpoints.extend(endpoints_of(kind));
        }
        table.kinds = kinds;
        table
    }

    fn endpoint(&self, group: &str, version: &str, plural: &str) -> Option<Endpoint> {
        let found = self
            .endpoints
            .get(plural)?
            .iter()
            .find(|e| e.served().group == group && e.served().version == version);
        found.cloned()
    }

    fn kind(&self, group: &str, plural: &str) -> Option<Arc<Kind>> {
        let mut kinds = self.endpoints.get(plural)?.iter().map(|e| &e.kind);
        kinds.find(|k| k.resource.group == group).cloned()
    }
}

fn endpoints_of(kind: &Arc<Kind>) -> impl Iterator<Item = Endpoint> {
    let shown = |served: &Served| !served.hidden;
    let versions = kind
        .resource
        .served
        .iter()
        .enumerate()
        .filter(move |(_, served)| shown(served));
    versions.map(|(nth, _)| Endpoint {
        kind: kind.clone(),
        nth,
    })
}

/// Every kind that is served.
pub(crate) struct Registry {
    built_in: Table,
    custom: ArcSwap<Table>,
    /// Rises with every change to what is served.
    version: watch::Sender<u64>,
    /// Whether the custom kinds have been looked up once.
    complete: AtomicBool,
    backend: Arc<dyn Backend>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Registry {
    /// Starts one cache per kind.
    pub(crate) fn start(
        resources: Vec<Resource>,
        backend: &Arc<dyn Backend>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let mut registry = Registry {
            built_in: Table::default(),
            custom: ArcSwap::default(),
            version: watch::Sender::new(0),
            complete: AtomicBool::new(false),
            backend: backend.clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let kinds = resources.into_iter().map(|resource| registry.launch(resource, None));
        registry.built_in = Table::new(kinds.collect());
        registry
    }

    /// Starts the cache of a kind. A custom one ends when its [`Custom`] is told to.
    pub(crate) fn launch(&self, resource: Resource, custom: Option<Custom>) -> Arc<Kind> {
        let prefix = super::key(&resource.group, &resource.plural, None, "");
        let prefix = prefix.trim_end_matches('/').to_owned() + "/";
        let shutdown = match &custom {
            Some(custom) => custom.lifetime(),
            None => self.shutdown.clone(),
        };
        let normal = custom.as_ref().map(Custom::normal);
        let cache = Cache::start(
            self.backend.clone(),
            &prefix,
            KindIndex::new(&resource, normal.clone()),
            Options::default(),
            &self.tasks,
            shutdown,
        );
        Arc::new(Kind {
            index: KindIndex::new(&resource, normal),
            resource,
            cache,
            prefix,
            custom,
        })
    }

    /// A token for what ends with the server at the latest.
    pub(crate) fn lifetime(&self) -> CancellationToken {
        self.shutdown.child_token()
    }

    /// Serves these custom kinds from now on, and no others. Gives those that were served and no longer are, whose caches
    /// the caller ends when nobody can be reading them any more.
    pub(crate) fn replace(&self, kinds: Vec<Arc<Kind>>) -> Vec<Arc<Kind>> {
        let before = self.custom.swap(Arc::new(Table::new(kinds)));
        self.complete.store(true, Ordering::Release);
        self.version.send_modify(|version| *version += 1);
        let now = self.custom.load();
        let gone = before
            .kinds
            .iter()
            .filter(|old| !now.kinds.iter().any(|new| Arc::ptr_eq(old, new)));
        gone.cloned().collect()
    }

    /// Says that a custom kind shows itself in another way than before.
    pub(crate) fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Tells when what is served changes.
    pub(crate) fn watch_version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A number that differs when what is served does.
    pub(crate) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    pub(crate) fn endpoint(&self, group: &str, version: &str, plural: &str) -> Option<Endpoint> {
        let built_in = self.built_in.endpoint(group, version, plural);
        built_in.or_else(|| self.custom.load().endpoint(group, version, plural))
    }

    /// A kind by its own name.
    pub(crate) fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Endpoint> {
        let custom = self.custom.load();
        let kinds = self.built_in.kinds.iter().chain(&custom.kinds);
        let named = kinds.filter(|known| known.resource.kind == kind);
        let is_it = |endpoint: &Endpoint| endpoint.served().group == group && endpoint.served().version == version;
        named.flat_map(endpoints_of).find(is_it)
    }

    /// Every kind in every version: the built-in ones in the order of the catalogue, then the custom ones.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let kinds = self.kinds();
        kinds
            .into_iter()
            .filter(|kind| kind.is_public())
            .flat_map(|kind| endpoints_of(&kind).collect::<Vec<_>>())
    }

    /// A kind by its storage group and plural.
    pub(crate) fn kind(&self, group: &str, plural: &str) -> Option<Arc<Kind>> {
        let built_in = self.built_in.kind(group, plural);
        built_in.or_else(|| self.custom.load().kind(group, plural))
    }

    pub(crate) fn kinds(&self) -> Vec<Arc<Kind>> {
        let mut kinds = self.built_in.kinds.clone();
        kinds.extend(self.custom.load().kinds.iter().cloned());
        kinds
    }

    /// The custom kinds that are served.
    pub(crate) fn custom(&self) -> Vec<Arc<Kind>> {
        self.custom.load().kinds.clone()
    }

    /// Returns when every cache has its first listing and the custom kinds are known.
    pub(crate) async fn ready(&self) {
        for kind in &self.built_in.kinds {
            kind.cache.ready().await;
        }
        // An error means that the sender is gone, and we hold it.
        let _ = self.version.subscribe().wait_for(|version| *version > 0).await;
        for kind in self.custom() {
            kind.cache.ready().await;
        }
    }

    /// Whether [`Registry::ready`] would return at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.complete.load(Ordering::Acquire) && self.kinds().iter().all(|kind| kind.cache.is_ready())
    }
}
