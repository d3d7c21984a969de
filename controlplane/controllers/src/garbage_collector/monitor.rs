//! Follows the metadata of every kind and keeps the graph. Kinds come and go with custom resources: discovery is asked
//! again when a definition has changed, and now and then; a kind that some group could not answer for is kept.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use client::{Client, Delta, Informers, Kind, MetaObject, Scope};
use futures::{
    StreamExt,
    stream::{AbortHandle, BoxStream, SelectAll, abortable},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{Shared, graph::Uid, is_ignored};
use crate::discovery::{self, Served};

const REDISCOVER: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// How long after a definition of kinds has changed discovery is asked: it is written several times in a row.
const SETTLED: Duration = Duration::from_millis(500);
/// How long a new kind is waited for; it may be gone again.
const SYNC: Duration = Duration::from_secs(10);

type Changes = BoxStream<'static, (Arc<Kind>, Delta<MetaObject>)>;

pub(super) async fn run(
    client: Client,
    informers: Informers,
    shared: Arc<Shared>,
    concerned: mpsc::Sender<Uid>,
) -> Infallible {
    let mut monitor = Monitor {
        informers,
        shared,
        followed: HashMap::new(),
        changes: SelectAll::new(),
        suspects: Vec::new(),
    };
    let mut next = Instant::now();
    loop {
        tokio::select! {
            Some((kind, delta)) = monitor.changes.next() => {
                if defines_kinds(&kind) {
                    next = next.min(Instant::now() + SETTLED);
                }
                monitor.note(&kind, &delta);
            }
            () = sleep_until(next) => {
                next = Instant::now() + match discovery::discover(&client).await {
                    Ok(served) => {
                        monitor.follow(&served).await;
                        REDISCOVER
                    }
                    Err(error) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "discovery failed");
                        RETRY
                    }
                };
            }
        }
        for uid in monitor.suspects.drain(..) {
            if concerned.send(uid).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Whether objects of a kind are kinds themselves.
fn defines_kinds(kind: &Kind) -> bool {
    &*kind.group == "apiextensions.k8s.io" && &*kind.plural == "customresourcedefinitions"
}

struct Monitor {
    informers: Informers,
    shared: Arc<Shared>,
    followed: HashMap<Kind, AbortHandle>,
    changes: SelectAll<Changes>,
    /// Whom the last change concerns.
    suspects: Vec<Uid>,
}

impl Monitor {
    /// Follows what is served and no longer what is not; waits until the new ones are complete, so that owners are known
    /// before their dependents are judged.
    async fn follow(&mut self, served: &Served) {
        let wanted: Vec<&Kind> = served
            .resources
            .iter()
            .filter(|resource| resource.can(&["delete", "list", "watch"]) && !is_ignored(&resource.kind))
            .map(|resource| &resource.kind)
            .collect();
        *self.shared.kinds.write() = served
            .resources
            .iter()
            .map(|resource| {
                (
                    (resource.kind.group.to_string(), resource.kind.kind.to_string()),
                    resource.kind.clone(),
                )
            })
            .collect();
        if served.stale.is_empty() {
            self.unfollow(&wanted);
        }
        let mut started = Vec::new();
        for kind in wanted {
            if self.followed.contains_key(kind) {
                continue;
            }
            let informer = self.informers.get_metadata(kind, Scope::All);
            let shared_kind = Arc::new(kind.clone());
            let (stream, handle) = abortable(informer.deltas().map(move |delta| (shared_kind.clone(), delta)));
            self.changes.push(stream.boxed());
            self.followed.insert(kind.clone(), handle);
            started.push(informer);
        }
        for informer in started {
            if timeout(SYNC, informer.synced()).await.is_err() {
                tracing::debug!("a kind has not been listed yet");
            }
        }
    }

    fn unfollow(&mut self, wanted: &[&Kind]) {
        let gone: Vec<Kind> = self
            .followed
            .keys()
            .filter(|kind| !wanted.contains(kind))
            .cloned()
            .collect();
        for kind in gone {
            if let Some(handle) = self.followed.remove(&kind) {
                handle.abort();
            }
            self.suspects.extend(self.shared.graph.write().remove_kind(&kind));
        }
    }

    fn note(&mut self, kind: &Arc<Kind>, delta: &Delta<MetaObject>) {
        let mut graph = self.shared.graph.write();
        let new = delta.new.as_ref().map(|object| &object.metadata);
        if let Some(old) = delta
            .old
            .as_ref()
            .filter(|old| new.is_none_or(|new| new.uid != old.metadata.uid))
        {
            self.suspects.extend(graph.remove(&old.metadata.uid));
        }
        if let Some(new) = new {
            self.suspects.extend(graph.put(kind, new));
        }
    }
}
