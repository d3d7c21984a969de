use proptest::prelude::*;

use super::*;
use crate::model::{Port, PortId};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn leads_of(pairs: &[(&str, &[&str])]) -> Leads {
    let to = |endpoints: &[&str]| endpoints.iter().map(|endpoint| address(endpoint)).collect();
    pairs
        .iter()
        .map(|(service, endpoints)| (address(service), to(endpoints)))
        .collect()
}

#[test]
fn services_of_datagrams_lead_to_their_endpoints() {
    let port = |name: &str, protocol| Port {
        id: PortId {
            namespace: "default".into(),
            name: name.into(),
            port: "".into(),
            protocol,
        },
        port: 53,
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        external_ips: vec!["198.51.100.7".parse().unwrap()],
        node_port: Some(30053),
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Local,
        endpoints: [address("10.128.0.2:5353"), address("[fd00::2]:5353")].into(),
        local: Default::default(),
    };
    let ports = [port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)];
    let model = ports.map(|port| (port.id.clone(), port)).into();
    let expected: [(&str, &[&str]); 3] = [
        ("10.96.0.10:53", &["10.128.0.2:5353"]),
        ("198.51.100.7:53", &["10.128.0.2:5353"]),
        ("192.0.2.1:30053", &["10.128.0.2:5353"]),
    ];
    assert_eq!(leads(&model, &["192.0.2.1".parse().unwrap()]), leads_of(&expected));
}

#[test]
fn what_changed_is_held_against_flows() {
    let before = leads_of(&[
        ("10.96.0.1:53", &["10.0.0.1:53"]),
        ("10.96.0.2:53", &[]),
        ("10.96.0.3:53", &[]),
    ]);
    let now = leads_of(&[
        ("10.96.0.1:53", &["10.0.0.2:53"]),
        ("10.96.0.2:53", &[]),
        ("10.96.0.4:53", &[]),
    ]);
    let changed = changed(&before, &now);
    assert_eq!(
        changed,
        leads_of(&[
            ("10.96.0.1:53", &["10.0.0.2:53"]),
            ("10.96.0.3:53", &[]),
            ("10.96.0.4:53", &[])
        ])
    );
    let flow = |destination, endpoint| Flow {
        destination: address(destination),
        endpoint: address(endpoint),
        identity: Vec::new(),
    };
    for (destination, endpoint, expected) in [
        ("10.96.0.1:53", "10.0.0.1:53", true),
        ("10.96.0.1:53", "10.0.0.2:53", false),
        ("10.96.0.2:53", "10.0.0.1:53", false),
        ("10.96.0.3:53", "10.0.0.1:53", true),
        ("10.0.0.1:53", "10.0.0.1:53", false),
    ] {
        assert_eq!(
            is_astray(&flow(destination, endpoint), &changed),
            expected,
            "{destination} to {endpoint}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>) {
        let _ = netlink::parse(&bytes);
    }
}
