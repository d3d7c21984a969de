//! Connections to a listener, joined to connections to an endpoint.

mod pump;

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::libc::{IP_BIND_ADDRESS_NO_PORT, IPPROTO_IP, c_int, setsockopt, socklen_t};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::choose::is_beyond;
use super::listeners::{Shared, Target};

/// Connections that wait to be accepted; the kernel's own limit may be lower.
const BACKLOG: i32 = 4096;
/// How long the endpoints that are tried may take to accept, as kube-proxy's userspace mode had it.
const TRIES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// How long any further one may.
const LATER_TRIES: Duration = Duration::from_secs(2);
/// How long to wait after the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A socket that listens.
pub(super) fn listen(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // What is accepted inherits it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `stop`; what was accepted goes on.
pub(super) async fn serve(
    listener: Arc<TcpListener>,
    target: Arc<Target>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let accept = async {
        loop {
            // Who is not accepted yet waits in the kernel.
            let permit = shared.permit(&target).await;
            match listener.accept().await {
                Ok((client, from)) => {
                    let called = client.local_addr().map_or(from.ip(), |at| at.ip());
                    shared
                        .connections
                        .spawn(forward(client, from.ip(), called, Arc::clone(&target), permit));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "cannot accept a connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accept).await;
}

async fn forward(
    client: TcpStream,
    from: IpAddr,
    called: IpAddr,
    target: Arc<Target>,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
) {
    let order = target.chooser.lock().order(from, is_beyond(from, called), target.now());
    let endpoint = match connect(&order, from).await {
        Ok((endpoint, at)) => {
            target.chooser.lock().reached(from, at, target.now());
            endpoint
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn Error, "no endpoint accepts");
            return reset(&client);
        }
    };
    if let Err(error) = pump::join(client, endpoint).await {
        tracing::debug!(error = &error as &dyn Error, "a connection broke");
    }
}

/// The first endpoint that accepts. Nothing was sent yet, so trying another is safe.
async fn connect(order: &[SocketAddr], from: IpAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
    let patience = TRIES.into_iter().chain(std::iter::repeat(LATER_TRIES));
    for (endpoint, patience) in order.iter().zip(patience) {
        let dialled = async { socket(*endpoint, from)?.connect(*endpoint).await };
        match tokio::time::timeout(patience, dialled).await {
            Ok(Ok(stream)) => return Ok((stream, *endpoint)),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// A socket towards an endpoint. Where both are on the loopback interface it carries the client's address, as the kernel's
/// translation would.
fn socket(endpoint: SocketAddr, from: IpAddr) -> io::Result<TcpSocket> {
    let socket = match endpoint {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    if keeps_source(endpoint.ip(), from) {
        choose_port_late(&socket)?;
        socket.bind((from, 0).into())?;
    }
    Ok(socket)
}

/// `IP_BIND_ADDRESS_NO_PORT`: the port is chosen when connecting, so that every endpoint can be dialled from all of them.
fn choose_port_late(socket: &TcpSocket) -> io::Result<()> {
    let on: c_int = 1;
    let length = socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    // SAFETY: the option's value is an int, which lives as long as the call.
    let result = unsafe {
        setsockopt(
            socket.as_raw_fd(),
            IPPROTO_IP,
            IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a connection or datagram for an endpoint can leave with the client's address.
pub(super) fn keeps_source(endpoint: IpAddr, from: IpAddr) -> bool {
    from.is_loopback() && endpoint.is_loopback() && from.is_ipv4() && endpoint.is_ipv4()
}

/// Ends a connection so that the other side does not take it for a proper end.
fn reset(stream: &TcpStream) {
    // It ends anyway.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
