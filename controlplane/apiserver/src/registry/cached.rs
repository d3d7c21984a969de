//! The [`Reader`] over the watch caches.

use std::sync::{Arc, OnceLock};

use api::names::GroupResource;
use api::{LabelSelector, NamespacedName, Object, Status};
use async_trait::async_trait;
use futures::FutureExt;
use store::cache::{Event, EventKind, Watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::catalog::{Kind, Registry};
use super::index::{Entry, KindIndex};
use super::reader::{Happened, Reader, Selected, Trail};
use super::{name_of, namespace_of};
use crate::http::respond::store_error;

/// Reads from the caches of a registry that is given to it once it has started.
pub(crate) struct CacheReader {
    registry: OnceLock<Arc<Registry>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl CacheReader {
    pub(crate) fn new(tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        CacheReader {
            registry: OnceLock::new(),
            tasks,
            shutdown,
        }
    }

    /// Gives it the registry; what it was asked before that did not exist.
    pub(crate) fn attach(&self, registry: Arc<Registry>) {
        // It is attached once, by the server's start.
        let _ = self.registry.set(registry);
    }

    fn kind(&self, of: &GroupResource) -> Option<Arc<Kind>> {
        self.registry.get()?.kind(&of.group, &of.resource)
    }
}

#[async_trait]
impl Reader for CacheReader {
    fn get(&self, kind: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let kind = self.kind(kind)?;
        let item = kind.cache.get(&kind.key(namespace, name))?;
        Some(item.entry.object(&item.bytes))
    }

    async fn get_fresh(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        self.fresh(kind).await?;
        Ok(self.get(kind, namespace, name))
    }

    async fn fresh(&self, kind: &GroupResource) -> Result<(), Status> {
        match self.kind(kind) {
            Some(kind) => kind.cache.fresh().await.map(drop).map_err(store_error),
            None => Ok(()),
        }
    }

    fn field(&self, kind: &GroupResource, namespace: Option<&str>, name: &str, field: &str) -> Option<String> {
        let kind = self.kind(kind)?;
        let nth = kind.resource.fields.iter().position(|known| known.name == field)?;
        let item = kind.cache.get(&kind.key(namespace, name))?;
        item.entry.field(nth).map(str::to_owned)
    }

    fn list(&self, kind: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(kind) = self.kind(kind) else { return Vec::new() };
        let snapshot = kind.cache.snapshot();
        let prefix = kind.scope_prefix(namespace);
        snapshot
            .range(&prefix, None)
            .map(|item| item.entry.object(&item.bytes))
            .collect()
    }

    fn select(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        labels: &LabelSelector,
        fields: &[&str],
    ) -> Vec<Selected> {
        let Some(kind) = self.kind(kind) else { return Vec::new() };
        let known = &kind.resource.fields;
        let nth: Vec<Option<usize>> = fields
            .iter()
            .map(|field| known.iter().position(|known| known.name == *field))
            .collect();
        let name = |key: &str| match kind.resource.is_namespaced() {
            true => NamespacedName::new(namespace_of(key), name_of(key)),
            false => NamespacedName::cluster(name_of(key)),
        };
        let snapshot = kind.cache.snapshot();
        let prefix = kind.scope_prefix(namespace);
        let all = snapshot.range(&prefix, None);
        let picked = all.filter(|item| labels.matches(|key| item.entry.label(key)));
        let selected = picked.map(|item| Selected {
            name: name(&item.key),
            labels: item
                .entry
                .labels()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            fields: nth
                .iter()
                .map(|nth| nth.and_then(|nth| item.entry.field(nth)).unwrap_or_default().to_owned())
                .collect(),
        });
        selected.collect()
    }

    fn changes(&self, kind: &GroupResource) -> watch::Receiver<u64> {
        let (sender, receiver) = watch::channel(0);
        if let Some(kind) = self.kind(kind) {
            self.tasks.spawn(count_changes(kind, sender, self.shutdown.clone()));
        }
        receiver
    }

    fn trail(&self, kind: &GroupResource) -> Box<dyn Trail> {
        Box::new(CacheTrail {
            kind: self.kind(kind),
            watcher: None,
            events: Vec::new().into_iter(),
        })
    }
}

/// A watcher that is read when somebody wants to know.
struct CacheTrail {
    kind: Option<Arc<Kind>>,
    watcher: Option<Watcher<KindIndex>>,
    events: std::vec::IntoIter<Event<Entry>>,
}

impl Trail for CacheTrail {
    fn next(&mut self) -> Option<Happened> {
        let kind = self.kind.as_ref()?;
        if let Some(event) = self.events.next() {
            return Some(happened(event));
        }
        if let Some(watcher) = &mut self.watcher {
            match watcher.next().now_or_never() {
                None | Some(Ok(None)) => return None,
                Some(Ok(Some(events))) => {
                    self.events = events.into_iter();
                    return self.events.next().map(happened);
                }
                // Too late, or the cache has started over.
                Some(Err(_)) => {}
            }
        }
        let snapshot = kind.cache.snapshot();
        self.watcher = kind.cache.watch(&kind.prefix, snapshot.revision).ok();
        let all = snapshot.range(&kind.prefix, None).map(|item| item.bytes.clone());
        Some(Happened::Anew(all.collect()))
    }
}

fn happened(event: Event<Entry>) -> Happened {
    Happened::Changed {
        before: event.prev.map(|item| item.bytes.clone()),
        after: (event.kind != EventKind::Deleted).then(|| event.item.bytes.clone()),
    }
}

/// Raises the counter with every batch of changes, until nobody listens or the server ends.
async fn count_changes(kind: Arc<Kind>, counter: watch::Sender<u64>, shutdown: CancellationToken) {
    let follow = async {
        kind.cache.ready().await;
        loop {
            let from = kind.cache.snapshot().revision;
            counter.send_modify(|count| *count += 1);
            let Ok(mut watcher) = kind.cache.watch(&kind.prefix, from) else {
                continue;
            };
            while let Ok(next) = watcher.next().await {
                if next.is_none() {
                    return;
                }
                counter.send_modify(|count| *count += 1);
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = counter.closed() => {}
        () = shutdown.cancelled() => {}
    }
}
