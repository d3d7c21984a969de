use super::*;

fn config(options: &[&str]) -> cri::DnsConfig {
    cri::DnsConfig {
        servers: vec!["127.0.0.1".to_owned()],
        searches: ["default.svc.cluster.local", "svc.cluster.local."]
            .map(str::to_owned)
            .to_vec(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn resolver(options: &[&str]) -> Resolver {
    Resolver::new(&config(options), "web-0", Ipv4Addr::LOCALHOST)
}

#[test]
fn short_names_are_searched_first_and_long_ones_last() {
    let searched = ["web.default.svc.cluster.local", "web.svc.cluster.local", "web"];
    assert_eq!(resolver(&["ndots:5"]).candidates("web"), searched);
    let candidates = resolver(&[]).candidates("example.com");
    assert_eq!(candidates.first().map(String::as_str), Some("example.com"));
    assert_eq!(candidates.len(), 3);
    assert_eq!(
        resolver(&["ndots:5"]).candidates("example.com.").as_slice(),
        ["example.com"]
    );
}

#[test]
fn a_server_may_have_a_port_of_its_own() {
    for (text, at) in [
        ("10.96.0.10", Some("10.96.0.10:53")),
        ("127.32.0.1:10053", Some("127.32.0.1:10053")),
        ("fd00::a", Some("[fd00::a]:53")),
        ("dns.example", None),
    ] {
        assert_eq!(address(text), at.map(|at| at.parse().expect("an address")), "{text}");
    }
}

#[tokio::test]
async fn own_names_and_literals_need_no_server() {
    let resolver = Resolver::new(&cri::DnsConfig::default(), "web-0", Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(resolver.lookup("web-0").await, Ok(vec![Ipv4Addr::new(10, 0, 0, 9)]));
    assert_eq!(resolver.lookup("LOCALHOST.").await, Ok(vec![Ipv4Addr::LOCALHOST]));
    assert_eq!(
        resolver.lookup("192.0.2.1").await,
        Ok(vec![Ipv4Addr::new(192, 0, 2, 1)])
    );
}

#[tokio::test]
async fn without_servers_other_names_are_unavailable() {
    let resolver = Resolver::new(&cri::DnsConfig::default(), "", Ipv4Addr::LOCALHOST);
    assert_eq!(resolver.lookup("example.com").await, Err(LookupError::Unavailable));
    assert_eq!(resolver.lookup("not..a.name").await, Err(LookupError::Malformed));
}

/// A name server with one name; answers TCP only when `truncated`.
async fn server(truncated: bool) -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = udp.local_addr().expect("an address");
    let tcp = tokio::net::TcpListener::bind(address).await.expect("bound");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut query).await {
            let mut reply = reply(&query[..length]);
            if truncated {
                reply[2] |= 2;
            }
            udp.send_to(&reply, from).await.expect("sent");
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = usize::from(stream.read_u16().await.expect("a length"));
            let mut query = vec![0; length];
            stream.read_exact(&mut query).await.expect("a query");
            let reply = reply(&query);
            stream.write_u16(reply.len() as u16).await.expect("sent");
            stream.write_all(&reply).await.expect("sent");
        }
    });
    address
}

/// 10.7.7.7 and 10.7.7.8 for `web.svc.cluster.local`, no such name for all others.
fn reply(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    if dns_name(query) == "web.svc.cluster.local" {
        reply[7] = 2;
        for last in [7, 8] {
            reply.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\x07\x07");
            reply.push(last);
        }
    } else {
        reply[3] |= 3;
    }
    reply
}

fn dns_name(query: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).into_owned());
        at += 1 + length;
    }
    labels.join(".")
}

#[tokio::test]
async fn the_search_list_is_followed_until_a_name_exists() {
    for truncated in [false, true] {
        let mut resolver = resolver(&["ndots:5"]);
        resolver.servers = vec![server(truncated).await];
        assert_eq!(
            resolver.lookup("web").await,
            Ok(vec![Ipv4Addr::new(10, 7, 7, 7), Ipv4Addr::new(10, 7, 7, 8)]),
            "truncated: {truncated}"
        );
        assert_eq!(resolver.lookup("nothing.").await, Err(LookupError::Unknown));
    }
}
