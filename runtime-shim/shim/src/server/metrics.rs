//! The usage of containers and sandboxes as metrics, by the names and labels that cAdvisor gave them. Pure.
//!
//! CRI's metrics are whole numbers, so what cAdvisor tells in fractions of a second is told in seconds.

use std::collections::BTreeMap;

use cri::{Container, ContainerStats, LinuxStats, Pressure, Sandbox, SandboxStats};
use proto::v1::{
    self,
    MetricType::{self, Counter, Gauge},
};

use super::stats::Usage;

const NANOSECONDS: u64 = 1_000_000_000;

/// What identifies a container; of a pod as a whole, `container`, `image` and `name` are empty.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// A metric: its name, what it is, how it moves, and the labels it has beside those of all.
struct Kind {
    name: &'static str,
    help: &'static str,
    moves: MetricType,
    labels: &'static [&'static str],
}

const fn kind(name: &'static str, moves: MetricType, help: &'static str) -> Kind {
    Kind {
        name,
        help,
        moves,
        labels: &[],
    }
}

const fn labelled(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Kind {
    Kind {
        name,
        help,
        moves: Counter,
        labels,
    }
}

const KINDS: &[Kind] = &[
    kind(
        "container_cpu_usage_seconds_total",
        Counter,
        "CPU time used, in seconds.",
    ),
    kind(
        "container_memory_working_set_bytes",
        Gauge,
        "Memory that cannot be given back, in bytes.",
    ),
    kind("container_memory_usage_bytes", Gauge, "Memory charged, in bytes."),
    kind("container_memory_rss", Gauge, "Anonymous memory, in bytes."),
    kind("container_memory_swap", Gauge, "Swap used, in bytes."),
    labelled(
        "container_memory_failures_total",
        &["failure_type", "scope"],
        "Page faults.",
    ),
    kind("container_fs_usage_bytes", Gauge, "Bytes of the writable layer."),
    kind(
        "container_pressure_cpu_stalled_seconds_total",
        Counter,
        "Seconds in which every task waited for CPU.",
    ),
    kind(
        "container_pressure_cpu_waiting_seconds_total",
        Counter,
        "Seconds in which some task waited for CPU.",
    ),
    kind(
        "container_pressure_memory_stalled_seconds_total",
        Counter,
        "Seconds in which every task waited for memory.",
    ),
    kind(
        "container_pressure_memory_waiting_seconds_total",
        Counter,
        "Seconds in which some task waited for memory.",
    ),
    kind(
        "container_pressure_io_stalled_seconds_total",
        Counter,
        "Seconds in which every task waited for disks.",
    ),
    kind(
        "container_pressure_io_waiting_seconds_total",
        Counter,
        "Seconds in which some task waited for disks.",
    ),
    kind(
        "container_start_time_seconds",
        Gauge,
        "When it was started, in seconds since the epoch.",
    ),
    kind(
        "container_last_seen",
        Gauge,
        "When it was last measured, in seconds since the epoch.",
    ),
    kind(
        "container_spec_cpu_period",
        Gauge,
        "Period of the CPU limit, in microseconds.",
    ),
    kind(
        "container_spec_cpu_quota",
        Gauge,
        "CPU limit, in microseconds of each period.",
    ),
    kind("container_spec_cpu_shares", Gauge, "Weight among others that want CPU."),
    kind(
        "container_spec_memory_limit_bytes",
        Gauge,
        "Memory limit, in bytes; 0 without one.",
    ),
    kind("container_processes", Gauge, "Processes of the pod."),
    labelled(
        "container_network_receive_bytes_total",
        &["interface"],
        "Bytes received.",
    ),
    labelled(
        "container_network_receive_errors_total",
        &["interface"],
        "Errors while receiving.",
    ),
    labelled("container_network_transmit_bytes_total", &["interface"], "Bytes sent."),
    labelled(
        "container_network_transmit_errors_total",
        &["interface"],
        "Errors while sending.",
    ),
];

/// All metrics that there can be.
pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    let descriptor = |kind: &Kind| v1::MetricDescriptor {
        name: kind.name.to_owned(),
        help: kind.help.to_owned(),
        label_keys: LABELS
            .iter()
            .chain(kind.labels)
            .map(|label| (*label).to_owned())
            .collect(),
    };
    KINDS.iter().map(descriptor).collect()
}

/// The metrics of every sandbox.
pub(super) fn of(usage: &Usage) -> Vec<v1::PodSandboxMetrics> {
    let containers: BTreeMap<_, _> = usage
        .containers
        .iter()
        .map(|container| (&container.id, container))
        .collect();
    let own: BTreeMap<_, _> = usage
        .sandbox_stats
        .iter()
        .map(|stats| (stats.id.as_str(), stats))
        .collect();
    let mut of_containers: BTreeMap<&str, Vec<v1::ContainerMetrics>> = BTreeMap::new();
    let sandboxes: BTreeMap<_, _> = usage.sandboxes.iter().map(|sandbox| (&sandbox.id, sandbox)).collect();
    for stats in &usage.container_stats {
        let (Some(container), Some(sandbox)) = (containers.get(&stats.id), sandboxes.get(&stats.sandbox)) else {
            continue;
        };
        let metrics = v1::ContainerMetrics {
            container_id: stats.id.0.clone(),
            metrics: of_container(stats, container, sandbox),
        };
        of_containers.entry(&stats.sandbox.0).or_default().push(metrics);
    }
    let metrics = |sandbox: &Sandbox| v1::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.0.clone(),
        metrics: own
            .get(sandbox.id.0.as_str())
            .map(|stats| of_pod(stats, sandbox))
            .unwrap_or_default(),
        container_metrics: of_containers.remove(sandbox.id.0.as_str()).unwrap_or_default(),
    };
    usage.sandboxes.iter().map(metrics).collect()
}

/// Collects metrics of one thing.
struct Reading {
    timestamp: i64,
    labels: [String; 6],
    metrics: Vec<v1::Metric>,
}

impl Reading {
    fn add(&mut self, name: &'static str, value: u64) {
        self.add_with(name, &[], value);
    }

    fn add_with(&mut self, name: &'static str, labels: &[&str], value: u64) {
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
            return;
        };
        let labels = self
            .labels
            .iter()
            .cloned()
            .chain(labels.iter().map(|label| (*label).to_owned()));
        self.metrics.push(v1::Metric {
            name: name.to_owned(),
            timestamp: self.timestamp,
            metric_type: kind.moves.into(),
            label_values: labels.collect(),
            value: Some(v1::UInt64Value { value }),
        });
    }
}

fn seconds(nanoseconds: i64) -> u64 {
    u64::try_from(nanoseconds).unwrap_or_default() / NANOSECONDS
}

fn of_container(stats: &ContainerStats, container: &Container, sandbox: &Sandbox) -> Vec<v1::Metric> {
    let (config, pod) = (&container.config, &sandbox.config);
    let labels = [
        &config.name,
        &container.id.0,
        &config.image,
        &container.id.0,
        &pod.namespace,
        &pod.name,
    ];
    let mut reading = Reading {
        timestamp: stats.timestamp,
        labels: labels.map(Clone::clone),
        metrics: Vec::new(),
    };
    reading.add(
        "container_cpu_usage_seconds_total",
        stats.cpu_usage_core_nanoseconds / NANOSECONDS,
    );
    reading.add("container_memory_working_set_bytes", stats.memory_working_set_bytes);
    reading.add("container_start_time_seconds", seconds(container.started_at));
    reading.add("container_last_seen", seconds(stats.timestamp));
    let limits = config.resources;
    reading.add("container_spec_cpu_shares", limits.cpu_shares);
    if let Ok(quota @ 1..) = u64::try_from(limits.cpu_quota) {
        reading.add("container_spec_cpu_quota", quota);
        reading.add(
            "container_spec_cpu_period",
            limits.cpu_period.try_into().unwrap_or_default(),
        );
    }
    reading.add(
        "container_spec_memory_limit_bytes",
        limits.memory_limit.try_into().unwrap_or_default(),
    );
    if let Some(linux) = &stats.linux {
        of_linux(linux, &mut reading);
    }
    reading.metrics
}

fn of_linux(stats: &LinuxStats, reading: &mut Reading) {
    reading.add("container_memory_usage_bytes", stats.memory_usage_bytes);
    reading.add("container_memory_rss", stats.memory_rss_bytes);
    reading.add("container_memory_swap", stats.swap_usage_bytes);
    for (kind, count) in [("pgfault", stats.page_faults), ("pgmajfault", stats.major_page_faults)] {
        reading.add_with("container_memory_failures_total", &[kind, "container"], count);
    }
    reading.add("container_fs_usage_bytes", stats.writable_layer.used_bytes);
    let mut stalled = |pressure: &Option<Pressure>, stalled: &'static str, waiting: &'static str| {
        if let Some(pressure) = pressure {
            reading.add(stalled, pressure.full.total / NANOSECONDS);
            reading.add(waiting, pressure.some.total / NANOSECONDS);
        }
    };
    stalled(
        &stats.cpu_pressure,
        "container_pressure_cpu_stalled_seconds_total",
        "container_pressure_cpu_waiting_seconds_total",
    );
    stalled(
        &stats.memory_pressure,
        "container_pressure_memory_stalled_seconds_total",
        "container_pressure_memory_waiting_seconds_total",
    );
    stalled(
        &stats.io_pressure,
        "container_pressure_io_stalled_seconds_total",
        "container_pressure_io_waiting_seconds_total",
    );
}

fn of_pod(stats: &SandboxStats, sandbox: &Sandbox) -> Vec<v1::Metric> {
    let (none, pod) = (String::new(), &sandbox.config);
    let labels = [&none, &sandbox.id.0, &none, &none, &pod.namespace, &pod.name];
    let mut reading = Reading {
        timestamp: stats.timestamp,
        labels: labels.map(Clone::clone),
        metrics: Vec::new(),
    };
    reading.add(
        "container_cpu_usage_seconds_total",
        stats.cpu_usage_core_nanoseconds / NANOSECONDS,
    );
    reading.add("container_memory_working_set_bytes", stats.memory_working_set_bytes);
    reading.add("container_last_seen", seconds(stats.timestamp));
    if stats.processes > 0 {
        reading.add("container_processes", stats.processes);
    }
    for interface in &stats.interfaces {
        let name = [interface.name.as_str()];
        reading.add_with("container_network_receive_bytes_total", &name, interface.rx_bytes);
        reading.add_with("container_network_receive_errors_total", &name, interface.rx_errors);
        reading.add_with("container_network_transmit_bytes_total", &name, interface.tx_bytes);
        reading.add_with("container_network_transmit_errors_total", &name, interface.tx_errors);
    }
    reading.metrics
}

#[cfg(test)]
mod tests {
    use cri::{
        ContainerConfig, ContainerId, ContainerState, InterfaceStats, SandboxConfig, SandboxId, SandboxState, Stall,
    };

    use super::*;

    fn usage() -> Usage {
        let sandbox = Sandbox {
            id: SandboxId("s".into()),
            config: SandboxConfig {
                name: "pod".into(),
                namespace: "ns".into(),
                ..SandboxConfig::default()
            },
            state: SandboxState::Ready,
            ips: Vec::new(),
            created_at: 1,
            handler: String::new(),
            network_namespace: None,
        };
        let container = Container {
            id: ContainerId("c".into()),
            sandbox: sandbox.id.clone(),
            pod_uid: "u".into(),
            config: ContainerConfig {
                name: "app".into(),
                image: "hello:1".into(),
                ..ContainerConfig::default()
            },
            state: ContainerState::Running,
            created_at: 1,
            started_at: 5_000_000_000,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path: String::new(),
            user: None,
        };
        let linux = LinuxStats {
            cpu_pressure: Some(Pressure {
                full: Stall::default(),
                some: Stall {
                    total: 4_000_000_000,
                    ..Stall::default()
                },
            }),
            ..LinuxStats::default()
        };
        let stats = ContainerStats {
            cpu_usage_core_nanoseconds: 3_500_000_000,
            linux: Some(Box::new(linux)),
            ..super::super::stats::idle_container(&container, 9)
        };
        let own = SandboxStats {
            id: "s".into(),
            interfaces: vec![InterfaceStats {
                name: "eth0".into(),
                rx_bytes: 7,
                ..InterfaceStats::default()
            }],
            ..SandboxStats::default()
        };
        Usage {
            sandboxes: vec![sandbox],
            containers: vec![container],
            sandbox_stats: vec![own],
            container_stats: vec![stats],
        }
    }

    #[test]
    fn every_metric_is_described_with_as_many_labels_as_it_has() {
        let described: BTreeMap<_, _> = descriptors().into_iter().map(|d| (d.name, d.label_keys)).collect();
        let [pod] = of(&usage()).try_into().unwrap();
        let of_containers = pod.container_metrics.iter().flat_map(|container| &container.metrics);
        let all: Vec<_> = pod.metrics.iter().chain(of_containers).collect();
        assert!(all.len() > 10, "{all:?}");
        for metric in all {
            assert_eq!(
                described[&metric.name].len(),
                metric.label_values.len(),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn a_container_is_told_by_its_pod_and_in_seconds() {
        let [pod] = of(&usage()).try_into().unwrap();
        let value = |metrics: &[v1::Metric], name: &str| {
            let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
            (metric.value.unwrap().value, metric.label_values.join(","))
        };
        let container = &pod.container_metrics[0].metrics;
        let labels = "app,c,hello:1,c,ns,pod".to_owned();
        assert_eq!(
            value(container, "container_cpu_usage_seconds_total"),
            (3, labels.clone())
        );
        assert_eq!(
            value(container, "container_pressure_cpu_waiting_seconds_total"),
            (4, labels.clone())
        );
        assert_eq!(value(container, "container_start_time_seconds"), (5, labels));
        let received = value(&pod.metrics, "container_network_receive_bytes_total");
        assert_eq!(received, (7, ",s,,,ns,pod,eth0".to_owned()));
    }
}
