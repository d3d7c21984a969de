//! Events: what a component tells users about an object. Recording one never blocks and never fails: it is put into a
//! bounded queue, and dropped (and counted) when the queue is full. One background task folds repetitions together,
//! holds back what comes too often ([`correlate`]), and writes the rest.
//!
//! They are written as core/v1 Events, which both `kubectl get events` and `kubectl describe` of any age show with count
//! and age. Deliberately absent: persistence. An event that cannot be written within a few tries is lost.

mod correlate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::names::NamespacedName;
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::correlate::{Correlator, Verdict};
use crate::{Client, Clock, Error, Kind, Meta, Patch, backoff::Backoff, kinds};

/// Events that wait to be written. About 300 bytes each.
const QUEUE: usize = 1000;
/// Tries before an event is lost.
const TRIES: u32 = 8;

/// Whether an event is about the ordinary course of things.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Type {
    Normal,
    Warning,
}

/// The object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Part of the object, `spec.containers{web}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

impl ObjectRef {
    /// A reference to an object of `kind` by its metadata.
    pub fn of(kind: &Kind, meta: &Meta) -> Self {
        Self {
            kind: kind.kind.to_string(),
            namespace: meta.namespace.to_string(),
            name: meta.name.to_string(),
            uid: meta.uid.to_string(),
            api_version: kind.api_version(),
            resource_version: meta.resource_version.to_string(),
            field_path: String::new(),
        }
    }

    /// The same object, one part of it.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>) -> Self {
        self.field_path = path.into();
        self
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
struct Occurrence {
    regarding: ObjectRef,
    type_: Type,
    reason: String,
    action: String,
    note: String,
}

/// Records events as one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder for `component` (`deployment-controller`, `kubelet`) on `host` (a node's name, or empty). Its
    /// background task belongs to `tasks` and ends at `shutdown`, after a last try for what is queued.
    pub fn new(
        client: Client,
        component: &str,
        host: &str,
        clock: Clock,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            clock,
            correlator: Correlator::default(),
        };
        tasks.spawn(writer.run(events, shutdown));
        Self {
            queue,
            dropped: Arc::default(),
        }
    }

    /// Records an event. Never blocks.
    pub fn event(&self, regarding: &ObjectRef, type_: Type, reason: &str, action: &str, note: impl Into<String>) {
        let occurrence = Occurrence {
            regarding: regarding.clone(),
            type_,
            reason: reason.to_owned(),
            action: action.to_owned(),
            note: truncated(note.into()),
        };
        if self.queue.try_send(occurrence).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped since the queue was full: for metrics.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Kubernetes refuses notes above 1024 bytes.
fn truncated(mut note: String) -> String {
    if note.len() > 1024 {
        note.truncate(note.floor_char_boundary(1021));
        note.push_str("...");
    }
    note
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    clock: Clock,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut events: mpsc::Receiver<Occurrence>, shutdown: CancellationToken) {
        while let Some(Some(occurrence)) = shutdown.run_until_cancelled(events.recv()).await {
            shutdown.run_until_cancelled(self.record(occurrence, TRIES)).await;
        }
        events.close();
        while let Ok(occurrence) = events.try_recv() {
            if tokio::time::timeout(Duration::from_millis(100), self.record(occurrence, 1))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    async fn record(&mut self, occurrence: Occurrence, tries: u32) {
        let now = self.clock.now();
        let verdict = self.correlator.observe(&occurrence, Instant::now(), now);
        let Verdict::Write(entry) = verdict else { return };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        for left in (0..tries).rev() {
            match self.write(&occurrence, &entry, now).await {
                Ok(()) => return,
                Err(error)
                    if error
                        .status()
                        .is_some_and(|status| status.code < 500 && status.code != 429) =>
                {
                    tracing::debug!(error = &error as &dyn std::error::Error, "event refused");
                    return;
                }
                Err(error) if left == 0 => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "event lost");
                }
                Err(_) => sleep(backoff.next(rand::random())).await,
            }
        }
    }

    async fn write(&self, what: &Occurrence, entry: &correlate::Entry, now: jiff::Timestamp) -> Result<(), Error> {
        let at = NamespacedName::new(namespace_of(&what.regarding), &entry.name);
        let last = api::time::rfc3339(now);
        if entry.count > 1 {
            let patch = json!({"count": entry.count, "lastTimestamp": last, "message": entry.note});
            match self.client.patch(&kinds::EVENT, &at, None, Patch::Merge(patch)).await {
                Err(error) if error.is_not_found() => {} // its time to live is over: begin anew
                result => return result.map(drop),
            }
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": entry.name, "namespace": namespace_of(&what.regarding)},
            "involvedObject": what.regarding,
            "type": what.type_,
            "reason": what.reason,
            "action": what.action,
            "message": entry.note,
            "count": entry.count,
            "firstTimestamp": api::time::rfc3339(entry.first),
            "lastTimestamp": last,
            "source": {"component": self.component, "host": self.host},
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        self.client
            .create(&kinds::EVENT, at.namespace.as_deref(), &body)
            .await
            .map(drop)
    }
}

/// Events about cluster-scoped objects are kept in `default`.
fn namespace_of(regarding: &ObjectRef) -> &str {
    if regarding.namespace.is_empty() {
        "default"
    } else {
        &regarding.namespace
    }
}

#[cfg(test)]
mod tests;
