//! Connections to a node port on the loopback address, joined to connections to an endpoint.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Endpoints;

/// How long one endpoint may take to accept before the next one is tried.
const CONNECT: Duration = Duration::from_secs(3);
/// How long to wait after the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Accepts until `stop`; what was accepted goes on until `connections` ends.
pub(super) async fn serve(
    listener: TcpListener,
    endpoints: Endpoints,
    stop: CancellationToken,
    connections: CancellationToken,
    tasks: TaskTracker,
) {
    // Endpoints take turns, so that a few connections are spread evenly.
    let mut turn = 0_usize;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((client, _)) => {
                let mut to = endpoints.borrow().to_vec();
                let first = turn % to.len().max(1);
                to.rotate_left(first);
                turn = turn.wrapping_add(1);
                let ended = connections.clone();
                tasks.spawn(async move { ended.run_until_cancelled(forward(client, to)).await });
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "cannot accept a connection to a node port"
                );
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

async fn forward(mut client: TcpStream, endpoints: Vec<SocketAddr>) {
    let joined = async {
        let mut endpoint = connect(&endpoints).await?;
        client.set_nodelay(true)?;
        endpoint.set_nodelay(true)?;
        copy_bidirectional(&mut client, &mut endpoint).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(error = &error as &dyn Error, "a connection to a node port ended");
    }
}

/// The first endpoint that accepts.
async fn connect(endpoints: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
    for endpoint in endpoints {
        match tokio::time::timeout(CONNECT, TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
