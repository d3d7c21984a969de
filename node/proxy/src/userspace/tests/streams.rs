use std::net::IpAddr;

use tokio::net::TcpSocket;

use super::*;
use crate::userspace::protocol::Refusal;

#[tokio::test]
async fn connections_are_joined_until_both_sides_are_done() {
    let (mut listeners, at) = (listeners(), address(1));
    lead(&mut listeners, key(Protocol::Tcp, at), &[echo("a ").await]);
    assert_eq!(talk(at, "hello").await.unwrap(), "a hello bye");
    let long = "x".repeat(4 << 20);
    assert_eq!(talk(at, &long).await.unwrap().len(), 2 + long.len() + 4);
}

#[tokio::test]
async fn endpoints_take_turns_and_one_that_refuses_is_passed_over() {
    let (mut listeners, at) = (listeners(), address(2));
    let endpoints = [echo("a").await, nobody().await, echo("b").await];
    lead(&mut listeners, key(Protocol::Tcp, at), &endpoints);
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(talk(at, "").await.unwrap());
    }
    assert_eq!(heard, ["a bye", "b bye", "b bye"]);
}

#[tokio::test]
async fn new_connections_follow_the_endpoints_and_old_ones_go_on() {
    let (mut listeners, at) = (listeners(), address(3));
    let key = key(Protocol::Tcp, at);
    lead(&mut listeners, key, &[echo("a ").await]);
    let mut old = TcpStream::connect(at).await.unwrap();
    let mut name = [0; 2];
    old.read_exact(&mut name).await.unwrap();
    lead(&mut listeners, key, &[echo("b ").await]);
    assert_eq!(talk(at, "new").await.unwrap(), "b new bye");
    listeners.update(&[key], vec![]);
    old.write_all(b"old").await.unwrap();
    old.shutdown().await.unwrap();
    let mut heard = String::new();
    old.read_to_string(&mut heard).await.unwrap();
    assert_eq!((&name, heard.as_str()), (b"a ", "old bye"));
    listeners.retire();
    tokio::time::timeout(DEADLINE, listeners.drained()).await.unwrap();
    let error = talk(at, "").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "what is closed refuses");
}

#[tokio::test]
async fn a_port_of_somebody_else_and_an_address_of_another_machine_are_refused() {
    let (mut listeners, at) = (listeners(), address(4));
    let other = TcpListener::bind(at).await.unwrap();
    let endpoint = echo("a").await;
    let wanted = || vec![(key(Protocol::Tcp, at), route(&[endpoint]))];
    assert_eq!(
        listeners.update(&[], wanted()),
        [(key(Protocol::Tcp, at), Refusal::Taken)]
    );
    drop(other);
    assert_eq!(listeners.update(&[], wanted()), []);
    assert_eq!(talk(at, "").await.unwrap(), "a bye");
    let far = key(Protocol::Tcp, "192.0.2.200:80".parse().unwrap());
    assert_eq!(
        listeners.update(&[], vec![(far, route(&[endpoint]))]),
        [(far, Refusal::Absent)]
    );
}

#[tokio::test]
async fn a_client_that_nobody_accepts_is_reset() {
    let (mut listeners, at) = (listeners(), address(5));
    lead(&mut listeners, key(Protocol::Tcp, at), &[nobody().await]);
    let error = talk(at, "").await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_breaks_the_client_off() {
    let (mut listeners, at) = (listeners(), address(6));
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    lead(
        &mut listeners,
        key(Protocol::Tcp, at),
        &[endpoint.local_addr().unwrap()],
    );
    let mut client = TcpStream::connect(at).await.unwrap();
    let (mut served, _) = endpoint.accept().await.unwrap();
    served.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    client.read_exact(&mut half).await.unwrap();
    socket2::SockRef::from(&served)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(served);
    let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionReset,
        "not taken for a proper end"
    );
}

#[tokio::test]
async fn a_client_of_the_loopback_interface_is_seen_by_its_own_address() {
    let (mut listeners, at) = (listeners(), address(7));
    let endpoint = TcpListener::bind("127.77.1.7:0").await.unwrap();
    lead(
        &mut listeners,
        key(Protocol::Tcp, at),
        &[endpoint.local_addr().unwrap()],
    );
    let client = TcpSocket::new_v4().unwrap();
    client.bind("127.77.2.7:0".parse().unwrap()).unwrap();
    let _client = client.connect(at).await.unwrap();
    let (_, seen) = endpoint.accept().await.unwrap();
    assert_eq!(seen.ip(), "127.77.2.7".parse::<IpAddr>().unwrap());
}

#[tokio::test]
async fn a_client_with_affinity_returns_to_its_endpoint() {
    let (mut listeners, at) = (listeners(), address(8));
    let with_affinity = Route {
        affinity: Some(60),
        ..route(&[echo("a").await, echo("b").await])
    };
    listeners.update(&[], vec![(key(Protocol::Tcp, at), with_affinity)]);
    for _ in 0..4 {
        assert_eq!(talk(at, "").await.unwrap(), "a bye");
    }
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.77.2.8:0".parse().unwrap()).unwrap();
    assert_eq!(talk_by(other.connect(at).await.unwrap(), "").await.unwrap(), "b bye");
}

#[tokio::test]
async fn one_listener_cannot_take_the_connections_of_others() {
    let mut listeners = Listeners::new(Shared::new(4));
    let (greedy, other) = (address(9), address(10));
    let endpoint = echo("a").await;
    lead(&mut listeners, key(Protocol::Tcp, greedy), &[endpoint]);
    lead(&mut listeners, key(Protocol::Tcp, other), &[endpoint]);
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(TcpStream::connect(greedy).await.unwrap());
    }
    assert_eq!(talk(other, "").await.unwrap(), "a bye");
    let last = held.pop().unwrap();
    drop(held);
    assert_eq!(talk_by(last, "").await.unwrap(), "a bye", "who waits has its turn");
}
