use proptest::prelude::*;

use super::*;
use crate::model::PortId;

fn port(name: &str, protocol: Protocol, change: impl FnOnce(&mut Port)) -> Port {
    let mut port = Port {
        id: PortId {
            namespace: "default".into(),
            name: name.into(),
            port: "".into(),
            protocol,
        },
        port: 80,
        cluster_ips: vec!["127.96.0.9".parse().unwrap()],
        external_ips: Vec::new(),
        node_port: None,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints: ["127.32.0.2:8080", "127.32.0.3:8080", "[fd00::1]:8080"]
            .map(|endpoint| endpoint.parse().unwrap())
            .into(),
        local: ["127.32.0.2:8080".parse().unwrap()].into(),
    };
    change(&mut port);
    port
}

fn model(ports: impl IntoIterator<Item = Port>) -> Model {
    ports.into_iter().map(|port| (port.id.clone(), port)).collect()
}

fn rootless() -> Scope {
    Scope {
        addresses: true,
        node_ports: ["127.0.0.1", "192.0.2.1"].map(|ip| ip.parse().unwrap()).into(),
    }
}

/// `protocol address -> endpoints | endpoints beyond`, with the addresses' last numbers only.
fn shown(table: &Table) -> Vec<String> {
    let last = |endpoints: &[SocketAddr]| {
        let numbers = endpoints.iter().map(|endpoint| match endpoint.ip() {
            IpAddr::V4(ip) => ip.octets()[3].to_string(),
            IpAddr::V6(ip) => ip.to_string(),
        });
        numbers.collect::<Vec<_>>().join(",")
    };
    let line = |(key, route): (&Key, &Route)| {
        let beyond = route.beyond.as_ref().map(|beyond| format!(" | {}", last(beyond)));
        let Key { protocol, at } = key;
        format!(
            "{protocol} {at} -> {}{}",
            last(&route.endpoints),
            beyond.unwrap_or_default()
        )
    };
    table.iter().map(line).collect()
}

#[test]
fn every_address_of_a_service_has_a_listener_without_root() {
    let web = port("web", Protocol::Tcp, |port| {
        port.node_port = Some(30080);
        port.external_ips = vec!["192.0.2.7".parse().unwrap()];
    });
    let dns = port("dns", Protocol::Udp, |_| {});
    assert_eq!(
        shown(&table(&model([web, dns]), &rootless())),
        [
            "tcp 127.0.0.1:30080 -> 2,3",
            "tcp 127.96.0.9:80 -> 2,3",
            "tcp 192.0.2.1:30080 -> 2,3",
            "tcp 192.0.2.7:80 -> 2,3",
            "udp 127.96.0.9:80 -> 2,3",
        ]
    );
}

#[test]
fn only_node_ports_on_loopback_have_one_with_root() {
    let web = port("web", Protocol::Tcp, |port| {
        port.node_port = Some(30080);
        port.external = Policy::Local;
        port.internal = Policy::Local;
    });
    let inner = port("inner", Protocol::Tcp, |_| {});
    let scope = Scope {
        addresses: false,
        node_ports: vec!["127.0.0.1".parse().unwrap()],
    };
    assert_eq!(
        shown(&table(&model([web, inner]), &scope)),
        ["tcp 127.0.0.1:30080 -> 2,3"]
    );
}

#[test]
fn who_listens_is_needed_before_there_are_endpoints() {
    let without = |port: &mut Port| port.endpoints.clear();
    let inner = model([port("inner", Protocol::Tcp, without)]);
    let outer = model([port("outer", Protocol::Tcp, |port| port.node_port = Some(30080))]);
    let with_root = Scope::default();
    assert!(is_needed(&inner, &rootless()) && is_needed(&outer, &with_root));
    assert!(!is_needed(&inner, &with_root) && !is_needed(&Model::new(), &rootless()));
}

#[test]
fn policies_bind_whom_they_are_for() {
    let web = port("web", Protocol::Tcp, |port| {
        port.node_port = Some(30080);
        port.external = Policy::Local;
        port.internal = Policy::Local;
    });
    assert_eq!(
        shown(&table(&model([web]), &rootless())),
        [
            "tcp 127.0.0.1:30080 -> 2,3",
            "tcp 127.96.0.9:80 -> 2",
            "tcp 192.0.2.1:30080 -> 2,3 | 2",
        ]
    );
}

#[test]
fn what_has_no_endpoint_of_the_family_or_is_sctp_is_not_listened_on() {
    let empty = port("empty", Protocol::Tcp, |port| port.endpoints.clear());
    let other = port("other", Protocol::Tcp, |port| {
        port.endpoints = ["[fd00::1]:80".parse().unwrap()].into();
    });
    let far = port("far", Protocol::Tcp, |port| {
        port.internal = Policy::Local;
        port.local.clear();
    });
    let sctp = port("sctp", Protocol::Sctp, |_| {});
    assert_eq!(table(&model([empty, other, far, sctp]), &rootless()), Table::new());
}

#[test]
fn a_cluster_address_is_taken_over_by_nobody() {
    let mine = port("zz", Protocol::Tcp, |_| {});
    let thief = port("aa", Protocol::Tcp, |port| {
        port.cluster_ips = vec!["127.96.0.66".parse().unwrap()];
        port.external_ips = vec!["127.96.0.9".parse().unwrap()];
        port.endpoints = ["127.32.0.66:1".parse().unwrap()].into();
    });
    let table = table(&model([mine, thief]), &rootless());
    assert_eq!(shown(&table), ["tcp 127.96.0.9:80 -> 2,3", "tcp 127.96.0.66:80 -> 66"]);
}

/// What a process does that knows `before`.
fn obey(before: &Table, calls: Vec<Call>) -> Table {
    let mut table = before.clone();
    for call in calls {
        match call {
            Call::Update { close, listen } => {
                close.iter().for_each(|key| drop(table.remove(key)));
                table.extend(listen);
            }
            Call::Keep { keys } => table.retain(|key, _| keys.contains(key)),
            other => panic!("{other:?}"),
        }
    }
    table
}

fn any_table() -> impl Strategy<Value = Table> {
    let entry = (0u8..6, any::<bool>(), prop::collection::vec(0u8..4, 1..3));
    prop::collection::vec(entry, 0..8).prop_map(|entries| {
        let listener = |(n, udp, endpoints): (u8, bool, Vec<u8>)| {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let at = ([127, 96, 0, n], 80).into();
            let endpoints = endpoints.into_iter().map(|n| ([127, 32, 0, n], 80).into()).collect();
            let route = Route {
                service: "default/web//tcp".into(),
                endpoints,
                beyond: None,
                affinity: None,
            };
            (Key { protocol, at }, route)
        };
        entries.into_iter().map(listener).collect()
    })
}

proptest! {
    #[test]
    fn updates_lead_from_any_table_to_any_other(before in any_table(), now in any_table()) {
        prop_assert_eq!(obey(&before, updates(Some(&before), &now)), now.clone());
        prop_assert_eq!(obey(&before, updates(None, &now)), now.clone());
        prop_assert!(updates(Some(&now), &now).is_empty());
    }
}
