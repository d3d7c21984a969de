//! The usage of containers and sandboxes as metrics, by the names and labels that cAdvisor gave them. Pure.
//!
//! CRI's metrics are whole numbers, so what cAdvisor tells in fractions of a second is told in seconds.

mod kinds;

use std::collections::BTreeMap;

use cri::{Accounting, Container, ContainerStats, InterfaceCounters, LinuxStats, Pressure, Sandbox, SandboxStats};
use proto::v1;

use self::kinds::{KINDS, Kind};
use super::stats::Usage;

const NANOSECONDS: u64 = 1_000_000_000;

/// What identifies a container; of a pod as a whole, `container`, `image` and `name` are empty.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

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
    let accounts: BTreeMap<_, _> = usage
        .accounting
        .iter()
        .map(|accounting| (&accounting.id, accounting))
        .collect();
    // Some runtimes do not tell of some sandboxes as wholes.
    let mut together: BTreeMap<&str, SandboxStats> = BTreeMap::new();
    let mut interfaces: BTreeMap<&str, &[InterfaceCounters]> = BTreeMap::new();
    let mut of_containers: BTreeMap<&str, Vec<v1::ContainerMetrics>> = BTreeMap::new();
    let sandboxes: BTreeMap<_, _> = usage.sandboxes.iter().map(|sandbox| (&sandbox.id, sandbox)).collect();
    for stats in &usage.container_stats {
        let (Some(container), Some(sandbox)) = (containers.get(&stats.id), sandboxes.get(&stats.sandbox)) else {
            continue;
        };
        if !own.contains_key(stats.sandbox.0.as_str()) {
            add(stats, together.entry(&stats.sandbox.0).or_default());
        }
        let accounting = accounts.get(&stats.id).copied();
        if let Some(accounting) = accounting {
            interfaces.insert(&stats.sandbox.0, &accounting.interfaces);
        }
        let metrics = v1::ContainerMetrics {
            container_id: stats.id.0.clone(),
            metrics: of_container(stats, accounting, container, sandbox),
        };
        of_containers.entry(&stats.sandbox.0).or_default().push(metrics);
    }
    let metrics = |sandbox: &Sandbox| v1::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.0.clone(),
        metrics: own
            .get(sandbox.id.0.as_str())
            .copied()
            .or_else(|| together.get(sandbox.id.0.as_str()))
            .map(|stats| of_pod(stats, interfaces.get(sandbox.id.0.as_str()).copied(), sandbox))
            .unwrap_or_default(),
        container_metrics: of_containers.remove(sandbox.id.0.as_str()).unwrap_or_default(),
    };
    usage.sandboxes.iter().map(metrics).collect()
}

/// Adds what a container uses to what its sandbox does.
fn add(stats: &ContainerStats, to: &mut SandboxStats) {
    to.timestamp = to.timestamp.max(stats.timestamp);
    to.cpu_usage_core_nanoseconds += stats.cpu_usage_core_nanoseconds;
    to.memory_working_set_bytes += stats.memory_working_set_bytes;
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

fn of_container(
    stats: &ContainerStats,
    accounting: Option<&Accounting>,
    container: &Container,
    sandbox: &Sandbox,
) -> Vec<v1::Metric> {
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
    let swap = config.linux.as_ref().map_or(0, |linux| linux.memory_swap_limit);
    reading.add(
        "container_spec_memory_swap_limit_bytes",
        swap.try_into().unwrap_or_default(),
    );
    if let Some(linux) = &stats.linux {
        of_linux(linux, &mut reading);
    }
    if let Some(accounting) = accounting {
        of_kernel(accounting, &mut reading);
    }
    reading.metrics
}

fn of_kernel(counted: &Accounting, reading: &mut Reading) {
    let of_cpu = |nanoseconds: u64| nanoseconds / NANOSECONDS;
    for (name, value) in [
        ("container_cpu_user_seconds_total", of_cpu(counted.cpu_user_nanoseconds)),
        (
            "container_cpu_system_seconds_total",
            of_cpu(counted.cpu_system_nanoseconds),
        ),
        ("container_cpu_cfs_periods_total", counted.cpu_periods),
        (
            "container_cpu_cfs_throttled_periods_total",
            counted.cpu_throttled_periods,
        ),
        (
            "container_cpu_cfs_throttled_seconds_total",
            of_cpu(counted.cpu_throttled_nanoseconds),
        ),
        ("container_memory_cache", counted.memory_cache_bytes),
        ("container_memory_mapped_file", counted.memory_mapped_bytes),
        ("container_memory_kernel_usage", counted.memory_kernel_bytes),
        ("container_memory_max_usage_bytes", counted.memory_max_usage_bytes),
        ("container_memory_failcnt", counted.memory_failures),
        ("container_oom_events_total", counted.out_of_memory_kills),
        ("container_fs_limit_bytes", counted.disk_bytes),
        ("container_fs_inodes_total", counted.disk_inodes),
        ("container_fs_inodes_free", counted.disk_inodes_free),
        ("container_processes", counted.processes),
        ("container_threads", counted.threads),
        ("container_threads_max", counted.threads_max),
        ("container_file_descriptors", counted.descriptors),
        ("container_sockets", counted.sockets),
    ] {
        reading.add(name, value);
    }
    for device in &counted.devices {
        let name = device.device.as_str();
        let (major, minor) = name.split_once(':').unwrap_or((name, ""));
        for (operation, bytes) in [("Read", device.read_bytes), ("Write", device.written_bytes)] {
            let labels = [name, major, minor, operation];
            reading.add_with("container_blkio_device_usage_total", &labels, bytes);
        }
        for (metric, value) in [
            ("container_fs_reads_bytes_total", device.read_bytes),
            ("container_fs_reads_total", device.reads),
            ("container_fs_writes_bytes_total", device.written_bytes),
            ("container_fs_writes_total", device.writes),
        ] {
            reading.add_with(metric, &[name], value);
        }
    }
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

fn of_pod(stats: &SandboxStats, interfaces: Option<&[InterfaceCounters]>, sandbox: &Sandbox) -> Vec<v1::Metric> {
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
    match interfaces {
        Some(interfaces) => interfaces
            .iter()
            .for_each(|interface| of_interface(interface, &mut reading)),
        None => {
            for interface in &stats.interfaces {
                let name = [interface.name.as_str()];
                reading.add_with("container_network_receive_bytes_total", &name, interface.rx_bytes);
                reading.add_with("container_network_receive_errors_total", &name, interface.rx_errors);
                reading.add_with("container_network_transmit_bytes_total", &name, interface.tx_bytes);
                reading.add_with("container_network_transmit_errors_total", &name, interface.tx_errors);
            }
        }
    }
    reading.metrics
}

fn of_interface(interface: &InterfaceCounters, reading: &mut Reading) {
    let (received, sent) = (interface.received, interface.sent);
    for (name, value) in [
        ("container_network_receive_bytes_total", received.bytes),
        ("container_network_receive_packets_total", received.packets),
        ("container_network_receive_errors_total", received.errors),
        ("container_network_receive_packets_dropped_total", received.dropped),
        ("container_network_transmit_bytes_total", sent.bytes),
        ("container_network_transmit_packets_total", sent.packets),
        ("container_network_transmit_errors_total", sent.errors),
        ("container_network_transmit_packets_dropped_total", sent.dropped),
    ] {
        reading.add_with(name, &[&interface.name], value);
    }
}

#[cfg(test)]
mod tests {
    use cri::{
        ContainerConfig, ContainerId, ContainerState, DeviceUsage, InterfaceStats, SandboxConfig, SandboxId,
        SandboxState, Stall, Traffic,
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
            accounting: Vec::new(),
        }
    }

    #[test]
    fn what_the_kernel_counts_is_told_of_each_device_and_interface() {
        let accounting = Accounting {
            id: ContainerId("c".into()),
            threads: 3,
            devices: vec![DeviceUsage {
                device: "254:1".into(),
                written_bytes: 5,
                ..DeviceUsage::default()
            }],
            interfaces: vec![InterfaceCounters {
                name: "eth0".into(),
                received: Traffic {
                    dropped: 6,
                    ..Traffic::default()
                },
                ..InterfaceCounters::default()
            }],
            ..Accounting::default()
        };
        let usage = Usage {
            accounting: vec![accounting],
            ..usage()
        };
        let [pod] = of(&Usage {
            sandbox_stats: Vec::new(),
            ..usage
        })
        .try_into()
        .unwrap();
        let told = |metrics: &[v1::Metric], name: &str, last: &str| {
            let metric = metrics
                .iter()
                .find(|metric| metric.name == name && metric.label_values.ends_with(&[last.into()]));
            metric.unwrap().value.unwrap().value
        };
        let container = &pod.container_metrics[0].metrics;
        assert_eq!(told(container, "container_threads", "pod"), 3);
        assert_eq!(
            told(&pod.metrics, "container_cpu_usage_seconds_total", "pod"),
            3,
            "the sandbox is told of by its containers"
        );
        assert_eq!(told(container, "container_fs_writes_bytes_total", "254:1"), 5);
        assert_eq!(told(container, "container_blkio_device_usage_total", "Write"), 5);
        assert_eq!(
            told(&pod.metrics, "container_network_receive_packets_dropped_total", "eth0"),
            6
        );
        let described: BTreeMap<_, _> = descriptors().into_iter().map(|d| (d.name, d.label_keys)).collect();
        for metric in container.iter().chain(&pod.metrics) {
            assert_eq!(
                described[&metric.name].len(),
                metric.label_values.len(),
                "{}",
                metric.name
            );
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
