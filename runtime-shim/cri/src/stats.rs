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
    /// What only Wasm guests tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasm: Option<Box<WasmStats>>,
    /// What only Linux containers tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Box<LinuxStats>>,
}

/// What the runtime counts of a Wasm container beside its CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WasmStats {
    /// Instances made since the start: each begins from nothing, for one request or for the program's whole run.
    pub cold_starts: u64,
    /// Requests and runs that ended in a trap.
    pub traps: u64,
    /// Bytes of compiled code, which containers of the same program share.
    pub code_bytes: u64,
    /// How long requests took, for containers that serve HTTP.
    pub latency: Latencies,
}

/// How long requests took, from their arrival to the beginning of their answer: a histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Latencies {
    /// How many fell under each of [`Latencies::BOUNDS`] and above the one before, then how many above the last; empty
    /// where there are no requests.
    pub counts: Vec<u64>,
    pub sum_nanoseconds: u64,
}

impl Latencies {
    /// The upper bounds of the counts, in microseconds.
    pub const BOUNDS: [u64; 18] = [
        50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 5_000_000, 10_000_000, 60_000_000,
    ];
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

/// What the kernel has counted for one container beyond its usage; counters only grow while the container lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// The container.
    pub id: ContainerId,
    pub cpu_user_nanoseconds: u64,
    pub cpu_system_nanoseconds: u64,
    /// Periods of the CPU limit, those in which it was reached, and how long tasks waited then.
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_nanoseconds: u64,
    /// Of files.
    pub memory_cache_bytes: u64,
    pub memory_mapped_bytes: u64,
    pub memory_kernel_bytes: u64,
    pub memory_max_usage_bytes: u64,
    /// How often the limit was reached.
    pub memory_failures: u64,
    pub out_of_memory_kills: u64,
    pub processes: u64,
    pub threads: u64,
    /// 0: as many as the system has.
    pub threads_max: u64,
    pub descriptors: u64,
    pub sockets: u64,
    /// Size of the file system of the writable layer.
    pub disk_bytes: u64,
    pub disk_inodes: u64,
    pub disk_inodes_free: u64,
    pub devices: Vec<DeviceUsage>,
    /// Those of the pod, but for the loopback.
    pub interfaces: Vec<InterfaceCounters>,
}

/// What was read from a block device and written to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceUsage {
    /// `major:minor`.
    pub device: String,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// Counters of a network interface, as the kernel has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    pub name: String,
    pub received: Traffic,
    pub sent: Traffic,
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
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
