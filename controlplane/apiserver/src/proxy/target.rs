//! Where a proxied request goes. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use api::{Object, Status};
use serde_json::Value;

use super::forward::To;

/// `name`, `name:port` or `scheme:name:port`, as paths have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    tls: bool,
    pub(super) name: &'a str,
    /// A number or a name; empty: the first there is.
    port: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match *parts.as_slice() {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        (known && !name.is_empty()).then_some(Name {
            tls: scheme == "https",
            name,
            port,
        })
    }

    fn number(&self) -> Option<u16> {
        self.port.parse().ok().filter(|port| *port > 0)
    }
}

/// A pod's own address, and the port that is named, or its first.
pub(super) fn pod(pod: &Object, name: &Name<'_>) -> Result<To, Status> {
    let address = pod.str_at("status.podIP").unwrap_or_default();
    let containers = pod.list_at("spec.containers").iter();
    let mut ports = containers.flat_map(|container| list(container, "ports"));
    let port = match (name.port, name.number()) {
        (_, Some(number)) => Some(number),
        ("", None) => Some(
            ports
                .next()
                .and_then(|port| number(port, "containerPort"))
                .unwrap_or(80),
        ),
        (wanted, None) => ports
            .find(|port| text(port, "name") == wanted)
            .and_then(|port| number(port, "containerPort")),
    };
    let port = port.ok_or_else(|| no_port("pod", name))?;
    reachable(address, port, name.tls)
}

/// One of the ready addresses behind a service; `turn` says which.
pub(super) fn service(
    service: &Object,
    endpoints: Option<&Object>,
    name: &Name<'_>,
    turn: usize,
) -> Result<To, Status> {
    let ports = service.list_at("spec.ports");
    let wanted = ports.iter().find(|port| match (name.port, name.number()) {
        ("", _) => true,
        (_, Some(wanted)) => number(port, "port") == Some(wanted),
        (wanted, None) => text(port, "name") == wanted,
    });
    let wanted = text(wanted.ok_or_else(|| no_port("service", name))?, "name");
    let subsets = endpoints
        .map(|endpoints| endpoints.list_at("subsets"))
        .unwrap_or_default();
    let ready: Vec<(&str, u16)> = subsets
        .iter()
        .filter_map(|subset| {
            let port = list(subset, "ports").iter().find(|port| text(port, "name") == wanted)?;
            let port = number(port, "port")?;
            Some(
                list(subset, "addresses")
                    .iter()
                    .map(move |address| (text(address, "ip"), port)),
            )
        })
        .flatten()
        .collect();
    let chosen = ready.get(turn.checked_rem(ready.len()).unwrap_or_default());
    let (address, port) = chosen
        .ok_or_else(|| Status::service_unavailable(format!("no endpoints available for service {:?}", name.name)))?;
    reachable(address, *port, name.tls)
}

/// Of a node, only its kubelet is reached.
pub(super) fn kubelet_only(node: &Object, name: &Name<'_>) -> Result<(), Status> {
    let kubelet = node
        .at("status.daemonEndpoints.kubeletEndpoint.Port")
        .and_then(Value::as_u64);
    let asked = name.number().map(u64::from);
    match name.port.is_empty() || (asked.is_some() && asked == kubelet) {
        true => Ok(()),
        false => Err(Status::bad_request(format!(
            "port {:?} of node {:?} is not reached from here: only its kubelet is",
            name.port, name.name
        ))),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> Option<u16> {
    value.get(key)?.as_u64()?.try_into().ok()
}

fn no_port(what: &str, name: &Name<'_>) -> Status {
    Status::service_unavailable(format!("no port {:?} found for {what} {:?}", name.port, name.name))
}

fn reachable(address: &str, port: u16, tls: bool) -> Result<To, Status> {
    let address: IpAddr = address
        .parse()
        .map_err(|_| Status::service_unavailable("it has no address yet".to_owned()))?;
    match is_proxyable(address) {
        true => Ok(To::Address(SocketAddr::new(address, port), tls)),
        false => Err(Status::bad_request(format!("address {address} is not allowed"))),
    }
}

/// Whether a pod may have such an address. Those of a cluster without root are of this machine, in a range of their own.
fn is_proxyable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let rootless = ip.octets()[0] == 127 && (32..48).contains(&ip.octets()[1]);
            let own = ip.is_loopback() && !rootless;
            !(own || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn said(to: Result<To, Status>) -> String {
        match to {
            Ok(To::Address(address, tls)) => format!("{}{address}", if tls { "https " } else { "" }),
            Ok(To::Node(_)) => "node".to_owned(),
            Err(status) => status.message,
        }
    }

    fn name(text: &str) -> Name<'_> {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn names_have_schemes_and_ports() {
        assert_eq!(
            name("https:a:8443"),
            Name {
                tls: true,
                name: "a",
                port: "8443"
            }
        );
        assert_eq!(
            name("a:web"),
            Name {
                tls: false,
                name: "a",
                port: "web"
            }
        );
        for wrong in ["", ":80", "ftp:a:1", "a:b:c:d"] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pods_are_reached_at_their_own_addresses_only() {
        let at = |ip: &str| {
            object(json!({
                "spec": {"containers": [{"ports": [{"containerPort": 8080, "name": "web"}]}]}, "status": {"podIP": ip},
            }))
        };
        let cases = [
            ("p", "10.128.0.9", "10.128.0.9:8080"),
            ("p:9090", "10.128.0.9", "10.128.0.9:9090"),
            ("https:p:web", "127.33.0.9", "https 127.33.0.9:8080"),
            ("p:none", "10.128.0.9", "no port \"none\" found for pod \"p\""),
            ("p", "", "it has no address yet"),
            ("p", "127.0.0.1", "address 127.0.0.1 is not allowed"),
            ("p", "169.254.169.254", "address 169.254.169.254 is not allowed"),
            ("p", "::ffff:127.0.0.1", "address ::ffff:127.0.0.1 is not allowed"),
            ("p", "::1", "address ::1 is not allowed"),
        ];
        for (text, ip, expected) in cases {
            assert_eq!(said(pod(&at(ip), &name(text))), expected, "{text} {ip}");
        }
    }

    #[test]
    fn services_are_reached_at_their_ready_endpoints() {
        let svc = object(json!({"spec": {"ports": [{"port": 80, "name": "web"}, {"port": 81, "name": "admin"}]}}));
        let endpoints = object(json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "notReadyAddresses": [{"ip": "10.0.0.3"}],
            "ports": [{"name": "web", "port": 8080}],
        }]}));
        let cases = [
            ("s", 0, "10.0.0.1:8080"),
            ("s:80", 1, "10.0.0.2:8080"),
            ("https:s:web", 2, "https 10.0.0.1:8080"),
            ("s:admin", 0, "no endpoints available for service \"s\""),
            ("s:82", 0, "no port \"82\" found for service \"s\""),
        ];
        for (text, turn, expected) in cases {
            assert_eq!(
                said(service(&svc, Some(&endpoints), &name(text), turn)),
                expected,
                "{text}"
            );
        }
    }
}
