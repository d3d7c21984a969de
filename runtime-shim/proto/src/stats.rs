//! Usage of containers and sandboxes.

use cri::{
    Container, ContainerId, ContainerStats, Filesystem, InterfaceStats, LinuxStats, Pressure, Sandbox, SandboxId,
    SandboxStats, Stall,
};

use crate::v1;

pub(crate) fn count(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

/// A counter, 0 where there is none.
fn of(value: Option<v1::UInt64Value>) -> u64 {
    value.unwrap_or_default().value
}

/// The usage of a container; what it was made from tells its labels.
pub fn container_stats(stats: ContainerStats, container: Option<&Container>) -> v1::ContainerStats {
    let config = container.map(|container| &container.config);
    let timestamp = stats.timestamp;
    let linux = stats.linux;
    let memory = v1::MemoryUsage {
        timestamp,
        working_set_bytes: count(stats.memory_working_set_bytes),
        ..linux.as_deref().map(memory).unwrap_or_default()
    };
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: stats.id.0,
            metadata: Some(v1::ContainerMetadata {
                name: stats.name,
                attempt: config.map(|config| config.attempt).unwrap_or_default(),
            }),
            labels: config.map(|config| config.labels.clone()).unwrap_or_default(),
            annotations: config.map(|config| config.annotations.clone()).unwrap_or_default(),
        }),
        cpu: Some(v1::CpuUsage {
            timestamp,
            usage_core_nano_seconds: count(stats.cpu_usage_core_nanoseconds),
            usage_nano_cores: None,
            psi: linux.as_deref().and_then(|linux| linux.cpu_pressure).map(Into::into),
        }),
        memory: Some(memory),
        writable_layer: linux.as_deref().map(|linux| {
            v1::FilesystemUsage::from(Filesystem {
                timestamp,
                usage: linux.writable_layer,
                ..Filesystem::default()
            })
        }),
        swap: linux.as_deref().map(|linux| v1::SwapUsage {
            timestamp,
            swap_available_bytes: count(linux.swap_available_bytes),
            swap_usage_bytes: count(linux.swap_usage_bytes),
        }),
        io: linux
            .as_deref()
            .and_then(|linux| linux.io_pressure)
            .map(|pressure| v1::IoUsage {
                timestamp,
                psi: Some(pressure.into()),
            }),
    }
}

fn memory(linux: &LinuxStats) -> v1::MemoryUsage {
    v1::MemoryUsage {
        available_bytes: count(linux.memory_available_bytes),
        usage_bytes: count(linux.memory_usage_bytes),
        rss_bytes: count(linux.memory_rss_bytes),
        page_faults: count(linux.page_faults),
        major_page_faults: count(linux.major_page_faults),
        psi: linux.memory_pressure.map(Into::into),
        ..v1::MemoryUsage::default()
    }
}

/// Reads the usage of a container, which says neither its sandbox nor its pod.
pub fn read_container_stats(stats: v1::ContainerStats, sandbox: SandboxId, pod_uid: String) -> ContainerStats {
    let attributes = stats.attributes.unwrap_or_default();
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let writable_layer = stats.writable_layer.map(|layer| Filesystem::from(layer).usage);
    let swap = stats.swap.unwrap_or_default();
    let linux = (memory.usage_bytes.is_some() || writable_layer.is_some()).then(|| LinuxStats {
        memory_usage_bytes: of(memory.usage_bytes),
        memory_rss_bytes: of(memory.rss_bytes),
        memory_available_bytes: of(memory.available_bytes),
        page_faults: of(memory.page_faults),
        major_page_faults: of(memory.major_page_faults),
        swap_usage_bytes: of(swap.swap_usage_bytes),
        swap_available_bytes: of(swap.swap_available_bytes),
        cpu_pressure: cpu.psi.map(Into::into),
        memory_pressure: memory.psi.map(Into::into),
        io_pressure: stats.io.and_then(|io| io.psi).map(Into::into),
        writable_layer: writable_layer.unwrap_or_default(),
    });
    ContainerStats {
        id: ContainerId(attributes.id),
        sandbox,
        name: attributes.metadata.unwrap_or_default().name,
        pod_uid,
        timestamp: cpu.timestamp.max(memory.timestamp),
        cpu_usage_core_nanoseconds: of(cpu.usage_core_nano_seconds),
        memory_working_set_bytes: of(memory.working_set_bytes),
        requests: 0,
        instances: 0,
        wasm: None,
        linux: linux.map(Box::new),
    }
}

/// The usage of a sandbox with that of its containers; what it was made from tells its labels.
pub fn sandbox_stats(
    stats: SandboxStats,
    sandbox: Option<&Sandbox>,
    containers: Vec<v1::ContainerStats>,
) -> v1::PodSandboxStats {
    let config = sandbox.map(|sandbox| &sandbox.config);
    let timestamp = stats.timestamp;
    let mut interfaces = stats.interfaces.into_iter().map(Into::into);
    let linux = v1::LinuxPodSandboxStats {
        cpu: Some(v1::CpuUsage {
            timestamp,
            usage_core_nano_seconds: count(stats.cpu_usage_core_nanoseconds),
            ..v1::CpuUsage::default()
        }),
        memory: Some(v1::MemoryUsage {
            timestamp,
            working_set_bytes: count(stats.memory_working_set_bytes),
            ..v1::MemoryUsage::default()
        }),
        network: interfaces.next().map(|default_interface| v1::NetworkUsage {
            timestamp,
            default_interface: Some(default_interface),
            interfaces: interfaces.collect(),
        }),
        process: Some(v1::ProcessUsage {
            timestamp,
            process_count: count(stats.processes),
        }),
        containers,
        io: None,
    };
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: stats.id,
            metadata: Some(v1::PodSandboxMetadata {
                name: config.map(|config| config.name.clone()).unwrap_or_default(),
                uid: stats.pod_uid,
                namespace: config.map(|config| config.namespace.clone()).unwrap_or_default(),
                attempt: config.map(|config| config.attempt).unwrap_or_default(),
            }),
            labels: config.map(|config| config.labels.clone()).unwrap_or_default(),
            annotations: config.map(|config| config.annotations.clone()).unwrap_or_default(),
        }),
        linux: Some(linux),
    }
}

/// Reads the usage of a sandbox, and that of its containers.
pub fn read_sandbox_stats(stats: v1::PodSandboxStats) -> (SandboxStats, Vec<ContainerStats>) {
    let attributes = stats.attributes.unwrap_or_default();
    let pod_uid = attributes.metadata.unwrap_or_default().uid;
    let linux = stats.linux.unwrap_or_default();
    let cpu = linux.cpu.unwrap_or_default();
    let memory = linux.memory.unwrap_or_default();
    let network = linux.network.unwrap_or_default();
    let containers = linux.containers.into_iter();
    let containers = containers
        .map(|stats| read_container_stats(stats, SandboxId(attributes.id.clone()), pod_uid.clone()))
        .collect();
    let interfaces = network.default_interface.into_iter().chain(network.interfaces);
    let stats = SandboxStats {
        id: attributes.id.clone(),
        pod_uid: pod_uid.clone(),
        timestamp: cpu.timestamp.max(memory.timestamp),
        cpu_usage_core_nanoseconds: of(cpu.usage_core_nano_seconds),
        memory_working_set_bytes: of(memory.working_set_bytes),
        interfaces: interfaces.map(Into::into).collect(),
        processes: of(linux.process.unwrap_or_default().process_count),
    };
    (stats, containers)
}

impl From<InterfaceStats> for v1::NetworkInterfaceUsage {
    fn from(stats: InterfaceStats) -> Self {
        Self {
            name: stats.name,
            rx_bytes: count(stats.rx_bytes),
            rx_errors: count(stats.rx_errors),
            tx_bytes: count(stats.tx_bytes),
            tx_errors: count(stats.tx_errors),
        }
    }
}

impl From<v1::NetworkInterfaceUsage> for InterfaceStats {
    fn from(usage: v1::NetworkInterfaceUsage) -> Self {
        Self {
            name: usage.name,
            rx_bytes: of(usage.rx_bytes),
            rx_errors: of(usage.rx_errors),
            tx_bytes: of(usage.tx_bytes),
            tx_errors: of(usage.tx_errors),
        }
    }
}

impl From<Pressure> for v1::PsiStats {
    fn from(pressure: Pressure) -> Self {
        Self {
            full: Some(pressure.full.into()),
            some: Some(pressure.some.into()),
        }
    }
}

impl From<v1::PsiStats> for Pressure {
    fn from(stats: v1::PsiStats) -> Self {
        Self {
            full: stats.full.unwrap_or_default().into(),
            some: stats.some.unwrap_or_default().into(),
        }
    }
}

impl From<Stall> for v1::PsiData {
    fn from(stall: Stall) -> Self {
        let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
        Self {
            total: stall.total,
            avg10: percent(stall.avg10),
            avg60: percent(stall.avg60),
            avg300: percent(stall.avg300),
        }
    }
}

impl From<v1::PsiData> for Stall {
    fn from(data: v1::PsiData) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a percentage in hundredths; `as` saturates"
        )]
        let hundredths = |percent: f64| (percent * 100.0).round() as u32;
        Self {
            total: data.total,
            avg10: hundredths(data.avg10),
            avg60: hundredths(data.avg60),
            avg300: hundredths(data.avg300),
        }
    }
}
