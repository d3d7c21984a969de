//! What this node is to do for every port of every Service. Pure: Services and EndpointSlices in, a sorted list out. Ports of
//! the node that pods have for themselves (`host_ports`) are told in the same terms.
//!
//! The rules are those of the Kubernetes documentation ("Virtual IPs and Service Proxies"). Load-balancer addresses are
//! absent.

mod host_ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub(crate) use host_ports::{host_ports, pod};

use crate::objects::{Conditions, EndpointPort, EndpointSlice, For, Service, ServicePort};

/// Slices name their Service by this label.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services and slices with one of these are somebody else's.
const NOT_OURS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];
/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The transport protocols a Service can have.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// `None` means TCP, as the API has it.
    fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// Which port of which Service; printed `namespace/name/port/protocol`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortId {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: String,
    pub(crate) protocol: Protocol,
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortId {
            namespace,
            name,
            port,
            protocol,
        } = self;
        write!(f, "{namespace}/{name}/{port}/{protocol}")
    }
}

/// Whether traffic may go to other nodes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

impl Policy {
    fn parse(name: Option<&str>) -> Self {
        match name {
            Some("Local") => Policy::Local,
            _ => Policy::Cluster,
        }
    }
}

/// One port of one Service, or of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    /// The port on the Service's addresses.
    pub(crate) port: u16,
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) external_ips: Vec<IpAddr>,
    /// The port on the node's addresses.
    pub(crate) node_port: Option<u16>,
    /// For how many seconds after a connection the same client reaches the same endpoint again.
    pub(crate) affinity: Option<u32>,
    /// For traffic to the cluster addresses.
    pub(crate) internal: Policy,
    /// For traffic to external addresses and node ports.
    pub(crate) external: Policy,
    /// The endpoints to use, wherever they are.
    pub(crate) endpoints: BTreeSet<SocketAddr>,
    /// The endpoints to use where the policy is [`Policy::Local`].
    pub(crate) local: BTreeSet<SocketAddr>,
}

impl Port {
    /// The endpoints of one address family that traffic under `policy` goes to.
    pub(crate) fn endpoints(&self, policy: Policy, v6: bool) -> impl Iterator<Item = SocketAddr> {
        let all = match policy {
            Policy::Cluster => &self.endpoints,
            Policy::Local => &self.local,
        };
        all.iter().copied().filter(move |endpoint| endpoint.is_ipv6() == v6)
    }
}

/// Everything the node is to do, by port.
pub(crate) type Model = BTreeMap<PortId, Port>;

/// Where a node is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    pub(crate) node: &'a str,
    /// Empty: nobody has said.
    pub(crate) zone: &'a str,
}

/// Makes the model for a node.
pub(crate) fn build<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    here: Here<'_>,
) -> Model {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| is_ours(&slice.metadata)) {
        if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
            by_service
                .entry((&slice.metadata.namespace, service))
                .or_default()
                .push(slice);
        }
    }
    let mut model = Model::new();
    for service in services.into_iter().filter(|service| is_served(service)) {
        let of = (&*service.metadata.namespace, &*service.metadata.name);
        let slices = by_service.get(&of).map_or(&[][..], Vec::as_slice);
        let ports = service
            .spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| self::port(service, port, slices, here));
        model.extend(ports.map(|port| (port.id.clone(), port)));
    }
    model
}

fn is_ours(metadata: &client::Meta) -> bool {
    NOT_OURS.iter().all(|label| metadata.labels.get(label).is_none())
}

/// Headless Services and those of type ExternalName have nothing to forward.
fn is_served(service: &Service) -> bool {
    let is_external_name = service.spec.type_.as_deref() == Some("ExternalName");
    !is_external_name && is_ours(&service.metadata) && !cluster_ips(service).is_empty()
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    match service.spec.cluster_ips.as_deref() {
        None | Some([]) => addresses(service.spec.cluster_ip.as_slice()),
        Some(ips) => addresses(ips),
    }
}

/// What does not parse, as `None` does not, is no address.
fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn port(service: &Service, port: &ServicePort, slices: &[&EndpointSlice], here: Here<'_>) -> Option<Port> {
    let spec = &service.spec;
    let id = PortId {
        namespace: service.metadata.namespace.to_string(),
        name: service.metadata.name.to_string(),
        port: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
    };
    // Names become words of the rules; the API server takes no others than these.
    let is_name = |text: &str| {
        text.bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if ![&id.namespace, &id.name, &id.port]
        .into_iter()
        .all(|text| is_name(text))
    {
        return None;
    }
    let candidates = candidates(&id, slices, here);
    let preferred = preference(&candidates);
    Some(Port {
        port: port.port,
        cluster_ips: cluster_ips(service),
        external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
        node_port: port.node_port.filter(|port| *port != 0),
        affinity: affinity(service),
        internal: Policy::parse(spec.internal_traffic_policy.as_deref()),
        external: Policy::parse(spec.external_traffic_policy.as_deref()),
        endpoints: usable(candidates.iter().filter(|candidate| candidate.is_preferred(preferred))),
        local: usable(candidates.iter().filter(|candidate| candidate.is_local)),
        id,
    })
}

fn affinity(service: &Service) -> Option<u32> {
    let configured = service
        .spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    let seconds = configured
        .and_then(|client| client.timeout_seconds)
        .unwrap_or(DEFAULT_AFFINITY_SECONDS);
    (service.spec.session_affinity.as_deref() == Some("ClientIP")).then_some(seconds)
}

/// An endpoint of one port, with what decides whether it is used.
struct Candidate {
    address: SocketAddr,
    is_local: bool,
    /// Whether it is meant for this node, and for its zone; `None`: it is meant for all.
    for_node: Option<bool>,
    for_zone: Option<bool>,
    is_ready: bool,
    is_serving_last: bool,
}

impl Candidate {
    fn is_preferred(&self, preference: Preference) -> bool {
        match preference {
            // One that is not ready is used only where none is, whatever it is meant for.
            _ if !self.is_ready => true,
            Preference::Any => true,
            Preference::Node => self.for_node == Some(true),
            Preference::Zone => self.for_zone == Some(true),
        }
    }
}

/// Which endpoints traffic that may go anywhere goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    Any,
    Node,
    Zone,
}

/// The nearest that there are ready endpoints for; hints count only where every ready endpoint has them (KEP-3015).
fn preference(candidates: &[Candidate]) -> Preference {
    let counts = |hint: fn(&Candidate) -> Option<bool>| {
        let mut hints = candidates.iter().filter(|candidate| candidate.is_ready).map(hint);
        let mut any = false;
        hints.all(|hint| {
            any |= hint == Some(true);
            hint.is_some()
        }) && any
    };
    if counts(|candidate| candidate.for_node) {
        Preference::Node
    } else if counts(|candidate| candidate.for_zone) {
        Preference::Zone
    } else {
        Preference::Any
    }
}

/// Whether `name` is among those of a hint; `None` without a hint.
fn is_for(hint: Option<&Vec<For>>, name: &str) -> Option<bool> {
    let hint = hint.filter(|hint| !hint.is_empty())?;
    Some(!name.is_empty() && hint.iter().any(|of| of.name == name))
}

fn candidates(id: &PortId, slices: &[&EndpointSlice], here: Here<'_>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for slice in slices {
        let serves = |port: &&EndpointPort| {
            port.name.as_deref().unwrap_or_default() == id.port
                && Protocol::parse(port.protocol.as_deref()) == Some(id.protocol)
        };
        let ports = slice.ports.iter().flatten().filter(serves).filter_map(|port| port.port);
        for port in ports {
            for endpoint in slice.endpoints.iter().flatten() {
                let Some(Ok(address)) = endpoint.addresses.first().map(|address| address.parse()) else {
                    continue;
                };
                let Conditions {
                    ready,
                    serving,
                    terminating,
                } = endpoint.conditions.clone().unwrap_or_default();
                let hints = endpoint.hints.as_ref();
                candidates.push(Candidate {
                    address: SocketAddr::new(address, port),
                    is_local: endpoint.node_name.as_deref() == Some(here.node),
                    for_node: is_for(hints.and_then(|hints| hints.for_nodes.as_ref()), here.node),
                    for_zone: is_for(hints.and_then(|hints| hints.for_zones.as_ref()), here.zone),
                    // What a condition is when it is not known, is said by its API documentation.
                    is_ready: ready.unwrap_or(true),
                    is_serving_last: serving.unwrap_or(true) && terminating.unwrap_or(false),
                });
            }
        }
    }
    candidates
}

/// The ready endpoints; where there is none, those that still serve while they terminate.
fn usable<'a>(candidates: impl Iterator<Item = &'a Candidate> + Clone) -> BTreeSet<SocketAddr> {
    let ready: BTreeSet<_> = candidates
        .clone()
        .filter(|candidate| candidate.is_ready)
        .map(|ready| ready.address)
        .collect();
    match ready.is_empty() {
        true => candidates
            .filter(|candidate| candidate.is_serving_last)
            .map(|last| last.address)
            .collect(),
        false => ready,
    }
}

/// What a load balancer is told at one port of this node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    pub(crate) service: Named,
    pub(crate) local_endpoints: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The ports at which load balancers ask whether this node has endpoints of a Service.
pub(crate) fn health_checks<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    model: &Model,
) -> BTreeMap<u16, Health> {
    let mut checks = BTreeMap::new();
    for service in services.into_iter().filter(|service| is_served(service)) {
        let Some(port) = service.spec.health_check_node_port.filter(|port| *port != 0) else {
            continue;
        };
        let (namespace, name) = (&*service.metadata.namespace, &*service.metadata.name);
        let own = model
            .values()
            .filter(|port| port.id.namespace == namespace && port.id.name == name);
        let local: BTreeSet<IpAddr> = own.flat_map(|port| port.local.iter().map(SocketAddr::ip)).collect();
        let health = Health {
            service: Named {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            local_endpoints: local.len(),
        };
        // The API server gives no port twice.
        checks.entry(port).or_insert(health);
    }
    checks
}

#[cfg(test)]
mod tests;
