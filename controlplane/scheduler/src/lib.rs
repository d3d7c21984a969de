//! The scheduler: gives every pod a node.
//!
//! One loop follows pods and nodes, keeps its own picture of the cluster ([`cluster`]) and the pods that wait
//! ([`queue`]), and decides one pod at a time ([`cycle`], pure). A decision is assumed at once and written in the
//! background, many at a time, so that the loop never waits for a write. A pod with nothing in its way is bound within a
//! millisecond of its watch event, plus the write.
//!
//! While the API server is away nothing is decided that cannot be written; what was assumed is forgotten when its write
//! fails, and tried again.

mod bind;
mod cluster;
mod cycle;
mod framework;
mod plugins;
mod queue;
#[cfg(test)]
mod testing;
mod view;

use std::sync::Arc;

use api::NamespacedName;
use client::{Client, Clock, Delta, Informers, Scope, events::Recorder, kinds};
use futures::{StreamExt, future::OptionFuture};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bind::{Outcome, Writer},
    cluster::{Cluster, Storage},
    cycle::{Cycle, Decision},
    queue::Queue,
    view::{Claim, Node, Pod, StorageClass, Volume},
};

/// The name that pods ask for in `spec.schedulerName` when they ask for nothing.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Pods that are decided before the loop looks at what has happened meanwhile.
const BATCH: usize = 64;

/// What the scheduler needs.
pub struct Config {
    /// Writes bindings, pod status and events, as `system:kube-scheduler`.
    pub client: Client,
    /// Reads pods and nodes.
    pub informers: Informers,
    /// Only pods that ask for this name are scheduled.
    pub scheduler_name: String,
    pub clock: Clock,
}

/// Runs the scheduler until `shutdown`. Writes that are under way are given up then: what they assumed is not lost, since
/// it is decided again by whoever schedules next.
pub async fn run(config: Config, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let client = config.client.named("kube-scheduler");
    let recorder = Recorder::new(
        client.clone(),
        &config.scheduler_name,
        "",
        config.clock.clone(),
        &tasks,
        shutdown.clone(),
    );
    let scheduler = Scheduler {
        writer: Arc::new(Writer {
            client,
            recorder,
            clock: config.clock,
            claims: config.informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All),
        }),
        scheduler_name: config.scheduler_name.into(),
        cluster: Cluster::default(),
        queue: Queue::default(),
        cycle: Cycle::new(),
        writes: JoinSet::new(),
    };
    shutdown.run_until_cancelled(scheduler.run(&config.informers)).await;
    tasks.close();
    tasks.wait().await;
}

struct Scheduler {
    writer: Arc<Writer>,
    scheduler_name: Box<str>,
    cluster: Cluster,
    queue: Queue,
    cycle: Cycle,
    writes: JoinSet<Outcome>,
}

impl Scheduler {
    async fn run(mut self, informers: &Informers) {
        let (pods, nodes) = (
            informers.get::<Pod>(&kinds::POD, Scope::All),
            informers.get::<Node>(&kinds::NODE, Scope::All),
        );
        let (claims, volumes, classes) = (
            self.writer.claims.clone(),
            informers.get::<Volume>(&kinds::PERSISTENT_VOLUME, Scope::All),
            informers.get::<StorageClass>(&kinds::STORAGE_CLASS, Scope::All),
        );
        claims.synced().await;
        volumes.synced().await;
        classes.synced().await;
        pods.synced().await; // a picture without the pods that are bound would place too many
        nodes.synced().await;
        let (mut pods, mut nodes) = (pods.deltas(), nodes.deltas());
        let (mut claims, mut volumes, mut classes) = (claims.deltas(), volumes.deltas(), classes.deltas());
        loop {
            while let Some(delta) = claims.try_next() {
                self.claim_changed(delta);
            }
            while let Some(delta) = volumes.try_next() {
                self.volume_changed(delta);
            }
            while let Some(delta) = classes.try_next() {
                self.class_changed(delta);
            }
            while let Some(delta) = nodes.try_next() {
                self.node_changed(&delta);
            }
            while let Some(delta) = pods.try_next() {
                self.pod_changed(&delta);
            }
            self.schedule();
            let wake: OptionFuture<_> = self.queue.next_wake().map(sleep_until).into();
            tokio::select! {
                Some(delta) = nodes.next() => self.node_changed(&delta),
                Some(delta) = pods.next() => self.pod_changed(&delta),
                Some(delta) = claims.next() => self.claim_changed(delta),
                Some(delta) = volumes.next() => self.volume_changed(delta),
                Some(delta) = classes.next() => self.class_changed(delta),
                Some(written) = self.writes.join_next() => self.written(written.ok()),
                Some(()) = wake => {}
                () = tokio::task::yield_now(), if self.queue.has_active() => {}
            }
        }
    }

    fn claim_changed(&mut self, delta: Delta<Claim>) {
        Storage::set(&mut self.cluster.storage.claims, &delta.key, delta.new);
        self.queue.storage_changed(Instant::now());
    }

    fn volume_changed(&mut self, delta: Delta<Volume>) {
        Storage::set(&mut self.cluster.storage.volumes, &delta.key, delta.new);
        self.queue.storage_changed(Instant::now());
    }

    fn class_changed(&mut self, delta: Delta<StorageClass>) {
        Storage::set(&mut self.cluster.storage.classes, &delta.key, delta.new);
        self.queue.storage_changed(Instant::now());
    }

    fn node_changed(&mut self, delta: &Delta<Node>) {
        if delta.old.as_deref() == delta.new.as_deref() {
            return; // a heartbeat
        }
        self.cluster.set_node(&delta.key.name, delta.new.clone());
        self.queue.cluster_changed(Instant::now());
    }

    fn pod_changed(&mut self, delta: &Delta<Pod>) {
        let key = &delta.key;
        match &delta.new {
            None => {
                self.queue.remove(key);
                self.freed(key);
            }
            Some(pod) if pod.finished => {
                self.queue.remove(key);
                self.freed(key);
            }
            Some(pod) if !pod.node_name.is_empty() => {
                self.queue.remove(key);
                self.cluster.set_bound(key, pod.clone());
                let changed = delta
                    .old
                    .as_ref()
                    .is_none_or(|old| old.labels != pod.labels || old.deleting != pod.deleting);
                if changed {
                    self.queue.cluster_changed(Instant::now()); // it may be what an affinity waits for
                }
            }
            Some(pod) if pod.deleting || pod.gated || pod.scheduler_name != self.scheduler_name => {
                self.queue.remove(key)
            }
            Some(pod) if self.cluster.is_assumed(key, &pod.uid) => {}
            Some(pod) => {
                self.freed(key); // a namesake that was bound
                self.queue.put(pod.clone());
            }
        }
    }

    fn freed(&mut self, key: &NamespacedName) {
        if self.cluster.remove(key) {
            self.queue.cluster_changed(Instant::now());
        }
    }

    fn schedule(&mut self) {
        for _ in 0..BATCH {
            let Some(pod) = self.queue.take(Instant::now()) else {
                return;
            };
            let key = pod.key();
            match self
                .cycle
                .decide(&pod, &self.cluster, &mut |n| rand::random_range(0..n.max(1)))
            {
                Decision::Node(node) => {
                    tracing::debug!(pod = %key, node = %node, "scheduled");
                    self.cluster.assume(&key, &node, pod.clone());
                    let waiting = self.cluster.storage.waiting(&pod);
                    self.writes.spawn(self.writer.clone().bind(pod, node, waiting));
                }
                Decision::Unschedulable(diagnosis) => {
                    tracing::debug!(pod = %key, why = %diagnosis, "unschedulable");
                    self.queue.unschedulable(&key, Instant::now());
                    self.writes
                        .spawn(self.writer.clone().report(pod, diagnosis.to_string()));
                }
            }
        }
    }

    fn written(&mut self, outcome: Option<Outcome>) {
        match outcome {
            Some(Outcome::Bound { key }) => self.queue.remove(&key),
            Some(Outcome::NotBound { key, uid, gone }) => {
                self.cluster.forget(&key, &uid);
                if gone {
                    self.queue.remove(&key)
                } else {
                    self.queue.retry(&key, Instant::now())
                }
                self.queue.cluster_changed(Instant::now());
            }
            Some(Outcome::Reported) => {}
            None => tracing::error!("a write panicked"),
        }
    }
}

#[cfg(test)]
mod tests;
