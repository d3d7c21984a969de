//! What containers, pods and the node use now: read once, for every form in which it is told.

use std::{collections::BTreeMap, fs, sync::Arc};

use jiff::Timestamp;

use crate::{node, pod::Pod, shared::Shared};

/// One reading.
pub(super) struct Usage {
    pub(super) node: NodeUsage,
    pub(super) pods: Vec<PodUsage>,
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeUsage {
    /// Nanoseconds since the epoch.
    pub(crate) timestamp: i64,
    /// Core-nanoseconds since the machine started.
    pub(crate) cpu: u64,
    pub(crate) memory_available: u64,
    pub(crate) memory_used: u64,
}

pub(super) struct PodUsage {
    pub(super) pod: Arc<Pod>,
    /// As the runtime knows the pod as a whole.
    pub(super) sandbox: Option<cri::SandboxStats>,
    pub(super) containers: Vec<ContainerUsage>,
}

pub(super) struct ContainerUsage {
    pub(super) stats: cri::ContainerStats,
    pub(super) started: Option<Timestamp>,
}

impl PodUsage {
    /// Core-nanoseconds and bytes: what the runtime says of the pod, or else its containers' together.
    pub(super) fn total(&self) -> (u64, u64) {
        let own = self
            .sandbox
            .as_ref()
            .map(|s| (s.cpu_usage_core_nanoseconds, s.memory_working_set_bytes));
        let sum = |of: fn(&cri::ContainerStats) -> u64| self.containers.iter().map(|c| of(&c.stats)).sum();
        own.unwrap_or_else(|| {
            (
                sum(|c| c.cpu_usage_core_nanoseconds),
                sum(|c| c.memory_working_set_bytes),
            )
        })
    }
}

/// Reads what is used now; pods that run nothing are left out.
///
/// # Errors
/// The runtime does not say.
pub(super) async fn read(shared: &Shared) -> Result<Usage, cri::Error> {
    let (containers, sandboxes) = tokio::join!(shared.runtime.stats(), shared.runtime.sandbox_stats());
    let mut by_pod = BTreeMap::<String, Vec<cri::ContainerStats>>::new();
    for stats in containers? {
        by_pod.entry(stats.pod_uid.clone()).or_default().push(stats);
    }
    let mut by_sandbox: BTreeMap<String, cri::SandboxStats> =
        sandboxes?.into_iter().map(|s| (s.pod_uid.clone(), s)).collect();
    let pods = shared.pods.snapshot();
    let pods = pods.iter().filter_map(|(_, pod)| {
        let running = shared.running_for(pod);
        let uid = &*running.metadata.uid;
        let mut containers = by_pod.remove(uid)?;
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let observed = shared.observer.pod(&running.metadata.uid);
        let containers = containers.into_iter().map(|stats| ContainerUsage {
            started: observed
                .containers
                .iter()
                .find(|c| c.id == stats.id)
                .and_then(|c| c.started_at),
            stats,
        });
        Some(PodUsage {
            pod: pod.clone(),
            containers: containers.collect(),
            sandbox: by_sandbox.remove(uid),
        })
    });
    Ok(Usage {
        pods: pods.collect(),
        node: machine(shared.clock.now()),
    })
}

/// What the machine uses now.
pub(crate) fn machine(now: Timestamp) -> NodeUsage {
    let (total, available) = node::memory();
    let bytes = |memory: i64| u64::try_from(memory).unwrap_or_default();
    NodeUsage {
        timestamp: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        cpu: cpu(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        memory_available: bytes(available),
        memory_used: bytes(total.saturating_sub(available)),
    }
}

/// Core-nanoseconds that all processors were busy, from `/proc/stat`; its unit is a hundredth of a second.
fn cpu(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal; guests' time is in user's already.
    let busy = fields
        .iter()
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4 | 8..));
    busy.map(|(_, ticks)| ticks).sum::<u64>().saturating_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_busy_with_what_is_not_idle() {
        assert_eq!(cpu("cpu  1 2 3 1000 500 4 5 6 7 8\ncpu0 1 1 1 1\n"), 21 * 10_000_000);
        assert_eq!(cpu(""), 0);
    }
}
