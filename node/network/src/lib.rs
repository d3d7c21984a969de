//! The pod network of a node: one network namespace for all dense Wasm pods, joined to the node by one veth pair.
//!
//! Inside, the Wasm half of the node's pod range is local as a whole (AnyIP: `local RANGE dev lo`), so a pod's address
//! costs nothing: no namespace, no interface, no neighbour entry. The node routes the range *via* the other end of the
//! pair, never on-link, since on-link every pod would be a neighbour, and their table overflows at 1,024.
//!
//! [`ensure`] is idempotent: it adopts what exists, mends what is half made, and is run at every start of the agent. The
//! namespace outlives the agent, as the sandbox hosts in it do; [`remove`] is for the end of the cluster. This crate makes
//! routes by netlink; of other programs it runs only `nft`. It knows nothing of pods or Services.

mod cni;
mod links;
mod masquerade;
mod namespace;
mod sysctl;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;

pub use cni::{Conflist, conflist, name as container_network_name};
pub use namespace::in_netns;

/// What went wrong, and while doing what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A range is too small to be halved, or has no room for the node's own address.
    #[error("the node's pod range {range} is too small; it must hold at least a /28")]
    Range { range: Ipv4Net },
    /// The shared namespace could not be made or entered.
    #[error("cannot {doing} the pods' network namespace {}", path.display())]
    Namespace {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// The kernel refused a link, address, neighbour or route.
    #[error("cannot set up {what}: {reason}")]
    Netlink { what: String, reason: String },
    /// A kernel setting could not be written.
    #[error("cannot write {value} to {path}")]
    Sysctl {
        path: &'static str,
        value: &'static str,
        source: std::io::Error,
    },
    /// `nft` could not be run, or refused the rules.
    #[error("cannot load packet filter rules: {reason}")]
    Rules { reason: String },
}

/// The ranges of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Tells clusters of one machine apart: names of links, tables and the namespace carry it. At most 8 of `[a-z0-9]`.
    pub cluster_id: String,
    /// This node's pods.
    pub pod_range: Ipv4Net,
    /// All nodes' pods.
    pub cluster_range: Ipv4Net,
    /// Addresses of Services.
    pub service_range: Ipv4Net,
}

/// A pod network that is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The shared namespace, as a path that `setns` takes.
    pub netns_path: PathBuf,
    /// The node's own address on the pod network: the source of probes, and where pods reach the node.
    pub gateway: Ipv4Addr,
    /// Where Wasm pods take their addresses from; the first of them is the gateway's.
    pub wasm_range: Ipv4Net,
}

/// Makes or mends the pod network.
pub async fn ensure(config: &Config) -> Result<Network, Error> {
    let network = Network {
        netns_path: netns_path(&config.cluster_id),
        gateway: gateway(config.pod_range),
        wasm_range: wasm_range(config.pod_range)?,
    };
    namespace::ensure(&network.netns_path)?;
    links::ensure(config, &network).await?;
    sysctl::ensure(&network.netns_path)?;
    masquerade::ensure(config).await?;
    Ok(network)
}

/// Removes what [`ensure`] made, and every packet filter table of the cluster.
pub async fn remove(cluster_id: &str) -> Result<(), Error> {
    links::remove(cluster_id).await?;
    namespace::remove(&netns_path(cluster_id))?;
    masquerade::remove(cluster_id).await
}

/// Where the shared namespace of a cluster is found, also before it is made.
pub fn netns_path(cluster_id: &str) -> PathBuf {
    Path::new("/run/wherry").join(cluster_id).join("pods")
}

/// The node's end of the link to the pods' namespace of a cluster.
pub fn link_name(cluster_id: &str) -> String {
    format!("wh-{cluster_id}")
}

/// The node's own address: the first of its pod range.
pub fn gateway(pod_range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(pod_range.network()).saturating_add(1))
}

/// The lower half of a node's pod range, for Wasm pods.
pub fn wasm_range(pod_range: Ipv4Net) -> Result<Ipv4Net, Error> {
    half(pod_range, 0)
}

/// The upper half, for pods of containers.
pub fn container_range(pod_range: Ipv4Net) -> Result<Ipv4Net, Error> {
    half(pod_range, 1)
}

fn half(pod_range: Ipv4Net, nth: usize) -> Result<Ipv4Net, Error> {
    let too_small = Error::Range { range: pod_range };
    if pod_range.prefix_len() > 28 {
        return Err(too_small);
    }
    pod_range
        .subnets(pod_range.prefix_len() + 1)
        .ok()
        .and_then(|mut halves| halves.nth(nth))
        .ok_or(too_small)
}

/// Name of the cluster's packet filter tables; the proxy's begins with it as well.
fn table_prefix(cluster_id: &str) -> String {
    format!("wherry-{cluster_id}")
}

#[cfg(test)]
mod tests;
