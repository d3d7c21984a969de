//! Usage, joined with what containers and sandboxes were made from. Pure.

use std::collections::BTreeMap;

use cri::{Accounting, Container, ContainerStats, Sandbox, SandboxId, SandboxStats};
use proto::v1;

use super::find;

/// What the runtime uses, all of it at one time.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<Container>,
    pub(super) sandbox_stats: Vec<SandboxStats>,
    pub(super) container_stats: Vec<ContainerStats>,
    /// Only where it was asked for: it is read process by process.
    pub(super) accounting: Vec<Accounting>,
}

impl Usage {
    /// The usage of those containers that run and that the filter shows.
    pub(super) fn containers(self, filter: &v1::ContainerStatsFilter) -> Vec<v1::ContainerStats> {
        let known: BTreeMap<_, _> = self
            .containers
            .iter()
            .map(|container| (&container.id, container))
            .collect();
        let all = self.container_stats.into_iter().filter_map(|stats| {
            let container = *known.get(&stats.id)?;
            find::container_stats(container, filter).then(|| proto::container_stats(stats, Some(container)))
        });
        all.collect()
    }

    /// The usage of the sandboxes that the filter shows, with that of their containers. One in which nothing runs uses
    /// nothing.
    pub(super) fn sandboxes(self, filter: &v1::PodSandboxStatsFilter, now: i64) -> Vec<v1::PodSandboxStats> {
        let known: BTreeMap<_, _> = self
            .containers
            .iter()
            .map(|container| (&container.id, container))
            .collect();
        let mut of_containers: BTreeMap<SandboxId, Vec<v1::ContainerStats>> = BTreeMap::new();
        for stats in self.container_stats {
            let (sandbox, container) = (stats.sandbox.clone(), known.get(&stats.id).copied());
            let told = proto::container_stats(stats, container);
            of_containers.entry(sandbox).or_default().push(told);
        }
        let mut own: BTreeMap<String, SandboxStats> = self
            .sandbox_stats
            .into_iter()
            .map(|stats| (stats.id.clone(), stats))
            .collect();
        let shown = self
            .sandboxes
            .iter()
            .filter(|sandbox| find::sandbox_stats(sandbox, filter));
        let told = shown.map(|sandbox| {
            let stats = own.remove(&sandbox.id.0).unwrap_or_else(|| idle_sandbox(sandbox, now));
            let containers = of_containers.remove(&sandbox.id).unwrap_or_default();
            proto::sandbox_stats(stats, Some(sandbox), containers)
        });
        told.collect()
    }
}

fn idle_sandbox(sandbox: &Sandbox, now: i64) -> SandboxStats {
    SandboxStats {
        id: sandbox.id.to_string(),
        pod_uid: sandbox.config.uid.clone(),
        timestamp: now,
        ..SandboxStats::default()
    }
}

/// The usage of a container that does not run.
pub(super) fn idle_container(container: &Container, now: i64) -> ContainerStats {
    ContainerStats {
        id: container.id.clone(),
        sandbox: container.sandbox.clone(),
        name: container.config.name.clone(),
        pod_uid: container.pod_uid.clone(),
        timestamp: now,
        cpu_usage_core_nanoseconds: 0,
        memory_working_set_bytes: 0,
        requests: 0,
        instances: 0,
        wasm: None,
        linux: None,
    }
}
