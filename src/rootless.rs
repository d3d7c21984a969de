//! What differs without privileges: pods and Services live on loopback addresses, since all of 127.0.0.0/8 is local on
//! Linux, and some things are off, which the Node says.

use std::{net::Ipv4Addr, path::Path};

use anyhow::bail;
use ipnet::Ipv4Net;

use crate::machine;

/// The port of name servers.
const DNS_PORT: u16 = 53;
/// Where 127.0.0.1 and what else runs on a machine are: the first sixteenth of 127.0.0.0/8.
const OF_OTHERS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 12);
/// Whether a range is one of loopback addresses is asked of this.
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// The pod range if nobody says otherwise.
pub(crate) fn default_cluster_range() -> Ipv4Net {
    match machine::makes_networks() {
        true => Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9),
        false => Ipv4Net::new_assert(Ipv4Addr::new(127, 32, 0, 0), 12),
    }
}

/// The Service range if nobody says otherwise.
pub(crate) fn default_service_range() -> Ipv4Net {
    match machine::makes_networks() {
        true => Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
        false => Ipv4Net::new_assert(Ipv4Addr::new(127, 96, 0, 0), 16),
    }
}

/// Refuses ranges that cannot work with the privileges there are.
pub(crate) fn check_ranges(pods: Ipv4Net, services: Ipv4Net) -> anyhow::Result<()> {
    let ranges = [("--cluster-cidr", pods), ("--service-cidr", services)];
    check(ranges, machine::makes_networks())
}

fn check(ranges: [(&str, Ipv4Net); 2], makes_networks: bool) -> anyhow::Result<()> {
    for (flag, range) in ranges {
        if makes_networks && (LOOPBACK.contains(&range) || range.contains(&LOOPBACK)) {
            bail!("{range} are loopback addresses, for clusters without root; choose others with {flag}");
        }
        if !makes_networks && (!LOOPBACK.contains(&range) || overlap(&range, &OF_OTHERS)) {
            bail!(
                "{range} cannot be used without root: pods and Services are on loopback addresses then; choose a range \
                 between 127.16.0.0 and 127.255.255.255 with {flag}, or leave it out"
            );
        }
    }
    let [(_, pods), (flag, services)] = ranges;
    if overlap(&pods, &services) {
        bail!("the pod range {pods} overlaps the Service range {services}; choose another with {flag}");
    }
    Ok(())
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// What the cluster of a data directory keeps other clusters of this machine from, those of other users too.
pub(crate) fn addresses(data_dir: &Path, pods: Ipv4Net, services: Ipv4Net) -> Option<agent::Claim> {
    (!machine::makes_networks()).then(|| agent::Claim {
        cluster_id: machine::cluster_id(data_dir),
        pods,
        services,
    })
}

/// What the Node says is off.
pub(crate) fn limitation(pods: Ipv4Net) -> Option<agent::Limitation> {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let start = start.ok().and_then(|text| text.trim().parse().ok());
    (!machine::makes_networks()).then(|| agent::Limitation {
        condition: agent::ROOTLESS,
        reason: "Rootless",
        message: message(pods, start.unwrap_or(1024)),
    })
}

fn message(pods: Ipv4Net, first_port: u16) -> String {
    let ports = match first_port {
        0 | 1 => String::new(),
        2..=DNS_PORT => {
            format!("; Services on ports below {first_port} are not listened for (net.ipv4.ip_unprivileged_port_start)")
        }
        _ => format!(
            "; Services on ports below {first_port} are not listened for (net.ipv4.ip_unprivileged_port_start), cluster DNS \
             on port 53 neither: it answers guests' lookups all the same, and others on port {} of the node's first pod \
             address",
            agent::DNS_PORT
        ),
    };
    format!(
        "wherry runs without root: containers of OCI images are off; pods have loopback addresses ({pods}), which every \
         user of this machine can reach{ports}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_fit_the_privileges() {
        for (pods, services, makes_networks, flag) in [
            ("10.128.0.0/9", "10.96.0.0/16", true, None),
            ("127.32.0.0/12", "127.96.0.0/16", false, None),
            ("127.32.0.0/12", "10.96.0.0/16", true, Some("--cluster-cidr")),
            ("10.128.0.0/9", "127.96.0.0/16", true, Some("--service-cidr")),
            ("10.128.0.0/9", "127.96.0.0/16", false, Some("--cluster-cidr")),
            ("127.0.0.0/12", "127.96.0.0/16", false, Some("--cluster-cidr")),
            ("127.32.0.0/12", "127.0.0.0/16", false, Some("--service-cidr")),
            ("127.32.0.0/12", "127.40.0.0/16", false, Some("--service-cidr")),
            ("10.96.0.0/12", "10.96.0.0/16", true, Some("--service-cidr")),
        ] {
            let ranges = [
                ("--cluster-cidr", pods.parse().unwrap()),
                ("--service-cidr", services.parse().unwrap()),
            ];
            match (check(ranges, makes_networks), flag) {
                (Ok(()), None) => {}
                (Err(error), Some(flag)) => {
                    let said = error.to_string();
                    assert!(said.contains(flag) && said.lines().count() == 1, "{said}");
                }
                (checked, flag) => panic!("{pods} {services} {makes_networks}: {checked:?}, {flag:?}"),
            }
        }
    }

    #[test]
    fn says_what_is_off() {
        let pods = "127.32.0.0/12".parse().unwrap();
        let said = message(pods, 1024);
        assert!(
            said.contains("OCI") && said.contains("below 1024") && said.contains("127.32.0.0/12"),
            "{said}"
        );
        assert!(said.contains("cluster DNS on port 53 neither"), "{said}");
        assert!(!message(pods, 53).contains("DNS"));
        assert!(!message(pods, 0).contains("ports"));
    }
}
