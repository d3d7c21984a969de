//! From the model to the contents of an nftables table. Pure.
//!
//! A connection meets one lookup in a verdict map, by address, protocol and port, and then the rules of its own Service
//! only. What has no endpoint is not translated, and so meets the maps of the filter chains, which refuse it; so does
//! everything else that is sent to the Service range.
//!
//! The same rules are loaded where the node's own traffic and that of containers passes, and in the namespace that
//! Wasm pods share, where a pod reaches itself and its neighbours through a Service without leaving. There nothing is
//! masqueraded: the answer comes back anyway.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::model::{Model, Policy, Port};
use crate::ruleset::{Chain, Ruleset, Set, SetKind};

/// The bit of the packet mark that asks for masquerading; kube-proxy's, so that it is known.
const MASQUERADE: &str = "0x4000";

const SERVICES: &str = "services";
const NODE_PORTS: &str = "node-ports";
const UNSERVED: &str = "unserved";
const UNSERVED_NODE_PORTS: &str = "unserved-node-ports";
const NODE_ADDRESSES: &str = "node-addresses";
const HAIRPINS: &str = "hairpins";

/// The namespace the rules are for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The node's own.
    Node,
    /// The one that Wasm pods share.
    Pods,
}

/// An address family, which has a table of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// As nftables names it, as a table's family and as a protocol.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn type_(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    pub(crate) fn is_v6(self) -> bool {
        self == Family::V6
    }

    fn of(self, addresses: &[IpAddr]) -> impl Iterator<Item = &IpAddr> {
        addresses
            .iter()
            .filter(move |address| address.is_ipv6() == self.is_v6())
    }
}

/// The addresses that mean something to the rules, of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// What Services take theirs from.
    pub(crate) services: Vec<IpNet>,
    /// What the pods of this node take theirs from.
    pub(crate) pods: Vec<IpNet>,
    /// The node's own, on which node ports answer.
    pub(crate) node: Vec<IpAddr>,
}

/// The contents of the table of one family in one place.
pub(crate) fn ruleset(model: &Model, addresses: &Addresses, family: Family, place: Place) -> Ruleset {
    let mut rules = Rules {
        family,
        place,
        pods: networks(&addresses.pods, family),
        ruleset: Ruleset::default(),
    };
    rules.base(addresses);
    // Cluster addresses first, so that nobody's external address takes one over.
    let balanced: Vec<_> = model.values().map(|port| (port, rules.internal(port))).collect();
    balanced
        .into_iter()
        .for_each(|(port, balanced)| rules.external(port, &balanced));
    rules.ruleset
}

/// The networks of a family as an anonymous set, if there is any.
fn networks(networks: &[IpNet], family: Family) -> Option<String> {
    let of_family: Vec<String> = networks
        .iter()
        .filter(|net| net.addr().is_ipv6() == family.is_v6())
        .map(IpNet::to_string)
        .collect();
    (!of_family.is_empty()).then(|| format!("{{ {} }}", of_family.join(", ")))
}

/// The chains that choose an endpoint of a port, where there is one to choose.
struct Balanced {
    cluster: Option<String>,
    local: Option<String>,
}

impl Balanced {
    fn chain(&self, policy: Policy) -> Option<&str> {
        match policy {
            Policy::Cluster => self.cluster.as_deref(),
            Policy::Local => self.local.as_deref(),
        }
    }

    /// What becomes of traffic without a chain: refused where there is no endpoint at all, dropped where it may not
    /// go to those on other nodes.
    fn refusal(&self, policy: Policy) -> &'static str {
        match (policy, &self.cluster) {
            (Policy::Local, Some(_)) => "drop",
            _ => "goto refuse",
        }
    }
}

struct Rules {
    family: Family,
    place: Place,
    /// The addresses of this node's pods.
    pods: Option<String>,
    ruleset: Ruleset,
}

impl Rules {
    /// What is there without any Service: the maps, and the ways into them.
    fn base(&mut self, addresses: &Addresses) {
        let (ip, address) = (self.family.word(), self.family.type_());
        let by_address = format!("type {address} . inet_proto . inet_service : verdict;");
        let by_port = "type inet_proto . inet_service : verdict;".to_owned();
        self.set(SERVICES, SetKind::Map, by_address.clone());
        self.set(UNSERVED, SetKind::Map, by_address);
        self.set(NODE_PORTS, SetKind::Map, by_port.clone());
        self.set(UNSERVED_NODE_PORTS, SetKind::Map, by_port);
        self.set(NODE_ADDRESSES, SetKind::Set, format!("type {address};"));
        for node in self.family.of(&addresses.node) {
            self.element(NODE_ADDRESSES, node.to_string(), None);
        }
        let services = networks(&addresses.services, self.family);

        self.hooked(
            "prerouting",
            "type nat hook prerouting priority dstnat; policy accept;",
            vec!["jump to-services".into()],
        );
        self.hooked(
            "output",
            "type nat hook output priority -100; policy accept;",
            vec!["jump to-services".into()],
        );
        let mut to_services = Vec::new();
        if let (Place::Node, Some(pods), Some(services)) = (self.place, &self.pods, &services) {
            // From beyond the node: the answer must come back this way.
            to_services.push(format!(
                "{ip} daddr {services} {ip} saddr != {pods} fib saddr type != local {}",
                mark()
            ));
        }
        to_services.push(format!("{ip} daddr . meta l4proto . th dport vmap @{SERVICES}"));
        to_services.push(format!(
            "{ip} daddr @{NODE_ADDRESSES} meta l4proto . th dport vmap @{NODE_PORTS}"
        ));
        self.chain("to-services", to_services);

        if self.place == Place::Node {
            self.set(HAIRPINS, SetKind::Set, format!("type {address} . {address};"));
            let rules = vec![
                format!("ct status dnat {ip} saddr . {ip} daddr @{HAIRPINS} masquerade fully-random"),
                format!(
                    "meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark ^ {MASQUERADE} masquerade fully-random"
                ),
            ];
            self.hooked(
                "postrouting",
                "type nat hook postrouting priority srcnat; policy accept;",
                rules,
            );
        }

        for hook in ["input", "forward", "output"] {
            let definition = format!("type filter hook {hook} priority filter; policy accept;");
            self.hooked(
                &format!("filter-{hook}"),
                &definition,
                vec!["ct state new jump not-translated".into()],
            );
        }
        let mut not_translated = vec![
            format!("{ip} daddr . meta l4proto . th dport vmap @{UNSERVED}"),
            format!("{ip} daddr @{NODE_ADDRESSES} meta l4proto . th dport vmap @{UNSERVED_NODE_PORTS}"),
        ];
        not_translated.extend(services.map(|services| format!("{ip} daddr {services} goto refuse")));
        self.chain("not-translated", not_translated);
        self.chain("refuse", vec!["reject".into()]);
    }

    /// What happens to traffic to the cluster addresses of a port.
    fn internal(&mut self, port: &Port) -> Balanced {
        let cluster = self.balance(port, Policy::Cluster, "svc");
        let needs_local = [port.internal, port.external].contains(&Policy::Local);
        let local = if needs_local {
            self.balance(port, Policy::Local, "loc")
        } else {
            None
        };
        let balanced = Balanced { cluster, local };
        for address in self.family.of(&port.cluster_ips) {
            let key = format!("{address} . {} . {}", port.id.protocol, port.port);
            match balanced.chain(port.internal) {
                Some(chain) => self.element(SERVICES, key, Some(format!("goto {chain}"))),
                None => self.element(UNSERVED, key, Some(balanced.refusal(port.internal).into())),
            }
        }
        balanced
    }

    /// What happens to traffic to the external addresses and the node port of a port. Under the policy Local it can be
    /// both served and not, since pods and the node itself are served as under Cluster.
    fn external(&mut self, port: &Port, balanced: &Balanced) {
        // The kernel translates nothing to a loopback address: that is listened on.
        let external_ips = self
            .family
            .of(&port.external_ips)
            .filter(|address| !address.is_loopback());
        let external_ips = external_ips.map(|address| (address, port.port));
        let external_ips = external_ips.map(|(address, number)| format!("{address} . {} . {number}", port.id.protocol));
        let keys: Vec<String> = external_ips.filter(|key| !self.is_claimed(key)).collect();
        if keys.is_empty() && port.node_port.is_none() {
            return;
        }
        let served = self.external_chain(port, balanced).map(|chain| format!("goto {chain}"));
        let refusal = balanced
            .chain(port.external)
            .is_none()
            .then(|| balanced.refusal(port.external).to_owned());
        for key in keys {
            self.either(SERVICES, UNSERVED, key, served.clone(), refusal.clone());
        }
        if let Some(node_port) = port.node_port {
            let key = format!("{} . {node_port}", port.id.protocol);
            self.either(NODE_PORTS, UNSERVED_NODE_PORTS, key, served, refusal);
        }
    }

    /// Whether an address and port is another's already. Two can claim a node port for a moment as well, and an
    /// external address for good: the first keeps it.
    fn is_claimed(&self, key: &str) -> bool {
        let has = |name| {
            self.ruleset
                .sets
                .get(name)
                .is_some_and(|set: &Set| set.elements.contains_key(key))
        };
        has(SERVICES) || has(UNSERVED)
    }

    fn either(&mut self, to: &str, not: &str, key: String, served: Option<String>, refusal: Option<String>) {
        if served.is_some() {
            self.element(to, key.clone(), served);
        }
        if refusal.is_some() {
            self.element(not, key, refusal);
        }
    }

    /// The chain for traffic to external addresses and node ports.
    fn external_chain(&mut self, port: &Port, balanced: &Balanced) -> Option<String> {
        let cluster = balanced.cluster.as_deref()?;
        if self.place == Place::Pods {
            return Some(cluster.to_owned());
        }
        let ip = self.family.word();
        let mut rules = Vec::new();
        match port.external {
            Policy::Cluster => rules.extend([mark(), format!("goto {cluster}")]),
            Policy::Local => {
                rules.extend(
                    self.pods
                        .as_ref()
                        .map(|pods| format!("{ip} saddr {pods} goto {cluster}")),
                );
                rules.push(format!("fib saddr type local {}", mark()));
                rules.push(format!("fib saddr type local goto {cluster}"));
                rules.extend(balanced.local.as_ref().map(|local| format!("goto {local}")));
            }
        }
        let name = format!("ext/{}", port.id);
        self.chain(&name, rules);
        Some(name)
    }

    /// The chain that chooses an endpoint, if there is one to choose.
    fn balance(&mut self, port: &Port, policy: Policy, prefix: &str) -> Option<String> {
        let endpoints: Vec<SocketAddr> = port.endpoints(policy, self.family.is_v6()).collect();
        if endpoints.is_empty() {
            return None;
        }
        if self.place == Place::Node {
            let addresses = endpoints.iter().map(SocketAddr::ip);
            addresses.for_each(|ip| self.element(HAIRPINS, format!("{ip} . {ip}"), None));
        }
        let rules = match port.affinity {
            None => vec![format!(
                "meta l4proto {} dnat to {}",
                port.id.protocol,
                choice(&endpoints)
            )],
            Some(seconds) => self.with_affinity(port, &endpoints, seconds),
        };
        let name = format!("{prefix}/{}", port.id);
        self.chain(&name, rules);
        Some(name)
    }

    /// A client known to an endpoint goes there again; others are spread. Each endpoint has a chain that notes the
    /// client before it translates.
    fn with_affinity(&mut self, port: &Port, endpoints: &[SocketAddr], seconds: u32) -> Vec<String> {
        let (ip, address) = (self.family.word(), self.family.type_());
        let mut rules = Vec::new();
        let mut verdicts = Vec::new();
        for (n, endpoint) in endpoints.iter().enumerate() {
            let of = format!(
                "{}/{}.{}",
                port.id,
                endpoint.ip().to_string().replace(':', "."),
                endpoint.port()
            );
            // The time is part of the name, since that of an existing set cannot be changed.
            let (clients, chain) = (format!("clients/{of}/{seconds}"), format!("ep/{of}"));
            self.set(
                &clients,
                SetKind::Dynamic,
                format!("type {address}; flags dynamic,timeout; timeout {seconds}s;"),
            );
            let note = format!("update @{clients} {{ {ip} saddr }}");
            let translate = format!("meta l4proto {} dnat to {endpoint}", port.id.protocol);
            self.chain(&chain, vec![note, translate]);
            rules.push(format!("{ip} saddr @{clients} goto {chain}"));
            verdicts.push(format!("{n} : goto {chain}"));
        }
        rules.push(format!(
            "numgen random mod {} vmap {{ {} }}",
            verdicts.len(),
            verdicts.join(", ")
        ));
        rules
    }

    fn set(&mut self, name: &str, kind: SetKind, definition: String) {
        self.ruleset.sets.insert(
            name.to_owned(),
            Set {
                kind,
                definition,
                elements: Default::default(),
            },
        );
    }

    /// The first of two that claim the same key keeps it.
    fn element(&mut self, set: &str, key: String, value: Option<String>) {
        let set = self.ruleset.sets.get_mut(set).expect("the sets of the base are there");
        set.elements.entry(key).or_insert(value);
    }

    fn hooked(&mut self, name: &str, hook: &str, rules: Vec<String>) {
        self.ruleset.chains.insert(
            name.to_owned(),
            Chain {
                hook: Some(hook.to_owned()),
                rules,
            },
        );
    }

    fn chain(&mut self, name: &str, rules: Vec<String>) {
        self.ruleset.chains.insert(name.to_owned(), Chain { hook: None, rules });
    }
}

fn mark() -> String {
    format!("meta mark set meta mark | {MASQUERADE}")
}

/// One endpoint, or one of several at random.
fn choice(endpoints: &[SocketAddr]) -> String {
    if let [only] = endpoints {
        return only.to_string();
    }
    let options: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(n, to)| format!("{n} : {} . {}", to.ip(), to.port()))
        .collect();
    format!("numgen random mod {} map {{ {} }}", options.len(), options.join(", "))
}

#[cfg(test)]
pub(crate) mod tests;
