use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const PORT: u16 = 30080;
const DEADLINE: Duration = Duration::from_secs(10);

/// Each test has a loopback address of its own, on which every port is free.
fn loopback(test: u8) -> (Loopback, SocketAddr) {
    let address = Ipv4Addr::new(127, 77, 0, test);
    (
        Loopback::new(address, TaskTracker::new(), &CancellationToken::new()),
        (address, PORT).into(),
    )
}

fn wanted(protocol: Protocol, endpoints: &[SocketAddr]) -> Wanted {
    [((protocol, PORT), endpoints.into())].into()
}

/// Says its name, then repeats what it is told until the other side is done, and says goodbye.
async fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                stream.write_all(&said).await.unwrap();
                stream.write_all(b" bye").await
            });
        }
    });
    address
}

/// Says `said`, closes its side, and returns what comes back.
async fn talk(to: SocketAddr, said: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(said.as_bytes()).await?;
    stream.shutdown().await?;
    let mut heard = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut heard)).await??;
    Ok(heard)
}

#[tokio::test]
async fn connections_are_joined_until_both_sides_are_done() {
    let (mut loopback, address) = loopback(1);
    loopback.sync(wanted(Protocol::Tcp, &[echo("a ").await])).await;
    assert_eq!(talk(address, "hello").await.unwrap(), "a hello bye");
    let long = "x".repeat(1 << 20);
    assert_eq!(talk(address, &long).await.unwrap().len(), 2 + long.len() + 4);
}

#[tokio::test]
async fn endpoints_take_turns_and_one_that_refuses_is_passed_over() {
    let (mut loopback, address) = loopback(2);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    loopback
        .sync(wanted(Protocol::Tcp, &[echo("a").await, gone, echo("b").await]))
        .await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(talk(address, "").await.unwrap());
    }
    assert_eq!(heard, ["a bye", "b bye", "b bye"]);
}

#[tokio::test]
async fn new_connections_follow_the_endpoints_and_old_ones_go_on() {
    let (mut loopback, address) = loopback(3);
    loopback.sync(wanted(Protocol::Tcp, &[echo("a ").await])).await;
    let mut old = TcpStream::connect(address).await.unwrap();
    let mut name = [0; 2];
    old.read_exact(&mut name).await.unwrap();
    loopback.sync(wanted(Protocol::Tcp, &[echo("b ").await])).await;
    assert_eq!(talk(address, "new").await.unwrap(), "b new bye");
    loopback.sync(Wanted::new()).await;
    old.write_all(b"old").await.unwrap();
    old.shutdown().await.unwrap();
    let mut heard = String::new();
    old.read_to_string(&mut heard).await.unwrap();
    assert_eq!((&name, heard.as_str()), (b"a ", "old bye"));
}

#[tokio::test]
async fn a_port_of_somebody_else_is_tried_again() {
    let (mut loopback, address) = loopback(4);
    let other = TcpListener::bind(address).await.unwrap();
    let endpoint = echo("a").await;
    loopback.sync(wanted(Protocol::Tcp, &[endpoint])).await;
    assert!(loopback.refused.contains_key(&(Protocol::Tcp, PORT)));
    drop(other);
    loopback.sync(wanted(Protocol::Tcp, &[endpoint])).await;
    assert_eq!(talk(address, "").await.unwrap(), "a bye");
    assert!(loopback.refused.is_empty());
}

#[tokio::test]
async fn dropping_it_ends_everything() {
    let (mut loopback, address) = loopback(5);
    let tasks = loopback.tasks.clone();
    loopback.sync(wanted(Protocol::Tcp, &[echo("a").await])).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    drop(loopback);
    tasks.close();
    tokio::time::timeout(DEADLINE, tasks.wait()).await.unwrap();
    let mut heard = Vec::new();
    // Whether it is closed or reset depends on what was under way.
    let _ = tokio::time::timeout(DEADLINE, open.read_to_end(&mut heard))
        .await
        .unwrap();
    assert_eq!(
        talk(address, "").await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

/// An endpoint that answers each datagram with its name and what it got.
async fn answers(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut datagram = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            let answer = [name.as_bytes(), &datagram[..length]].concat();
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

async fn exchange(client: &UdpSocket, to: SocketAddr, said: &str) -> String {
    client.send_to(said.as_bytes(), to).await.unwrap();
    let mut datagram = [0; 64];
    let (length, from) = tokio::time::timeout(DEADLINE, client.recv_from(&mut datagram))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(from, to, "the answer comes from where it was asked");
    String::from_utf8(datagram[..length].to_vec()).unwrap()
}

#[tokio::test]
async fn a_client_of_datagrams_keeps_its_endpoint_while_there_is_one() {
    let (mut loopback, address) = loopback(6);
    let (a, b) = (answers("a ").await, answers("b ").await);
    loopback.sync(wanted(Protocol::Udp, &[a, b])).await;
    let clients = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    for n in 0..3 {
        assert_eq!(exchange(&clients[0], address, &n.to_string()).await, format!("a {n}"));
        assert_eq!(exchange(&clients[1], address, &n.to_string()).await, format!("b {n}"));
    }
    loopback.sync(wanted(Protocol::Udp, &[b])).await;
    assert_eq!(exchange(&clients[1], address, "same").await, "b same");
    assert_eq!(exchange(&clients[0], address, "moved").await, "b moved");
}

#[test]
fn ports_with_endpoints_are_wanted() {
    use crate::model::{Port, PortId};
    let port = |name: &str, protocol, node_port, endpoints: &[&str]| Port {
        id: PortId {
            namespace: "default".into(),
            name: name.into(),
            port: "".into(),
            protocol,
        },
        port: 80,
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        node_port,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Local,
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        local: Default::default(),
    };
    let ports = [
        port("tcp", Protocol::Tcp, Some(30001), &["10.128.0.2:80", "[fd00::1]:80"]),
        port("udp", Protocol::Udp, Some(30001), &["10.128.0.2:53"]),
        port("sctp", Protocol::Sctp, Some(30002), &["10.128.0.2:7"]),
        port("empty", Protocol::Tcp, Some(30003), &[]),
        port("inner", Protocol::Tcp, None, &["10.128.0.2:80"]),
    ];
    let wanted = super::wanted(&ports.map(|port| (port.id.clone(), port)).into());
    let found: Vec<_> = wanted
        .into_iter()
        .map(|(at, endpoints)| (at, endpoints.len()))
        .collect();
    assert_eq!(found, [((Protocol::Tcp, 30001), 1), ((Protocol::Udp, 30001), 1)]);
}
