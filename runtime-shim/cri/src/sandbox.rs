//! Sandboxes: what the containers of one pod share.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::LinuxSandbox;

/// Identifies a sandbox on this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SandboxId(pub String);

impl std::fmt::Display for SandboxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// CRI's `PodSandboxConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace; also the tenant whose sandbox host it shares.
    pub namespace: String,
    /// The pod's UID.
    pub uid: String,
    /// Counts the sandboxes of one pod from 0.
    pub attempt: u32,
    /// The pod's host name.
    pub hostname: String,
    /// Directory below which `ContainerConfig::log_path` lies.
    pub log_directory: String,
    /// The pod uses the node's network namespace.
    pub host_network: bool,
    /// Name servers and search path of the pod.
    pub dns: DnsConfig,
    /// Where each declared port is served.
    pub ports: Vec<PortMapping>,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// What only a sandbox of Linux containers has; the Wasm runtime looks at none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Box<LinuxSandbox>>,
    /// The sandbox lives in the network of another runtime's sandbox, whose pod it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Box<Join>>,
}

/// The sandbox of another runtime that a pod's further containers join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Whose network it is.
    pub sandbox: SandboxId,
    /// The network namespace to be in; `None`: the node's.
    pub network_namespace: Option<PathBuf>,
    /// The pod's addresses there, primary first.
    pub ips: Vec<IpAddr>,
}

/// CRI's `DNSConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Addresses, as resolv.conf(5) has them; for a pod without containers of OCI images also `IP:PORT`.
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// CRI's `PortMapping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub container_port: u16,
    /// 0: not mapped.
    pub host_port: u16,
    pub host_ip: String,
}

/// A sandbox that answers at ports of the node by somebody else's doing: its runtime has no network plugin that leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Where the pod answers.
    pub ip: IpAddr,
    /// Those with a port of the node, one or more.
    pub ports: Vec<PortMapping>,
}

/// Whether a sandbox can hold running containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    Ready,
    NotReady,
}

/// A sandbox as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: SandboxId,
    /// What it was made from.
    pub config: SandboxConfig,
    pub state: SandboxState,
    /// The pod's addresses, primary first; empty with the host's network.
    pub ips: Vec<IpAddr>,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The handler it was made with; empty: the default.
    pub handler: String,
    /// Its network namespace, where it has one of its own that others may join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_namespace: Option<PathBuf>,
}
