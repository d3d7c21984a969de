//! Listeners and the process that holds them, with real sockets on loopback addresses that each test has to itself.

mod datagrams;
pub(crate) mod holding;
mod streams;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::listeners::{Listeners, Shared};
use super::protocol::{Key, Route};
use crate::model::Protocol;

const PORT: u16 = 30080;
const DEADLINE: Duration = Duration::from_secs(10);

/// Each test has an address of its own, on which every port is free.
fn address(test: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 77, 0, test), PORT).into()
}

fn key(protocol: Protocol, at: SocketAddr) -> Key {
    Key { protocol, at }
}

fn route(endpoints: &[SocketAddr]) -> Route {
    Route {
        service: "default/web//tcp".into(),
        endpoints: endpoints.into(),
        beyond: None,
        affinity: None,
    }
}

/// A name service in short: its listeners with nothing to listen for.
fn listeners() -> Listeners {
    Listeners::new(Shared::new(100))
}

fn lead(listeners: &mut Listeners, key: Key, endpoints: &[SocketAddr]) {
    assert_eq!(listeners.update(&[], vec![(key, route(endpoints))]), []);
}

/// Says its name and who calls, then repeats what it is told until the other side is done, and says goodbye.
async fn echo(name: &'static str) -> SocketAddr {
    echo_at(name, "127.0.0.1:0").await
}

async fn echo_at(name: &'static str, at: &str) -> SocketAddr {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await?;
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await?;
                stream.write_all(&said).await?;
                stream.write_all(b" bye").await
            });
        }
    });
    address
}

/// Says `said`, closes its side, and returns what comes back.
async fn talk(to: SocketAddr, said: &str) -> io::Result<String> {
    talk_by(TcpStream::connect(to).await?, said).await
}

async fn talk_by(mut stream: TcpStream, said: &str) -> io::Result<String> {
    stream.write_all(said.as_bytes()).await?;
    stream.shutdown().await?;
    let mut heard = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut heard)).await??;
    Ok(heard)
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

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
