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
    /// Bytes of memory that cannot be given back: linear memories and tables of live instances.
    pub memory_working_set_bytes: u64,
    /// Requests served, for containers that serve HTTP.
    pub requests: u64,
    /// Instances alive now.
    pub instances: u64,
}
