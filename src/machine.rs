//! What a cluster is called and allowed on this machine: names, ranges, users, our own program.

use std::{ffi::OsString, path::Path, time::Duration};

use anyhow::Context;
use ipnet::Ipv4Net;

/// The first of the users that sandbox hosts run as: far above those of people and services, and of the usual ranges for
/// user namespaces.
const HOST_USERS: u32 = 1_879_048_192;

/// How long a sandbox host without pods is kept, so that the next pod of its tenant starts at once.
const HOST_IDLE: Duration = Duration::from_secs(60);

/// This machine's name, as a Node may be called: lower case.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The pod range of the first node.
pub(crate) fn first_subnet(cluster: Ipv4Net, prefix: u8) -> anyhow::Result<Ipv4Net> {
    let mut subnets = cluster
        .subnets(prefix)
        .with_context(|| format!("the pod range {cluster} is too small; give --cluster-cidr at least a /{prefix}"))?;
    subnets
        .next()
        .with_context(|| format!("the pod range {cluster} is empty"))
}

/// Tells the clusters of one machine apart: eight letters that follow from the data directory (FNV-1a, so that a name of
/// a link never changes with a library).
pub(crate) fn cluster_id(data_dir: &Path) -> String {
    let hash = data_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("{:08x}", hash >> 32)
}

/// Names and ranges of the pod network; `None` without root.
pub(crate) fn network(data_dir: &Path, cluster_range: Ipv4Net, service_range: Ipv4Net) -> Option<agent::PodNetwork> {
    is_root().then(|| agent::PodNetwork {
        cluster_id: cluster_id(data_dir),
        cluster_range,
        service_range,
        node_port_loopback: true,
    })
}

/// How this machine's Wasm runtime is set up.
pub(crate) fn runtime(data_dir: &Path) -> anyhow::Result<wasm::Config> {
    let own = std::env::current_exe().context("cannot find our own program")?;
    let command = |word: &str| -> Vec<OsString> { vec![own.clone().into(), word.into()] };
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    let id = cluster_id(data_dir);
    Ok(wasm::Config {
        data_dir: data_dir.to_owned(),
        pod_range: None,
        netns: is_root().then(|| agent::netns_path(&id)),
        dialable_loopback: Vec::new(),
        host_command: command("sandbox-host"),
        compile_command: command("compile"),
        host_uid_base: is_root().then_some(HOST_USERS),
        cgroup_parent: is_root().then(|| format!("wherry-{id}")),
        boot_id: boot_id.trim().to_owned(),
        host_idle: HOST_IDLE,
    })
}

/// Whether we may make network namespaces and change users.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_told_apart_by_their_directory_and_by_nothing_else() {
        let id = cluster_id(Path::new("/var/lib/wherry"));
        assert_eq!(id, cluster_id(Path::new("/var/lib/wherry")));
        assert_ne!(id, cluster_id(Path::new("/var/lib/wherry2")));
        assert!(id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }

    #[test]
    fn the_first_node_gets_the_beginning_of_the_range() {
        let first = first_subnet("10.128.0.0/9".parse().unwrap(), 17).unwrap();
        assert_eq!(first, "10.128.0.0/17".parse().unwrap());
        assert!(first_subnet("10.128.0.0/20".parse().unwrap(), 17).is_err());
    }
}
