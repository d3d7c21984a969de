//! What only Linux containers have: CRI's `LinuxPodSandboxConfig` and `LinuxContainerConfig`, less what every container has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ContainerId, Resources};

/// CRI's `LinuxPodSandboxConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxSandbox {
    /// The pod's cgroup, made by the kubelet, below which those of its containers lie; in the cgroup driver's form.
    pub cgroup_parent: String,
    pub namespaces: Namespaces,
    pub sysctls: BTreeMap<String, String>,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub readonly_rootfs: bool,
    /// At least one container of the pod is privileged.
    pub privileged: bool,
    pub seccomp: Profile,
    pub apparmor: Profile,
    pub selinux: Option<SelinuxLabel>,
    /// What the sandbox itself takes (RuntimeClass overhead).
    pub overhead: Resources,
    /// The sum of the containers' limits.
    pub resources: Resources,
}

/// Hidden from containers with `procMount: Default`, as Kubernetes has it.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Read-only to such containers.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// CRI's `LinuxContainerConfig`, beyond [`crate::Resources`] and [`crate::SecurityContext`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxContainer {
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Page size (`2MB`) and bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// Bytes of memory and swap together; 0: unset.
    pub memory_swap_limit: i64,
    /// Files of cgroup v2 and what to write there.
    pub unified: BTreeMap<String, String>,
    pub devices: Vec<Device>,
    /// Names of the Container Device Interface.
    pub cdi_devices: Vec<String>,
    pub capabilities: Capabilities,
    pub namespaces: Namespaces,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    /// The user's name in the image, where the pod gives no number.
    pub run_as_username: String,
    pub seccomp: Profile,
    pub apparmor: Profile,
    pub selinux: Option<SelinuxLabel>,
    /// Paths that are hidden; those of `procMount: Default`, or none.
    pub masked_paths: Vec<String>,
    /// Paths that are read-only.
    pub readonly_paths: Vec<String>,
    /// `SIGTERM`, …; empty: the image's.
    pub stop_signal: String,
}

/// CRI's `LinuxContainerResources` beyond [`Resources`], where they change while a container runs; empty or 0: unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Page size (`2MB`) and bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// Bytes of memory and swap together.
    pub memory_swap_limit: i64,
    /// Files of cgroup v2 and what to write there.
    pub unified: BTreeMap<String, String>,
}

/// Which namespaces are shared with whom; the network is [`crate::SandboxConfig::host_network`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    pub pid: PidNamespace,
    /// The node's inter-process communication instead of the pod's.
    pub host_ipc: bool,
    /// A user namespace of the pod, where it is not the node's (KEP-127).
    pub user: Option<UserNamespace>,
}

/// Whose processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Its own.
    #[default]
    Container,
    /// The pod's (`shareProcessNamespace`).
    Pod,
    /// The node's.
    Node,
    /// Those of another container (an ephemeral container's target).
    Target(ContainerId),
}

/// A pod's user namespace: equal mappings for users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// The node's id of the namespace's 0.
    pub host_id: u32,
    pub length: u32,
}

/// How the image's groups and the pod's come together (KEP-3619).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// Both.
    #[default]
    Merge,
    /// The pod's alone.
    Strict,
}

/// A device of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// Of `rwm`.
    pub permissions: String,
}

/// Capabilities without their `CAP_`, or `ALL`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
    /// Also in the ambient set.
    pub add_ambient: Vec<String>,
}

/// A seccomp or AppArmor profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// None.
    #[default]
    Unconfined,
    RuntimeDefault,
    /// A file of the node for seccomp, a loaded profile's name for AppArmor.
    Localhost(String),
}

/// An SELinux label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxLabel {
    pub user: String,
    pub role: String,
    pub kind: String,
    pub level: String,
}
