//! What the clusters of one machine have claimed of it, so that two of them do not take the same addresses, ports or
//! users: one small file for each in a directory of the machine, gone after a reboot.
//!
//! A claim counts while its cluster runs or has left its pod network standing, and against clusters of the same network
//! namespace only. Users belong to the whole machine.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{datadir, machine, ports::PortRange};

/// The first of the users that sandbox hosts run as: far above those of people and services, and of the usual ranges for
/// user namespaces. Each cluster has a block of its own from here to 2^31.
const FIRST_USER: u32 = 0x7000_0000;
/// Users of one cluster.
const BLOCK: u32 = 0x1_0000;
/// Clusters that have room between the first user and 2^31.
const BLOCKS: u32 = (0x8000_0000 - FIRST_USER) / BLOCK;

/// What one cluster takes of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) data_dir: PathBuf,
    pub(crate) cluster_range: Ipv4Net,
    pub(crate) service_range: Ipv4Net,
    /// `None` where no Services are served on them.
    #[serde(default)]
    pub(crate) node_ports: Option<PortRange>,
    /// The network namespace it is in.
    netns: u64,
    /// The block of users, counted from [`FIRST_USER`].
    users: u32,
}

/// The ranges of a cluster that is about to start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    pub(crate) cluster_range: Ipv4Net,
    pub(crate) service_range: Ipv4Net,
    pub(crate) node_ports: Option<PortRange>,
}

impl Claim {
    /// The first user of the cluster's sandbox hosts.
    pub(crate) fn first_user(&self) -> u32 {
        FIRST_USER + self.users * BLOCK
    }

    /// Claims ranges and users for the cluster of a data directory, which this process holds.
    pub(crate) fn make(data_dir: &Path, ranges: Ranges) -> anyhow::Result<Self> {
        let directory = directory();
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let netns = fs::metadata("/proc/self/ns/net")
            .context("cannot see our network namespace")?
            .ino();
        let _one_at_a_time = lock(&directory)?;
        let others = others(&directory, data_dir)?;
        let claim = Self {
            data_dir: data_dir.to_owned(),
            cluster_range: ranges.cluster_range,
            service_range: ranges.service_range,
            node_ports: ranges.node_ports,
            netns,
            users: users(data_dir, &others)?,
        };
        let here = others
            .iter()
            .filter(|other| other.netns == netns && other.is_in_force());
        if let Some(clash) = here.filter_map(|other| claim.clash(other)).next() {
            bail!("{clash}");
        }
        let file = directory.join(file_name(data_dir));
        fs::write(&file, serde_json::to_vec(&claim)?).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(claim)
    }

    /// Gives up the claim of a cluster that is down. One that is gone already is fine.
    pub(crate) fn drop_of(data_dir: &Path) -> io::Result<()> {
        match fs::remove_file(directory().join(file_name(data_dir))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Why two clusters cannot be on one machine, and what to do.
    fn clash(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self, other.data_dir.display());
        let overlap = |a: Ipv4Net, b: Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
        let ranges = [
            (
                "the pod range",
                ours.cluster_range,
                "pods",
                other.cluster_range,
                "--cluster-cidr",
            ),
            (
                "the pod range",
                ours.cluster_range,
                "Services",
                other.service_range,
                "--cluster-cidr",
            ),
            (
                "the Service range",
                ours.service_range,
                "Services",
                other.service_range,
                "--service-cidr",
            ),
            (
                "the Service range",
                ours.service_range,
                "pods",
                other.cluster_range,
                "--service-cidr",
            ),
        ];
        let taken = ranges.into_iter().find(|(_, own, _, range, _)| overlap(*own, *range));
        if let Some((what, own, whose, range, flag)) = taken {
            return Some(format!(
                "{what} {own} overlaps {range}, where the cluster of {theirs} has its {whose}; end that one with \
                 'wherry down --data-dir {theirs}', or choose another with {flag}"
            ));
        }
        let (ports, taken) = (ours.node_ports?, other.node_ports?);
        ports.overlaps(taken).then(|| {
            format!(
                "the node ports {ports} overlap {taken} of the cluster of {theirs}; choose others with \
                 --service-node-port-range"
            )
        })
    }

    /// Whether its cluster runs, or its pods may.
    fn is_in_force(&self) -> bool {
        let link = agent::link_name(&machine::cluster_id(&self.data_dir));
        let runs = || datadir::holder(&self.data_dir).is_ok_and(|holder| holder.is_some());
        has_link(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default(), &link) || runs()
    }
}

/// Whether `/proc/net/dev` lists a link.
fn has_link(devices: &str, name: &str) -> bool {
    let mut names = devices.lines().filter_map(|line| line.split_once(':'));
    names.any(|(device, _)| device.trim() == name)
}

/// Of the machine, or of this user on it.
fn directory() -> PathBuf {
    let of_user = || match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path).join("wherry"),
        None => std::env::temp_dir().join(format!("wherry-{}", nix::unistd::geteuid())),
    };
    let base = match machine::makes_networks() {
        true => PathBuf::from("/run/wherry"),
        false => of_user(),
    };
    base.join("clusters")
}

fn file_name(data_dir: &Path) -> String {
    format!("{}.json", machine::cluster_id(data_dir))
}

fn lock(directory: &Path) -> anyhow::Result<Flock<File>> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| anyhow::anyhow!("cannot lock {}: {error}", path.display()))
}

/// The claims of all clusters but one; those whose data is gone are removed.
fn others(directory: &Path, data_dir: &Path) -> anyhow::Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let is_claim = path.extension().is_some_and(|extension| extension == "json");
        if !is_claim || path.ends_with(file_name(data_dir)) {
            continue;
        }
        match fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Claim>(&bytes).ok())
        {
            Some(claim) if claim.data_dir.exists() => claims.push(claim),
            _ => fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?,
        }
    }
    Ok(claims)
}

/// The block of users of a data directory, where it stands once and for all: files in it belong to them.
fn users(data_dir: &Path, others: &[Claim]) -> anyhow::Result<u32> {
    let path = data_dir.join("host-users");
    if let Some(users) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(users);
    }
    let wanted = u32::from_str_radix(&machine::cluster_id(data_dir), 16)? % BLOCKS;
    let free = free_block(wanted, others).context("no users are left for another cluster on this machine")?;
    fs::write(&path, format!("{free}\n"))
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))?;
    Ok(free)
}

fn free_block(wanted: u32, others: &[Claim]) -> Option<u32> {
    let mut blocks = (wanted..BLOCKS).chain(0..wanted);
    blocks.find(|block| others.iter().all(|other| other.users != *block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pods: &str, services: &str, ports: &str) -> Claim {
        Claim {
            data_dir: "/srv/one".into(),
            cluster_range: pods.parse().unwrap(),
            service_range: services.parse().unwrap(),
            node_ports: Some(ports.parse().unwrap()),
            netns: 1,
            users: 0,
        }
    }

    #[test]
    fn a_clash_names_the_flag_that_ends_it() {
        let theirs = claim("10.128.0.0/9", "10.96.0.0/16", "30000-32767");
        for (pods, services, ports, flag) in [
            ("10.128.0.0/9", "10.97.0.0/16", "20000-20099", "--cluster-cidr"),
            ("10.200.0.0/16", "10.97.0.0/16", "20000-20099", "--cluster-cidr"),
            ("10.0.0.0/8", "192.168.0.0/16", "20000-20099", "--cluster-cidr"),
            ("10.96.0.0/17", "192.168.0.0/16", "20000-20099", "--cluster-cidr"),
            ("172.16.0.0/16", "10.96.0.0/16", "20000-20099", "--service-cidr"),
            ("172.16.0.0/16", "10.140.0.0/16", "20000-20099", "--service-cidr"),
            (
                "172.16.0.0/16",
                "10.97.0.0/16",
                "32767-32800",
                "--service-node-port-range",
            ),
        ] {
            let said = claim(pods, services, ports).clash(&theirs).unwrap();
            assert!(said.contains("/srv/one") && said.ends_with(flag), "{said}");
            assert_eq!(said.lines().count(), 1);
        }
        assert_eq!(
            claim("172.16.0.0/16", "10.97.0.0/16", "20000-20099").clash(&theirs),
            None
        );
    }

    #[test]
    fn who_serves_no_node_ports_takes_none() {
        let theirs = claim("10.128.0.0/9", "10.96.0.0/16", "30000-32767");
        let ours = Claim {
            node_ports: None,
            ..claim("172.16.0.0/16", "10.97.0.0/16", "30000-32767")
        };
        assert_eq!((ours.clash(&theirs), theirs.clash(&ours)), (None, None));
    }

    #[test]
    fn a_link_is_found_by_its_whole_name() {
        let devices = "Inter-|   Receive\n face |bytes\n    lo: 0 0\nwh-0a1b2c3d: 12 0\n";
        assert!(has_link(devices, "wh-0a1b2c3d") && has_link(devices, "lo"));
        assert!(!has_link(devices, "wh-0a1b2c3"));
    }

    #[test]
    fn users_are_those_wanted_or_the_next_that_are_free() {
        let taken = |users: u32| Claim {
            users,
            ..claim("10.128.0.0/9", "10.96.0.0/16", "30000-32767")
        };
        assert_eq!(free_block(7, &[taken(6)]), Some(7));
        assert_eq!(free_block(7, &[taken(7), taken(8)]), Some(9));
        assert_eq!(free_block(BLOCKS - 1, &[taken(BLOCKS - 1)]), Some(0));
        let all: Vec<_> = (0..BLOCKS).map(taken).collect();
        assert_eq!(free_block(7, &all), None);
    }

    #[test]
    fn a_data_directory_keeps_its_users() {
        let data = tempfile::tempdir().unwrap();
        let first = users(data.path(), &[]).unwrap();
        let other = Claim {
            users: first,
            ..claim("10.128.0.0/9", "10.96.0.0/16", "30000-32767")
        };
        assert_eq!(users(data.path(), &[other]).unwrap(), first);
    }
}
