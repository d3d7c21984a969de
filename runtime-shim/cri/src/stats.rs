//! Usage of containers, as CRI's `ContainerStats` has it.

use serde::{Deserialize, Serialize};

use crate::{ContainerId, SandboxId};

/// Usage of one container; counters only grow while the container lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    /// Name in the pod.
    pub name: String,
    pub pod_uid: String,
    /// Nanoseconds since the epoch, of this reading.
    pub timestamp: i64,
    /// Core-nanoseconds used since the start.
    pub cpu_usage_core_nanoseconds: u64,
    /// Bytes of memory that cannot be given back; of Wasm, linear memories and tables of live instances.
    pub memory_working_set_bytes: u64,
    /// Requests served, for containers that serve HTTP.
    pub requests: u64,
    /// Instances alive now.
    pub instances: u64,
    /// What only Linux containers tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Box<LinuxStats>>,
}

/// Usage that only a Linux container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxStats {
    /// All memory charged to the container, bytes.
    pub memory_usage_bytes: u64,
    pub memory_rss_bytes: u64,
    /// What is left to the limit, bytes; 0 without a limit.
    pub memory_available_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub swap_usage_bytes: u64,
    /// What is left to the limit of swap, bytes; 0 without one.
    pub swap_available_bytes: u64,
    /// How long tasks waited for CPU, memory and disks, where the kernel tells (KEP-4205).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_pressure: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<Pressure>,
    /// The writable layer.
    pub writable_layer: crate::FilesystemUsage,
}

/// CRI's `PsiStats`: the kernel's pressure stall information of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Every task waited.
    pub full: Stall,
    /// At least one task waited.
    pub some: Stall,
}

/// One line of pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Nanoseconds.
    pub total: u64,
    /// Hundredths of a percent over ten seconds, a minute and five minutes.
    pub avg10: u32,
    pub avg60: u32,
    pub avg300: u32,
}

/// Usage of a sandbox as a whole, as CRI's `PodSandboxStats` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStats {
    /// The sandbox.
    pub id: String,
    pub pod_uid: String,
    /// Nanoseconds since the epoch, of this reading.
    pub timestamp: i64,
    /// Core-nanoseconds used since the start.
    pub cpu_usage_core_nanoseconds: u64,
    pub memory_working_set_bytes: u64,
    /// One per interface, the pod's own first.
    pub interfaces: Vec<InterfaceStats>,
    pub processes: u64,
}

/// Counters of a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStats {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}
