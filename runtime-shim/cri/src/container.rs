//! Containers: configuration and state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{LinuxContainer, SandboxId, UserNamespace};

/// Identifies a container on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

/// What the ids of containerd's containers begin with on this node.
pub const CONTAINERD_IDS: &str = "containerd-";

impl ContainerId {
    /// The id as containerd knows it, if the container is one of containerd's.
    pub fn of_containerd(&self) -> Option<&str> {
        self.0.strip_prefix(CONTAINERD_IDS)
    }
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// CRI's `ContainerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container's name in the pod.
    pub name: String,
    /// How often the container was made before in this pod.
    pub attempt: u32,
    /// The reference the pod names.
    pub image: String,
    /// The id that the reference was resolved to.
    pub image_id: String,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    pub working_dir: String,
    /// Name and value, in order.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    /// The ports the container declares, in the pod's order.
    pub ports: Vec<ContainerPort>,
    /// Relative to the sandbox's log directory.
    pub log_path: String,
    pub resources: Resources,
    pub security: SecurityContext,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    /// What only a Linux container has; the Wasm runtime looks at none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Box<LinuxContainer>>,
}

/// A port a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub port: u16,
}

/// A directory or file of the node that the container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Empty where `image` is mounted.
    pub host_path: String,
    pub container_path: String,
    pub readonly: bool,
    /// Read-only also in what is mounted below (KEP-3857).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recursive_readonly: bool,
    #[serde(skip_serializing_if = "Propagation::is_private")]
    pub propagation: Propagation,
    /// The node relabels the content for the container (SELinux).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub selinux_relabel: bool,
    /// Owners are shown through this user namespace (an id-mapped mount, KEP-127).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_mapping: Option<UserNamespace>,
    /// The content of an image instead of a path of the node (KEP-4639).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<ImageMount>>,
}

/// CRI's `MountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither side sees what the other mounts later.
    #[default]
    Private,
    /// The container sees what the node mounts below.
    HostToContainer,
    /// Each sees what the other mounts below.
    Bidirectional,
}

impl Propagation {
    /// Whether nothing is propagated.
    pub fn is_private(&self) -> bool {
        matches!(self, Self::Private)
    }
}

/// An image whose files a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// The reference the pod names.
    pub image: String,
    /// The id that the reference was resolved to.
    pub image_id: String,
    /// A directory in the image; empty: its root.
    pub sub_path: String,
}

/// CRI's `LinuxContainerResources`; 0 means unlimited or unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight, from the CPU request: `milli * 1024 / 1000`, at least 2.
    pub cpu_shares: u64,
    /// Microseconds per `cpu_period`.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Bytes.
    pub memory_limit: i64,
}

/// Of CRI's `LinuxContainerSecurityContext`, what both runtimes honour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub readonly_rootfs: bool,
    pub privileged: bool,
    pub no_new_privs: bool,
}

/// Where a container is in its life; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// The runtime lost it: its host is gone and left no record of an exit.
    Unknown,
}

/// A container as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    /// The UID of its pod.
    pub pod_uid: String,
    /// What it was made from.
    pub config: ContainerConfig,
    pub state: ContainerState,
    /// Nanoseconds since the epoch; 0: not yet.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    /// CamelCase: `Completed`, `Error`, `OOMKilled`, `Trap`, ….
    pub reason: String,
    /// For people: the trap's text, the limit that was hit.
    pub message: String,
    /// The absolute path of the log.
    pub log_path: String,
    /// Who its program was started as, where the runtime tells (KEP-3619).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<ContainerUser>>,
}

/// CRI's `LinuxContainerUser`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    pub uid: i64,
    pub gid: i64,
    pub supplemental_groups: Vec<i64>,
}
