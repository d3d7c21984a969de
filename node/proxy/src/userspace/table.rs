//! From the model to the listeners that should be. Pure.
//!
//! As root only what is on 127.0.0.1 is listened on: the kernel does the rest. Without root there is nobody else, and
//! every address of a Service has a listener. What has no endpoint is not listened on, so that the kernel refuses it.
//! SCTP is absent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::protocol::{Call, Key, Route};
use crate::model::{Model, Policy, Port, Protocol};

/// The most listeners that one update starts: a long list is told in several, so that the process goes on answering.
const MOST_AT_ONCE: usize = 512;

/// What of a Service is listened on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Whether cluster addresses and external addresses are.
    pub(crate) addresses: bool,
    /// The addresses that node ports are listened on at.
    pub(crate) node_ports: Vec<IpAddr>,
}

/// All listeners.
pub(crate) type Table = BTreeMap<Key, Route>;

/// The listeners for a model. Of two ports that claim one address the first keeps it; cluster addresses go before all.
pub(crate) fn table(model: &Model, scope: &Scope) -> Table {
    let mut table = Table::new();
    let served = || model.values().filter(|port| port.id.protocol != Protocol::Sctp);
    if scope.addresses {
        for port in served() {
            let addresses = port.cluster_ips.iter().map(|ip| (*ip, port.port));
            claim(&mut table, port, addresses, port.internal);
        }
    }
    for port in served() {
        let addresses = external(port, scope).map(|ip| (ip, port.port));
        claim(&mut table, port, addresses, port.external);
    }
    for port in served() {
        let addresses = scope.node_ports.iter().filter_map(|ip| Some((*ip, port.node_port?)));
        claim(&mut table, port, addresses, port.external);
    }
    table
}

/// Whether there is a Service that is listened for as soon as it has endpoints, so that who listens had better be there.
pub(crate) fn is_needed(model: &Model, scope: &Scope) -> bool {
    let is_listened_for =
        |port: &Port| scope.addresses || port.node_port.is_some() || external(port, scope).next().is_some();
    model.values().any(is_listened_for)
}

/// The external addresses that are listened on.
fn external(port: &Port, scope: &Scope) -> impl Iterator<Item = IpAddr> {
    let all = port.external_ips.iter().copied();
    all.filter(|ip| scope.addresses || ip.is_loopback())
}

fn claim(table: &mut Table, port: &Port, addresses: impl Iterator<Item = (IpAddr, u16)>, policy: Policy) {
    for address in addresses {
        let key = Key {
            protocol: port.id.protocol,
            at: address.into(),
        };
        let route = route(port, policy, key.at.ip());
        if !route.endpoints.is_empty() {
            table.entry(key).or_insert(route);
        }
    }
}

/// The policy for cluster addresses binds everyone; that for other addresses only those beyond this machine.
fn route(port: &Port, policy: Policy, address: IpAddr) -> Route {
    let of = |policy| port.endpoints(policy, address.is_ipv6()).collect::<Vec<SocketAddr>>();
    let is_cluster_address = port.cluster_ips.contains(&address);
    let near = if is_cluster_address { policy } else { Policy::Cluster };
    let beyond = (policy != near && !address.is_loopback()).then(|| of(policy));
    Route {
        service: port.id.to_string(),
        endpoints: of(near),
        beyond,
        affinity: port.affinity,
    }
}

/// What leads from one table to another; `None` when it is not known what the process has.
///
/// What is closed makes room for what is listened on, unless it is not known: then what stays is said last, so that
/// nothing is closed for a moment.
pub(crate) fn updates(before: Option<&Table>, now: &Table) -> Vec<Call> {
    let nothing = Table::new();
    let known = before.unwrap_or(&nothing);
    let close: Vec<Key> = known.keys().filter(|key| !now.contains_key(key)).copied().collect();
    let changed = now.iter().filter(|(key, route)| known.get(key) != Some(route));
    let listen: Vec<(Key, Route)> = changed.map(|(key, route)| (*key, route.clone())).collect();
    let closing = (!close.is_empty()).then_some(Call::Update {
        close,
        listen: Vec::new(),
    });
    let listening = listen.chunks(MOST_AT_ONCE).map(|listen| Call::Update {
        close: Vec::new(),
        listen: listen.to_vec(),
    });
    let keeping = before.is_none().then(|| Call::Keep {
        keys: now.keys().copied().collect(),
    });
    closing.into_iter().chain(listening).chain(keeping).collect()
}

#[cfg(test)]
mod tests;
