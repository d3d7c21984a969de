//! The kinds that are served: each with its cache, found by group, version and plural.

use std::collections::HashMap;
use std::sync::Arc;

use api::names::{GroupKind, GroupResource};
use foldhash::fast::RandomState;
use store::Backend;
use store::cache::{Cache, Item, Options, Snapshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
}

/// A kind in one of its served versions.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) kind: Arc<Kind>,
    nth: usize,
}

impl Endpoint {
    pub(crate) fn resource(&self) -> &Resource {
        &self.kind.resource
    }

    pub(crate) fn served(&self) -> &Served {
        let served = &self.kind.resource.served;
        served.get(self.nth).unwrap_or_else(|| self.kind.resource.storage())
    }

    /// Whether objects rest in this version, so that stored bytes are served as they are.
    pub(crate) fn is_storage(&self) -> bool {
        self.nth == 0
    }

    /// Which of the kind's served versions this is.
    pub(crate) fn nth(&self) -> usize {
        self.nth
    }

    /// Group and plural as the request named them, for messages.
    pub(crate) fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.served().group, &self.resource().plural)
    }

    pub(crate) fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.served().group, &self.resource().kind)
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.resource().subresources.iter().find(|s| s.name() == name)
    }
}

/// Every kind that is served.
pub(crate) struct Registry {
    kinds: Vec<Arc<Kind>>,
    /// By plural; several groups may have the same one.
    endpoints: HashMap<Box<str>, Vec<Endpoint>, RandomState>,
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
            kinds: Vec::with_capacity(resources.len()),
            endpoints: HashMap::default(),
        };
        for resource in resources {
            let prefix = super::key(&resource.group, &resource.plural, None, "");
            let prefix = prefix.trim_end_matches('/').to_owned() + "/";
            let cache = Cache::start(
                backend.clone(),
                &prefix,
                KindIndex::new(&resource),
                Options::default(),
                tasks,
                shutdown.clone(),
            );
            registry.add(Arc::new(Kind {
                index: KindIndex::new(&resource),
                resource,
                cache,
                prefix,
            }));
        }
        registry
    }

    fn add(&mut self, kind: Arc<Kind>) {
        let endpoints = self.endpoints.entry(kind.resource.plural.as_ref().into()).or_default();
        endpoints.extend((0..kind.resource.served.len()).map(|nth| Endpoint {
            kind: kind.clone(),
            nth,
        }));
        self.kinds.push(kind);
    }

    pub(crate) fn endpoint(&self, group: &str, version: &str, plural: &str) -> Option<&Endpoint> {
        self.endpoints
            .get(plural)?
            .iter()
            .find(|e| e.served().group == group && e.served().version == version)
    }

    /// Every kind in every version, in the order of the catalogue.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        self.kinds.iter().flat_map(|kind| {
            (0..kind.resource.served.len()).map(|nth| Endpoint {
                kind: kind.clone(),
                nth,
            })
        })
    }

    /// A kind by its storage group and plural.
    pub(crate) fn kind(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.endpoints
            .get(plural)?
            .iter()
            .map(|e| &e.kind)
            .find(|k| k.resource.group == group)
    }

    pub(crate) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// Returns when every cache has its first listing.
    pub(crate) async fn ready(&self) {
        for kind in &self.kinds {
            kind.cache.ready().await;
        }
    }

    /// The kinds whose caches are still filling.
    pub(crate) fn unready(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter().map(|k| &**k).filter(|k| !k.cache.is_ready())
    }
}
