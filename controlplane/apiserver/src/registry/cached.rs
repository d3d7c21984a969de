//! The [`Reader`] over the watch caches.

use std::sync::{Arc, OnceLock};

use api::names::GroupResource;
use api::{Object, Status};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::catalog::{Kind, Registry};
use super::reader::Reader;
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

    fn kind(&self, of: &GroupResource) -> Option<&Arc<Kind>> {
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
        if let Some(kind) = self.kind(kind) {
            kind.cache.fresh().await.map_err(store_error)?;
        }
        Ok(self.get(kind, namespace, name))
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

    fn changes(&self, kind: &GroupResource) -> watch::Receiver<u64> {
        let (sender, receiver) = watch::channel(0);
        if let Some(kind) = self.kind(kind) {
            self.tasks
                .spawn(count_changes(kind.clone(), sender, self.shutdown.clone()));
        }
        receiver
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
