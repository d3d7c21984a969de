use proptest::prelude::*;

use super::*;
use crate::model::{PortId, Protocol};
use crate::ruleset::{Script, TableName, replace};

fn addresses() -> Addresses {
    Addresses {
        services: vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
        pods: vec!["10.128.0.0/17".parse().unwrap(), "fd00:128::/80".parse().unwrap()],
        node: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    }
}

fn port(name: &str) -> Port {
    Port {
        id: PortId {
            namespace: "default".into(),
            name: name.into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        },
        port: 80,
        cluster_ips: vec!["10.96.0.9".parse().unwrap()],
        external_ips: Vec::new(),
        node_port: None,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints: ["10.128.0.2:8080".parse().unwrap(), "10.129.0.3:8080".parse().unwrap()].into(),
        local: ["10.128.0.2:8080".parse().unwrap()].into(),
    }
}

fn text(ports: impl IntoIterator<Item = Port>, family: Family, place: Place) -> String {
    let model = ports.into_iter().map(|port| (port.id.clone(), port)).collect();
    let ruleset = ruleset(&model, &addresses(), family, place);
    Script(&TableName(format!("{} t", family.word())), &replace(&ruleset)).to_string()
}

/// What a port adds to the rules that are there without any.
fn added(port: Port, place: Place) -> String {
    let (with, without) = (text([port], Family::V4, place), text([], Family::V4, place));
    let without: Vec<&str> = without.lines().collect();
    let added: Vec<&str> = with.lines().filter(|line| !without.contains(line)).collect();
    added.join("\n")
}

#[test]
fn base_of_the_node() {
    insta::assert_snapshot!(text([], Family::V4, Place::Node));
}

#[test]
fn base_of_the_pods() {
    insta::assert_snapshot!(text([], Family::V4, Place::Pods));
}

#[test]
fn everything_in_version_6() {
    let port = Port {
        cluster_ips: vec!["10.96.0.9".parse().unwrap(), "fd00:96::9".parse().unwrap()],
        endpoints: [
            "[fd00:128::2]:8080".parse().unwrap(),
            "10.128.0.2:8080".parse().unwrap(),
        ]
        .into(),
        affinity: Some(5),
        ..port("web")
    };
    insta::assert_snapshot!(text([port], Family::V6, Place::Node));
}

#[test]
fn a_cluster_address() {
    insta::assert_snapshot!(added(port("web"), Place::Node));
}

#[test]
fn external_addresses_and_node_ports() {
    let external_ips = vec!["198.51.100.7".parse().unwrap()];
    let port = Port {
        external_ips,
        node_port: Some(30080),
        ..port("web")
    };
    insta::assert_snapshot!(added(port.clone(), Place::Node));
    insta::assert_snapshot!("external_addresses_and_node_ports_for_pods", added(port, Place::Pods));
}

#[test]
fn external_policy_local() {
    let port = Port {
        node_port: Some(30080),
        external: Policy::Local,
        ..port("web")
    };
    insta::assert_snapshot!(added(port.clone(), Place::Node));
    let nothing_here = Port {
        local: Default::default(),
        ..port
    };
    insta::assert_snapshot!(
        "external_policy_local_with_nothing_here",
        added(nothing_here, Place::Node)
    );
}

#[test]
fn session_affinity() {
    insta::assert_snapshot!(added(
        Port {
            affinity: Some(10_800),
            ..port("web")
        },
        Place::Node
    ));
}

#[test]
fn what_has_no_endpoints_is_refused_and_what_has_none_here_dropped() {
    let nothing = Port {
        endpoints: Default::default(),
        local: Default::default(),
        ..port("web")
    };
    let nothing_here = Port {
        internal: Policy::Local,
        local: Default::default(),
        ..port("web")
    };
    let both = Port {
        internal: Policy::Local,
        node_port: Some(30080),
        ..nothing.clone()
    };
    for (port, expected) in [
        (
            nothing,
            "add element ip t unserved { 10.96.0.9 . tcp . 80 : goto refuse }",
        ),
        (
            nothing_here,
            "add element ip t unserved { 10.96.0.9 . tcp . 80 : drop }",
        ),
        (
            both,
            "add element ip t unserved { 10.96.0.9 . tcp . 80 : goto refuse }\n\
             add element ip t unserved-node-ports { tcp . 30080 : goto refuse }",
        ),
    ] {
        let added = added(port, Place::Node);
        let elements: Vec<&str> = added
            .lines()
            .filter(|line| line.contains("add element ip t unserved"))
            .collect();
        assert_eq!(elements.join("\n"), expected);
        assert!(!added.contains("{ 10.96.0.9 . tcp . 80 : goto svc"), "{added}");
    }
}

#[test]
fn nobody_takes_over_a_cluster_address_by_an_external_one() {
    let claims = |ports: [Port; 2]| {
        let text = text(ports, Family::V4, Place::Node);
        let claims = text.lines().filter(|line| line.contains("{ 10.96.0.9 . tcp . 80 :"));
        claims.map(str::to_owned).collect::<Vec<_>>()
    };
    let thief = Port {
        external_ips: vec!["10.96.0.9".parse().unwrap()],
        cluster_ips: Vec::new(),
        ..port("a")
    };
    let owner = port("b");
    let expected = ["add element ip t services { 10.96.0.9 . tcp . 80 : goto svc/default/b/http/tcp }"];
    assert_eq!(claims([thief.clone(), owner.clone()]), expected);
    let without_endpoints = Port {
        endpoints: Default::default(),
        ..owner
    };
    let expected = ["add element ip t unserved { 10.96.0.9 . tcp . 80 : goto refuse }"];
    assert_eq!(claims([thief, without_endpoints]), expected);
}

/// Any port, of few names and addresses so that they meet.
pub(crate) fn any_port() -> impl Strategy<Value = Port> {
    let policy = || prop_oneof![Just(Policy::Cluster), Just(Policy::Local)];
    let endpoints =
        || proptest::collection::btree_set((0..5u8).prop_map(|n| SocketAddr::from(([10, 128, 0, n], 8080))), 0..4);
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let addresses = proptest::collection::vec((0..4u8).prop_map(|n| IpAddr::from([10, 96, 0, n])), 0..3);
    (
        ("[ab]", protocol, addresses.clone(), addresses),
        (proptest::option::of(30000..30004u16), proptest::option::of(1..3u32)),
        (policy(), policy(), endpoints(), endpoints()),
    )
        .prop_map(
            |(
                (name, protocol, cluster_ips, external_ips),
                (node_port, affinity),
                (internal, external, endpoints, local),
            )| Port {
                id: PortId {
                    namespace: "default".into(),
                    name,
                    port: "p".into(),
                    protocol,
                },
                local: endpoints.intersection(&local).copied().collect(),
                port: 80,
                cluster_ips,
                external_ips,
                node_port,
                affinity,
                internal,
                external,
                endpoints,
            },
        )
}

pub(crate) fn any_ruleset() -> impl Strategy<Value = Ruleset> {
    let place = prop_oneof![Just(Place::Node), Just(Place::Pods)];
    (proptest::collection::vec(any_port(), 0..5), place).prop_map(|(ports, place)| {
        let model = ports.into_iter().map(|port| (port.id.clone(), port)).collect();
        ruleset(&model, &addresses(), Family::V4, place)
    })
}
