//! From Services and EndpointSlices to what can be asked for by name. Pure.
//!
//! An [`Entry`] is what one Service gives to the zone; it is also what the agent tells the process that answers
//! (`protocol`), so a field may only be added with a default.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::objects::{self, EndpointSlice, Service};

/// Slices name their Service by this label.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Which Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// What one Service gives to the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The Service's own ports, in order.
    pub(crate) ports: BTreeSet<Port>,
    /// Its ready endpoints, by the ports that they have in common.
    pub(crate) groups: BTreeMap<String, Group>,
}

/// What its name leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Addresses of its own.
    Cluster(Vec<IpAddr>),
    /// Those of its endpoints.
    Headless,
    /// Another name.
    External(Box<str>),
}

/// Endpoints that have their ports in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) ports: BTreeSet<Port>,
    pub(crate) endpoints: BTreeSet<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Port {
    /// Empty: it has none.
    pub(crate) name: Box<str>,
    /// `tcp`, `udp` or `sctp`.
    pub(crate) protocol: Box<str>,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    /// The name it was given; most have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<Box<str>>,
}

impl Endpoint {
    /// The name it was given, or else one that is made of its address.
    pub(crate) fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.to_ascii_lowercase(),
            None => self.address.to_string().replace(['.', ':'], "-"),
        }
    }
}

/// Everything that is known of Services.
pub(crate) type Entries = BTreeMap<Key, Entry>;

/// Makes the entries.
pub(crate) fn build<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Entries {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
            by_service
                .entry((&slice.metadata.namespace, service))
                .or_default()
                .push(slice);
        }
    }
    let entry = |service: &Service| {
        let of = (&*service.metadata.namespace, &*service.metadata.name);
        let slices = by_service.get(&of).map_or(&[][..], Vec::as_slice);
        Some((Key::new(of.0, of.1), entry(service, slices)?))
    };
    services.into_iter().filter_map(entry).collect()
}

/// `None`: a Service that has no address yet.
fn entry(service: &Service, slices: &[&EndpointSlice]) -> Option<Entry> {
    let spec = &service.spec;
    let kind = kind(service)?;
    let mut entry = Entry {
        ports: spec.ports.iter().flatten().map(service_port).collect(),
        groups: BTreeMap::new(),
        kind,
    };
    if matches!(entry.kind, Kind::External(_)) {
        return Some(entry);
    }
    for slice in slices {
        let ports: BTreeSet<Port> = slice.ports.iter().flatten().filter_map(endpoint_port).collect();
        let endpoints = slice.endpoints.iter().flatten();
        let endpoints = endpoints
            .filter(|endpoint| spec.publish_not_ready_addresses || is_ready(endpoint))
            .flat_map(addresses);
        let group = entry.groups.entry(named(&ports)).or_default();
        group.ports = ports;
        group.endpoints.extend(endpoints);
    }
    entry.groups.retain(|_, group| !group.endpoints.is_empty());
    Some(entry)
}

fn kind(service: &Service) -> Option<Kind> {
    let spec = &service.spec;
    if spec.type_.as_deref() == Some("ExternalName") {
        // An address is no name, and there is nothing that it could be an alias of.
        return spec
            .external_name
            .clone()
            .filter(|name| name.parse::<IpAddr>().is_err())
            .map(Kind::External);
    }
    let listed = match spec.cluster_ips.as_deref() {
        None | Some([]) => spec.cluster_ip.as_slice(),
        Some(listed) => listed,
    };
    if listed.iter().any(|ip| &**ip == "None") {
        return Some(Kind::Headless);
    }
    let addresses: Vec<IpAddr> = listed.iter().filter_map(|ip| ip.parse().ok()).collect();
    (!addresses.is_empty()).then_some(Kind::Cluster(addresses))
}

/// Ports as a key of JSON.
fn named(ports: &BTreeSet<Port>) -> String {
    let each = ports
        .iter()
        .map(|port| format!("{}/{}/{}", port.name, port.protocol, port.port));
    each.collect::<Vec<_>>().join(",")
}

fn service_port(port: &objects::ServicePort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref()),
        port: port.port,
    }
}

fn endpoint_port(port: &objects::EndpointPort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref()),
        port: port.port?,
    })
}

/// `None` means TCP, as the API has it.
fn protocol(name: Option<&str>) -> Box<str> {
    match name {
        None | Some("") => "tcp".into(),
        Some(name) => name.to_ascii_lowercase().into(),
    }
}

/// What is not known counts as ready, by the documentation of the API.
fn is_ready(endpoint: &objects::Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn addresses(endpoint: &objects::Endpoint) -> impl Iterator<Item = Endpoint> {
    let hostname = endpoint.hostname.as_ref().filter(|hostname| !hostname.is_empty());
    // Consumers of slices use the first address only.
    let address = endpoint.addresses.first().and_then(|address| address.parse().ok());
    address.into_iter().map(move |address| Endpoint {
        address,
        hostname: hostname.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn built(services: Value, slices: Value) -> Entries {
        let services: Vec<Service> = serde_json::from_value(services).unwrap();
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).unwrap();
        build(&services, &slices)
    }

    fn service(spec: Value) -> Value {
        json!([{"metadata": {"name": "web", "namespace": "ns"}, "spec": spec}])
    }

    fn slice(endpoints: Value) -> Value {
        json!([{"metadata": {"name": "web-1", "namespace": "ns", "labels": {SERVICE_NAME: "web"}},
            "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}])
    }

    fn only(entries: &Entries) -> &Entry {
        entries.get(&Key::new("ns", "web")).unwrap()
    }

    #[test]
    fn a_name_leads_where_its_service_says() {
        let kind = |spec: Value| {
            built(service(spec), json!([]))
                .into_values()
                .next()
                .map(|entry| entry.kind)
        };
        let cluster = Kind::Cluster(vec!["10.96.0.9".parse().unwrap(), "fd00::9".parse().unwrap()]);
        assert_eq!(
            kind(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"]})),
            Some(cluster)
        );
        assert_eq!(kind(json!({"clusterIP": "None"})), Some(Kind::Headless));
        assert_eq!(
            kind(json!({"type": "ExternalName", "externalName": "Example.com"})),
            Some(Kind::External("Example.com".into()))
        );
        assert_eq!(kind(json!({"type": "ExternalName", "externalName": "192.0.2.1"})), None);
        assert_eq!(kind(json!({"clusterIP": ""})), None, "it has no address yet");
    }

    #[test]
    fn only_ready_endpoints_count_unless_the_service_says_otherwise() {
        let endpoints = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hostname": "a"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"]},
        ]);
        let labels = |spec: Value| {
            let entries = built(service(spec), slice(endpoints.clone()));
            let groups = only(&entries).groups.values().cloned().collect::<Vec<_>>();
            groups
                .iter()
                .flat_map(|group| group.endpoints.iter().map(Endpoint::label))
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(json!({"clusterIP": "None"})), ["a", "10-0-0-3"]);
        assert_eq!(
            labels(json!({"clusterIP": "None", "publishNotReadyAddresses": true})),
            ["a", "10-0-0-2", "10-0-0-3"]
        );
    }

    #[test]
    fn what_is_told_is_read_as_it_was_written() {
        let entries = built(
            service(json!({"clusterIP": "None"})),
            slice(json!([{"addresses": ["fd00::1"]}])),
        );
        let pairs: Vec<_> = entries.into_iter().collect();
        let text = serde_json::to_string(&pairs).unwrap();
        assert_eq!(
            text,
            r#"[[{"namespace":"ns","name":"web"},{"kind":"Headless","ports":[],"groups":{"http/tcp/8080":{"ports":[{"name":"http","protocol":"tcp","port":8080}],"endpoints":[{"address":"fd00::1"}]}}}]]"#
        );
        assert_eq!(serde_json::from_str::<Vec<(Key, Entry)>>(&text).unwrap(), pairs);
    }
}
