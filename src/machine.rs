//! What a cluster is called and allowed on this machine: names, ranges, users, our own program.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use ipnet::Ipv4Net;

/// The numbers of capabilities (`linux/capability.h`).
const CAP_CHOWN: u8 = 0;
const CAP_SETGID: u8 = 6;
const CAP_SETUID: u8 = 7;
const CAP_NET_ADMIN: u8 = 12;
const CAP_SYS_ADMIN: u8 = 21;

/// The users of processes that listen for Services and answer for names: below those of sandbox hosts.
const SERVICE_PROXY_USER: u32 = 0x6fff_ffff;
const CLUSTER_DNS_USER: u32 = 0x6fff_fffe;

/// Where the machine's resolver configuration is; and the one with the name servers behind it, where systemd-resolved puts
/// itself in front of them, at an address that pods cannot reach.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

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

/// Where the name of the kubelet's directory is kept, for as long as volumes may be there.
const KUBELET_DIR: &str = "kubelet-dir";

/// Where storage drivers find the kubelet: as the command line says, as it said before, or the data directory.
pub(crate) fn drivers_dir(data_dir: &Path, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let file = data_dir.join(KUBELET_DIR);
    if let Some(given) = given {
        let path = std::path::absolute(given).context("--kubelet-dir is no path")?;
        std::fs::write(&file, format!("{}\n", path.display())).context("cannot remember --kubelet-dir")?;
        return Ok(path);
    }
    match std::fs::read_to_string(&file) {
        Ok(known) if !known.trim_end().is_empty() => Ok(known.trim_end().into()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot read where the kubelet's directory is")
        }
        _ => Ok(data_dir.to_owned()),
    }
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

/// Names and ranges of the pod network; `None` where we may not make one.
pub(crate) fn network(data_dir: &Path, cluster_range: Ipv4Net, service_range: Ipv4Net) -> Option<agent::PodNetwork> {
    makes_networks().then(|| agent::PodNetwork {
        cluster_id: cluster_id(data_dir),
        cluster_range,
        service_range,
    })
}

/// The processes that listen for Services; `claim` is what they keep other clusters from.
pub(crate) fn service_proxy(data_dir: &Path, claim: Option<agent::Claim>) -> agent::ServiceProxy {
    agent::ServiceProxy {
        directory: service_proxies(data_dir),
        command: command("service-proxy"),
        user: changes_users().then_some(SERVICE_PROXY_USER),
        version: wasm::version().to_owned(),
        claim,
    }
}

/// Where these processes are kept.
pub(crate) fn service_proxies(data_dir: &Path) -> PathBuf {
    data_dir.join("service-proxy")
}

/// Who answers for names on this machine; the cluster's name service is in the Service range.
pub(crate) fn dns(data_dir: &Path, service_range: Ipv4Net, resolv_conf: Option<PathBuf>) -> agent::Dns {
    agent::Dns {
        server: agent::dns_address(service_range),
        domain: "cluster.local".to_owned(),
        resolv_conf: resolv_conf.unwrap_or_else(usual_resolv_conf),
        process: agent::ClusterDns {
            directory: cluster_dns(data_dir),
            command: command("cluster-dns"),
            user: changes_users().then_some(CLUSTER_DNS_USER),
            version: wasm::version().to_owned(),
        },
    }
}

/// Where the processes that answer for names are kept.
pub(crate) fn cluster_dns(data_dir: &Path) -> PathBuf {
    data_dir.join("cluster-dns")
}

fn usual_resolv_conf() -> PathBuf {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let behind = Path::new(RESOLVED_CONF);
    match is_stub(&text) && behind.exists() {
        true => behind.to_owned(),
        false => RESOLV_CONF.into(),
    }
}

/// Whether the only name server is that of systemd-resolved.
fn is_stub(resolv_conf: &str) -> bool {
    let mut servers = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim);
    servers.next() == Some("127.0.0.53") && servers.next().is_none()
}

/// Our own program, also after its file was replaced, as one of its inner commands.
pub(crate) fn command(word: &str) -> Vec<OsString> {
    vec!["/proc/self/exe".into(), word.into()]
}

/// How this machine's Wasm runtime is set up; `users` is the first user of sandbox hosts, where they have users of their
/// own, and `services` the Service range, if pods are to run.
pub(crate) fn runtime(data_dir: &Path, users: Option<u32>, services: Option<Ipv4Net>) -> anyhow::Result<wasm::Config> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    let id = cluster_id(data_dir);
    Ok(wasm::Config {
        data_dir: data_dir.to_owned(),
        pod_range: None,
        netns: makes_networks().then(|| agent::netns_path(&id)),
        dialable_loopback: services
            .filter(|range| range.network().is_loopback())
            .into_iter()
            .collect(),
        host_command: command("sandbox-host"),
        compile_command: command("compile"),
        host_uid_base: users,
        cgroup_parent: makes_networks().then(|| format!("wherry-{id}")),
        boot_id: boot_id.trim().to_owned(),
        host_idle: HOST_IDLE,
    })
}

/// Whether we run as root, and so have the machine's directories.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether we may make network namespaces with links and rules: root in a container often may not.
pub(crate) fn makes_networks() -> bool {
    is_root() && has_capabilities(&[CAP_NET_ADMIN, CAP_SYS_ADMIN])
}

/// Whether we may start processes as other users, and give them files.
pub(crate) fn changes_users() -> bool {
    is_root() && has_capabilities(&[CAP_CHOWN, CAP_SETGID, CAP_SETUID])
}

fn has_capabilities(wanted: &[u8]) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = effective_capabilities(&status).unwrap_or_default();
    wanted.iter().all(|capability| effective >> capability & 1 == 1)
}

/// The bits of `CapEff` in a `/proc/PID/status`.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
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
    fn capabilities_are_read_off_the_kernels_words() {
        let status = "Name:\twherry\nCapPrm:\t000001ffffffffff\nCapEff:\t00000000a80425fb\n";
        let effective = effective_capabilities(status).unwrap();
        let has = |capability: u8| effective >> capability & 1 == 1;
        assert!(has(CAP_CHOWN) && has(CAP_SETUID) && !has(CAP_NET_ADMIN) && !has(CAP_SYS_ADMIN));
        assert_eq!(effective_capabilities("Name: x\n"), None);
    }

    #[test]
    fn the_stub_of_systemd_is_recognised() {
        assert!(is_stub(
            "# by systemd\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
        ));
        assert!(!is_stub("nameserver 127.0.0.53\nnameserver 192.0.2.1\n"));
        assert!(!is_stub("nameserver 192.0.2.1\n") && !is_stub(""));
    }

    #[test]
    fn the_first_node_gets_the_beginning_of_the_range() {
        let first = first_subnet("10.128.0.0/9".parse().unwrap(), 17).unwrap();
        assert_eq!(first, "10.128.0.0/17".parse().unwrap());
        assert!(first_subnet("10.128.0.0/20".parse().unwrap(), 17).is_err());
    }
}
