//! Ending pods for the node's sake: those that use more disk than they may, and, while the node runs out of memory, disk or
//! processes, one pod after the other in Kubernetes' order ([`rank`], pure).
//!
//! A worker is told by [`Evictions`]; its pod is then Failed with the reason `Evicted`, and its controller makes another.

mod rank;
mod usage;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{node, pod::Pod, shared::Shared};
use rank::{Candidate, Signal};
use usage::DiskUsage;

/// How often the node and its pods are looked at; Kubernetes' `--housekeeping-interval`.
const PERIOD: Duration = Duration::from_secs(10);
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
pub(crate) struct Evictions(Mutex<HashMap<Arc<str>, Arc<Eviction>>>);

impl Evictions {
    /// Why the pod is to be ended, if it is.
    pub(crate) fn of(&self, uid: &str) -> Option<Arc<Eviction>> {
        self.0.lock().get(uid).cloned()
    }

    fn add(&self, uid: Arc<str>, eviction: Eviction) {
        self.0.lock().entry(uid).or_insert_with(|| Arc::new(eviction));
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
    let pressed = pressed(shared);
    let limited = active.iter().any(|pod| usage::has_limits(pod));
    if !limited && pressed.is_none() {
        return;
    }
    let layers = layers(shared).await;
    let (data_dir, measured) = (shared.data_dir.clone(), active.clone());
    let all = pressed.as_ref().is_some_and(|(signal, _)| *signal == Signal::Disk);
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
    if let Some((signal, what)) = pressed.filter(|_| !evicted) {
        relieve(shared, signal, &what, &active, &disk).await;
    }
}

fn evict(shared: &Shared, pod: &Pod, message: String, grace: Option<i64>) {
    tracing::info!(pod = %pod.key(), message, "evicting a pod");
    let uid = pod.metadata.uid.clone();
    shared.evictions.add(uid.clone(), Eviction { message, grace });
    shared.observer.touch(uid);
}

/// What the node runs out of, if anything, and how that is told.
fn pressed(shared: &Shared) -> Option<(Signal, String)> {
    let usage = node::usage(&shared.data_dir);
    let (total, _) = node::storage(&shared.data_dir);
    let short = node::shortages(&usage, i64::try_from(total).unwrap_or(i64::MAX));
    let short = short.first()?;
    let (signal, resource) = match short.kind {
        node::Pressure::Memory => (Signal::Memory, "memory"),
        node::Pressure::Disk => (Signal::Disk, "ephemeral-storage"),
        node::Pressure::Pids => (Signal::Pids, "pids"),
    };
    let amount = |n: i64| match signal {
        Signal::Pids => n.to_string(),
        _ => api::Quantity::from_bytes(n / 1024 * 1024).to_string(),
    };
    let (least, left) = (amount(short.threshold), amount(short.available));
    Some((
        signal,
        format!("The node was low on resource: {resource}. Threshold quantity: {least}, available: {left}. "),
    ))
}

/// Bytes that containers wrote outside of their volumes, by pod and container.
async fn layers(shared: &Shared) -> BTreeMap<(String, String), u64> {
    let stats = shared.runtime.stats().await.unwrap_or_default().into_iter();
    stats
        .filter_map(|stats| Some(((stats.pod_uid, stats.name), stats.linux?.writable_layer.used_bytes)))
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
            pod,
        }
    });
    let Some(first) = rank::first(signal, candidates.collect()) else {
        return;
    };
    let message = format!("{what}{}", rank::blame(signal, &first));
    evict(shared, first.pod, message, Some(GRACE));
}
