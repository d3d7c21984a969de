//! Ending pods for the node's sake: those that use more disk than they may, and, while the node runs out of memory, disk or
//! processes, one pod after the other in Kubernetes' order ([`rank`], pure).
//!
//! A worker is told by [`Evictions`]; its pod is then Failed with the reason `Evicted`, and its controller makes another.

mod rank;
mod usage;

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::events::Type;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    events::PodEvents,
    images,
    node::{self, Signal},
    pod::Pod,
    shared::Shared,
    volumes,
};
use rank::Candidate;
use usage::{DiskUsage, Layers};

/// How often the node and its pods are looked at; Kubernetes' `--housekeeping-interval`.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the node waits for what a pod that went has had, before the next one goes.
const CLEANUP: Duration = Duration::from_secs(30);
/// The grace of a pod that goes because of the node: little, since it is urgent.
const GRACE: i64 = 1;

/// Why a pod is ended by its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) message: String,
    /// Seconds; `None`: the pod's own.
    pub(crate) grace: Option<i64>,
}

/// The pods that are to be ended, by UID.
#[derive(Default)]
pub(crate) struct Evictions(Mutex<HashMap<Arc<str>, Decided>>);

struct Decided {
    eviction: Arc<Eviction>,
    at: Instant,
}

impl Evictions {
    /// Why the pod is to be ended, if it is.
    pub(crate) fn of(&self, uid: &str) -> Option<Arc<Eviction>> {
        self.0.lock().get(uid).map(|decided| decided.eviction.clone())
    }

    fn add(&self, uid: Arc<str>, eviction: Eviction) {
        let new = || Decided {
            eviction: Arc::new(eviction),
            at: Instant::now(),
        };
        self.0.lock().entry(uid).or_insert_with(new);
    }

    /// Whether one of them was told to end a moment ago and still has what it had.
    fn is_any_ending(&self, has_something: impl Fn(&str) -> bool) -> bool {
        let evictions = self.0.lock();
        let mut recent = evictions.iter().filter(|(_, decided)| decided.at.elapsed() < CLEANUP);
        recent.any(|(uid, _)| has_something(uid))
    }

    fn keep(&self, known: impl Fn(&str) -> bool) {
        self.0.lock().retain(|uid, _| known(uid));
    }
}

/// Looks until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    if shutdown.run_until_cancelled(shared.pods.synced()).await.is_none() {
        return;
    }
    while shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        if shutdown.run_until_cancelled(look(&shared)).await.is_none() {
            return;
        }
    }
}

async fn look(shared: &Arc<Shared>) {
    let pods: Vec<Arc<Pod>> = shared.pods.list().into_iter().map(|(_, pod)| pod).collect();
    shared
        .evictions
        .keep(|uid| pods.iter().any(|pod| &*pod.metadata.uid == uid));
    let active = pods.into_iter().filter(|pod| {
        !pod.status.phase.is_terminal() && pod.mirrors().is_none() && shared.evictions.of(&pod.metadata.uid).is_none()
    });
    let active: Vec<Arc<Pod>> = active.collect();
    let pressed = pressed(shared).await;
    let limited = active.iter().any(|pod| usage::has_limits(pod));
    if !limited && pressed.is_none() {
        return;
    }
    let layers = layers(shared).await;
    let (data_dir, measured) = (shared.data_dir.clone(), active.clone());
    let is_of_disk = |signal: &Signal| signal.pressure() == node::Pressure::Disk;
    let all = pressed.as_ref().is_some_and(|(signal, _)| is_of_disk(signal));
    let work = move || {
        let wanted = measured.iter().filter(|pod| all || usage::has_limits(pod));
        let each = wanted.map(|pod| (pod.metadata.uid.clone(), usage::of_pod(&data_dir, pod, &layers)));
        each.collect::<HashMap<_, _>>()
    };
    let Ok(disk) = crate::blocking::run(work).await else {
        return;
    };
    let mut evicted = false;
    for pod in &active {
        let used = disk.get(&pod.metadata.uid);
        if let Some(message) = used.and_then(|used| usage::excess(pod, used)) {
            evict(shared, pod, message, None);
            evicted = true;
        }
    }
    let is_left = |uid: &str| volumes::pod_dir(&shared.data_dir, uid).exists();
    if let Some((signal, what)) = pressed.filter(|_| !evicted && !shared.evictions.is_any_ending(is_left)) {
        let note = format!("Attempting to reclaim {}", signal.resource());
        let node = node::reference(&shared.node_name);
        shared
            .recorder
            .event(&node, Type::Warning, "EvictionThresholdMet", "", note);
        let still = if is_of_disk(&signal) {
            images::free_unused(shared).await;
            // What has been freed may be enough.
            self::pressed(shared).await
        } else {
            Some((signal, what))
        };
        if let Some((signal, what)) = still {
            relieve(shared, signal, &what, &active, &disk).await;
        }
    }
}

fn evict(shared: &Shared, pod: &Pod, message: String, grace: Option<i64>) {
    tracing::info!(pod = %pod.key(), message, "evicting a pod");
    let recorder = &shared.recorder;
    PodEvents { recorder, pod }.warning(None, "Evicted", message.clone());
    let uid = pod.metadata.uid.clone();
    shared.evictions.add(uid.clone(), Eviction { message, grace });
    shared.observer.touch(uid);
}

/// What the node runs out of, if anything, and how that is told.
async fn pressed(shared: &Shared) -> Option<(Signal, String)> {
    let hard = &shared.thresholds.eviction_hard;
    let usage = node::usage(&*shared.runtime, &shared.data_dir, hard).await;
    let short = hard.shortages(&usage);
    shared.strain.note(&short, shared.clock.now());
    let node::Shortage {
        signal,
        threshold,
        available,
    } = *short.first()?;
    let (resource, least, left) = (signal.resource(), signal.text(threshold), signal.text(available));
    Some((
        signal,
        format!("The node was low on resource: {resource}. Threshold quantity: {least}, available: {left}. "),
    ))
}

/// What containers wrote outside of their volumes, by pod and container.
async fn layers(shared: &Shared) -> Layers {
    let stats = shared.runtime.stats().await.unwrap_or_default().into_iter();
    stats
        .filter_map(|stats| Some(((stats.pod_uid, stats.name), stats.linux?.writable_layer)))
        .collect()
}

/// Ends the pod that is first in order.
async fn relieve(
    shared: &Shared,
    signal: Signal,
    what: &str,
    active: &[Arc<Pod>],
    disk: &HashMap<Arc<str>, DiskUsage>,
) {
    let mut memory: HashMap<String, i64> = HashMap::new();
    for stats in shared.runtime.stats().await.unwrap_or_default() {
        let used = i64::try_from(stats.memory_working_set_bytes).unwrap_or(i64::MAX);
        let sum = memory.entry(stats.pod_uid).or_default();
        *sum = sum.saturating_add(used);
    }
    let candidates = active.iter().map(|pod| {
        let uid = &pod.metadata.uid;
        Candidate {
            memory: memory.get(&**uid).copied().unwrap_or_default(),
            disk: disk.get(uid).map_or(0, DiskUsage::total),
            inodes: disk.get(uid).map_or(0, DiskUsage::inodes),
            pod,
        }
    });
    let Some(first) = rank::first(signal, candidates.collect()) else {
        return;
    };
    let message = format!("{what}{}", rank::blame(signal, &first));
    evict(shared, first.pod, message, Some(GRACE));
}
