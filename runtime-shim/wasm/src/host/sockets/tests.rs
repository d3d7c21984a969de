use super::*;

fn pod() -> Arc<Addresses> {
    let network = protocol::Network::Pod {
        address: Ipv4Addr::new(10, 1, 0, 5),
        loopback: Ipv4Addr::new(127, 64, 0, 5),
        dialable_loopback: vec!["127.96.0.0/16".parse().expect("a range")],
    };
    Addresses::new(
        network,
        Resolver::new(&cri::DnsConfig::default(), "web-0", Ipv4Addr::new(10, 1, 0, 5)),
    )
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

#[test]
fn a_guest_binds_to_its_pod_alone() {
    let cases = [
        ("0.0.0.0:80", Some("10.1.0.5:80")),
        ("10.1.0.5:80", Some("10.1.0.5:80")),
        ("127.0.0.1:80", Some("127.64.0.5:80")),
        ("127.64.0.5:80", Some("127.64.0.5:80")),
        ("10.1.0.6:80", None),
        ("127.0.0.2:80", None),
        ("[::]:80", None),
        ("[::1]:80", None),
    ];
    for (wanted, expected) in cases {
        assert_eq!(pod().local(at(wanted)), expected.map(at), "{wanted}");
    }
}

#[test]
fn a_guest_connects_from_its_pod() {
    let cases = [
        ("10.1.0.6:80", Some(("10.1.0.6:80", "10.1.0.5:0"))),
        ("93.184.216.34:443", Some(("93.184.216.34:443", "10.1.0.5:0"))),
        ("127.0.0.1:80", Some(("127.64.0.5:80", "127.64.0.5:0"))),
        ("127.96.0.10:53", Some(("127.96.0.10:53", "10.1.0.5:0"))),
        ("127.64.0.6:80", None),
        ("127.0.0.53:53", None),
        ("0.0.0.0:80", None),
        ("[::1]:80", None),
    ];
    for (wanted, expected) in cases {
        let expected = expected.map(|(to, from)| Route {
            to: at(to),
            from: Some(at(from)),
        });
        assert_eq!(pod().remote(at(wanted)), expected, "{wanted}");
    }
}

#[test]
fn the_check_refuses_binds_elsewhere_even_where_shadowing_was_missed() {
    use SocketAddrUse::{TcpBind, TcpConnect, TcpListen, UdpBind, UdpSend};
    for usage in [TcpBind, TcpListen, UdpBind] {
        assert!(pod().allows(at("10.1.0.5:80"), usage));
        assert!(pod().allows(at("127.64.0.5:0"), usage));
        for other in ["0.0.0.0:0", "10.1.0.6:80", "127.0.0.1:80", "[::]:0"] {
            assert!(!pod().allows(at(other), usage), "{other}");
        }
    }
    for usage in [TcpConnect, UdpSend] {
        assert!(pod().allows(at("10.9.9.9:80"), usage));
        assert!(!pod().allows(at("127.0.0.1:80"), usage));
        assert!(!pod().allows(at("127.64.0.6:80"), usage));
    }
}

#[test]
fn a_pod_of_the_nodes_network_is_not_held_back() {
    let node = Addresses::new(
        protocol::Network::Node,
        Resolver::new(&cri::DnsConfig::default(), "", Ipv4Addr::UNSPECIFIED),
    );
    assert_eq!(node.local(at("127.0.0.1:80")), Some(at("127.0.0.1:80")));
    assert_eq!(
        node.remote(at("127.0.0.1:80")),
        Some(Route {
            to: at("127.0.0.1:80"),
            from: None
        })
    );
    assert!(node.allows(at("0.0.0.0:80"), SocketAddrUse::TcpBind));
}
