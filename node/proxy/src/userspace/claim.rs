//! Which cluster of this machine uses which loopback addresses.
//!
//! Without root nothing keeps two clusters from the same addresses but knowing of each other. Each binds a socket in the
//! abstract namespace whose name says what it uses; the kernel lists them for everybody (`/proc/net/unix`) and removes
//! them with their process. Both the agent and the process that holds listeners bind one, so that the claim stays while
//! either lives.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use ipnet::Ipv4Net;

const PREFIX: &str = "wherry-addresses/";

/// What a cluster uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Tells clusters of one machine apart; a few letters and digits.
    pub cluster_id: String,
    pub pods: Ipv4Net,
    pub services: Ipv4Net,
}

/// A claim that is held until this is dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is there to be open")] UnixDatagram);

/// The addresses cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another cluster has them.
    #[error(
        "another cluster on this machine uses {}; choose other ranges with {}",
        of.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(" and "),
        flags(.of, .instead)
    )]
    Used {
        /// The ranges of the other cluster that overlap.
        of: Vec<Ipv4Net>,
        /// Ranges for pods and for Services that nobody uses.
        instead: (Option<Ipv4Net>, Option<Ipv4Net>),
    },
    /// The kernel's list cannot be read, or a socket not be bound.
    #[error("cannot claim addresses on this machine")]
    Io(#[from] io::Error),
}

fn flags(_of: &[Ipv4Net], (pods, services): &(Option<Ipv4Net>, Option<Ipv4Net>)) -> String {
    let flag = |name: &str, range: &Option<Ipv4Net>| match range {
        Some(range) => format!("--{name} {range}"),
        None => format!("--{name}"),
    };
    format!("{} {}", flag("cluster-cidr", pods), flag("service-cidr", services))
}

impl fmt::Display for Claim {
    /// As the socket is called, but for the last part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}/{}", self.cluster_id, self.pods, self.services)
    }
}

impl Claim {
    /// Takes the addresses, unless another cluster uses one of them.
    pub fn hold(&self) -> Result<Held, ClaimError> {
        // First, so that of two that begin together at least one sees the other.
        let held = bind(&format!("{self}/{}", std::process::id()))?;
        let others = others(&std::fs::read_to_string("/proc/net/unix")?, &self.cluster_id);
        let used = used(self, &others);
        if used.is_empty() {
            return Ok(Held(held));
        }
        let taken: Vec<Ipv4Net> = others.iter().flat_map(|other| [other.pods, other.services]).collect();
        let pods = free(self.pods, &taken);
        let services = free(self.services, &[&taken[..], pods.as_slice()].concat());
        Err(ClaimError::Used {
            of: used,
            instead: (pods, services),
        })
    }
}

/// Binds a socket in the abstract namespace.
pub(super) fn bind(name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The claims of other clusters in the kernel's list.
fn others(list: &str, own_id: &str) -> Vec<Claim> {
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7)?.strip_prefix('@'));
    let mut claims: Vec<Claim> = names
        .filter_map(parse)
        .filter(|claim| claim.cluster_id != own_id)
        .collect();
    claims.dedup();
    claims
}

/// `wherry-addresses/ID/PODS/BITS/SERVICES/BITS/PID`.
fn parse(name: &str) -> Option<Claim> {
    let parts: Vec<&str> = name.strip_prefix(PREFIX)?.split('/').collect();
    let [id, pods, pod_bits, services, service_bits, _] = parts[..] else {
        return None;
    };
    Some(Claim {
        cluster_id: id.to_owned(),
        pods: format!("{pods}/{pod_bits}").parse().ok()?,
        services: format!("{services}/{service_bits}").parse().ok()?,
    })
}

/// The ranges of others that overlap with ours.
fn used(own: &Claim, others: &[Claim]) -> Vec<Ipv4Net> {
    let theirs = others.iter().flat_map(|other| [other.pods, other.services]);
    let mut used: Vec<Ipv4Net> = theirs
        .filter(|range| overlap(range, &own.pods) || overlap(range, &own.services))
        .collect();
    used.sort();
    used.dedup();
    used
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// The next range of the size of `like`, after it and around, that overlaps with none of `taken`. The first sixteenth of
/// 127.0.0.0/8 is left to others.
fn free(like: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let all = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
    let first = Ipv4Net::new_assert([127, 0, 0, 0].into(), 12);
    let fits = |range: &Ipv4Net| !overlap(range, &first) && !taken.iter().any(|taken| overlap(range, taken));
    let ranges = || all.subnets(like.prefix_len()).ok().into_iter().flatten();
    ranges()
        .skip_while(|range| range.network() < like.network())
        .chain(ranges().take_while(|range| range.network() < like.network()))
        .find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, pods: &str, services: &str) -> Claim {
        Claim {
            cluster_id: id.into(),
            pods: pods.parse().unwrap(),
            services: services.parse().unwrap(),
        }
    }

    #[test]
    fn claims_of_others_are_read_off_the_kernels_list() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 9661 @wherry-addresses/a/127.32.0.0/12/127.96.0.0/16/77\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 9662 @wherry-addresses/b/127.48.0.0/12/127.97.0.0/16/78\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 9663 @wherry-addresses/c/nonsense\n\
            0000000000000000: 00000002 00000000 00000000 0001 01 9664 /run/socket\n\
            0000000000000000: 00000002 00000000 00000000 0001 01 9665\n";
        assert_eq!(others(list, "a"), [claim("b", "127.48.0.0/12", "127.97.0.0/16")]);
    }

    #[test]
    fn ranges_that_overlap_are_used() {
        let own = claim("a", "127.32.0.0/12", "127.96.0.0/16");
        for (pods, services, used_ranges) in [
            ("127.48.0.0/12", "127.97.0.0/16", vec![]),
            ("127.47.0.0/16", "127.97.0.0/16", vec!["127.47.0.0/16"]),
            ("127.96.0.0/11", "127.16.0.0/16", vec!["127.96.0.0/11"]),
            ("127.32.0.0/12", "127.96.0.0/16", vec!["127.32.0.0/12", "127.96.0.0/16"]),
        ] {
            let found = used(&own, &[claim("b", pods, services)]);
            assert_eq!(found.iter().map(Ipv4Net::to_string).collect::<Vec<_>>(), used_ranges);
        }
    }

    #[test]
    fn a_second_cluster_is_told_what_to_change() {
        let first = claim("first", "127.240.0.0/16", "127.241.0.0/16");
        let held = first.hold().unwrap();
        let second = claim("second", "127.240.0.0/16", "127.241.0.0/16");
        let error = second.hold().unwrap_err().to_string();
        assert_eq!(
            error,
            "another cluster on this machine uses 127.240.0.0/16 and 127.241.0.0/16; choose other ranges with \
             --cluster-cidr 127.242.0.0/16 --service-cidr 127.243.0.0/16"
        );
        drop(held);
        second.hold().unwrap();
    }
}
