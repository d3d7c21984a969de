//! Ports of the node that lead to one pod (`hostPort`). Pure.
//!
//! The same as a node port with one endpoint, on every address of the node or on the one that the pod names. Who comes from
//! another machine is seen by the pod as who it is.

use std::net::{IpAddr, SocketAddr};

use cri::{HostPorts, PortMapping};

use super::{Policy, Port, PortId, Protocol};

/// What stands before a pod's name where a Service's would be: no Service has such a name.
const POD: &str = "host-port/";

/// The pod whose port an id of [`host_ports`] is; `None`: it is a Service's.
pub(crate) fn pod(id: &PortId) -> Option<&str> {
    id.name.strip_prefix(POD)
}

/// The ports of one pod. What is no port, or names no address, leads nowhere.
pub(crate) fn host_ports(of: &HostPorts) -> impl Iterator<Item = Port> {
    of.ports.iter().filter_map(|mapping| port(of, mapping))
}

fn port(of: &HostPorts, mapping: &PortMapping) -> Option<Port> {
    let own: Option<IpAddr> = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().ok()?).filter(|ip: &IpAddr| !ip.is_unspecified()),
    };
    let mut name = mapping.host_port.to_string();
    if let Some(ip) = own {
        name = format!("{name}-{}", ip.to_string().replace(':', "."));
    }
    let to = SocketAddr::new(of.ip, mapping.container_port);
    Some(Port {
        id: PortId {
            namespace: of.namespace.clone(),
            name: format!("{POD}{}", of.name),
            port: name,
            protocol: Protocol::parse(Some(&mapping.protocol))?,
        },
        port: mapping.host_port,
        cluster_ips: Vec::new(),
        external_ips: own.into_iter().collect(),
        node_port: own.is_none().then_some(mapping.host_port),
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Local,
        endpoints: [to].into(),
        local: [to].into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(host_ip: &str, protocol: &str) -> Vec<Port> {
        let of = HostPorts {
            namespace: "default".to_owned(),
            name: "web.1".to_owned(),
            uid: "u".to_owned(),
            ip: "10.128.0.9".parse().unwrap(),
            ports: vec![PortMapping {
                protocol: protocol.to_owned(),
                container_port: 8080,
                host_port: 80,
                host_ip: host_ip.to_owned(),
            }],
        };
        host_ports(&of).collect()
    }

    #[test]
    fn a_port_of_the_node_leads_to_the_pod() {
        for host_ip in ["", "0.0.0.0"] {
            let ports = ports(host_ip, "TCP");
            let [port] = &ports[..] else { panic!("{ports:?}") };
            assert_eq!(port.id.to_string(), "default/host-port/web.1/80/tcp");
            assert_eq!((port.node_port, port.external_ips.len()), (Some(80), 0));
            assert_eq!(port.local, ["10.128.0.9:8080".parse().unwrap()].into());
            assert_eq!(pod(&port.id), Some("web.1"));
        }
    }

    #[test]
    fn a_pod_may_name_one_address_of_the_node() {
        let ports = ports("192.0.2.1", "UDP");
        let [port] = &ports[..] else { panic!("{ports:?}") };
        assert_eq!(port.id.to_string(), "default/host-port/web.1/80-192.0.2.1/udp");
        assert_eq!((port.node_port, port.port), (None, 80));
        assert_eq!(port.external_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_is_no_port_leads_nowhere() {
        assert!(ports("nonsense", "TCP").is_empty());
        assert!(ports("", "carrier pigeon").is_empty());
    }
}
