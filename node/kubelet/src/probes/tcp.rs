//! TCP probes: a connection that is made and closed.

use std::{io, net::IpAddr, time::Duration};

use tokio::net::TcpStream;

use crate::pod::{Container, IntOrString, TcpSocket};

/// Connects once.
///
/// # Errors
/// Why not, worded as Go's dialer does.
pub(super) async fn connect(
    socket: &TcpSocket,
    container: &Container,
    ip: Option<IpAddr>,
    timeout: Duration,
) -> Result<(), String> {
    let (host, port) = target(&socket.host, &socket.port, container, ip)?;
    dial(&host, port, timeout).await.map(drop)
}

/// The host and port a handler means: the pod's address unless it names another.
pub(super) fn target(
    host: &str,
    port: &IntOrString,
    container: &Container,
    ip: Option<IpAddr>,
) -> Result<(String, u16), String> {
    let port = container.port(port)?;
    match (host, ip) {
        ("", Some(ip)) => Ok((ip.to_string(), port)),
        ("", None) => Err("the pod has no address yet".into()),
        (host, _) => Ok((host.to_owned(), port)),
    }
}

/// Connects to `host:port` within `timeout`.
pub(super) async fn dial(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {shown}: {}", words(&error))),
        Err(_elapsed) => Err(format!("dial tcp {shown}: i/o timeout")),
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}
