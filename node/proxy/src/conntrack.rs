//! Flows of datagrams that lead where their Service no longer does.
//!
//! The kernel translates a flow as it did its first packet, for as long as it keeps going: a client that goes on sending
//! from one socket would never reach another endpoint, nor be refused. So after endpoints have changed, the flows that
//! lead astray are forgotten, and the next datagram meets the rules. TCP needs none of this: its endpoints say so
//! themselves. As kube-proxy does, for UDP.

mod netlink;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::model::{Model, Policy, Protocol};
use netlink::Conntrack;

/// The addresses of UDP Services, with where each may lead.
pub(crate) type Leads = BTreeMap<SocketAddr, BTreeSet<SocketAddr>>;

/// What the model says about the Services' addresses, and about the node ports on `node_ips`.
pub(crate) fn leads(model: &Model, node_ips: &[IpAddr]) -> Leads {
    let mut leads = Leads::new();
    for port in model.values().filter(|port| port.id.protocol == Protocol::Udp) {
        let own = port
            .cluster_ips
            .iter()
            .chain(&port.external_ips)
            .map(|ip| SocketAddr::new(*ip, port.port));
        let nodes = node_ips
            .iter()
            .filter_map(|ip| Some(SocketAddr::new(*ip, port.node_port?)));
        for address in own.chain(nodes) {
            let to = leads.entry(address).or_default();
            for policy in [Policy::Cluster, Policy::Local] {
                to.extend(port.endpoints(policy, address.is_ipv6()));
            }
        }
    }
    leads
}

/// What to hold flows against after `before` has become `now`: addresses that are no Service's any more lead nowhere.
pub(crate) fn changed(before: &Leads, now: &Leads) -> Leads {
    let gone = before
        .keys()
        .filter(|address| !now.contains_key(address))
        .map(|address| (*address, BTreeSet::new()));
    let differ = now.iter().filter(|(address, to)| before.get(address) != Some(to));
    gone.chain(differ.map(|(address, to)| (*address, to.clone()))).collect()
}

/// One flow as the kernel tracks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where its first packet was sent.
    destination: SocketAddr,
    /// Where the answers come from: the endpoint that was chosen.
    endpoint: SocketAddr,
    /// What identifies it to the kernel, as the kernel says it.
    identity: Vec<u8>,
}

fn is_astray(flow: &Flow, leads: &Leads) -> bool {
    leads
        .get(&flow.destination)
        .is_some_and(|endpoints| !endpoints.contains(&flow.endpoint))
}

/// Forgets the flows in a namespace that lead elsewhere than `leads` says, and returns how many there were. Blocks.
pub(crate) fn forget_astray(namespace: Option<PathBuf>, leads: &Leads) -> io::Result<usize> {
    // Entering a namespace is for a thread of its own, which ends here.
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            let mut conntrack = Conntrack::open(namespace.as_deref())?;
            let mut forgotten = 0;
            for is_v6 in [false, true] {
                if leads.keys().any(|address| address.is_ipv6() == is_v6) {
                    let astray = conntrack
                        .datagrams(is_v6)?
                        .into_iter()
                        .filter(|flow| is_astray(flow, leads));
                    for flow in astray.collect::<Vec<_>>() {
                        conntrack.forget(is_v6, &flow)?;
                        forgotten += 1;
                    }
                }
            }
            Ok(forgotten)
        });
        entered
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that reads flows panicked")))
    })
}

#[cfg(test)]
mod tests;
