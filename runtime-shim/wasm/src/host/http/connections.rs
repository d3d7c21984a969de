//! A service's connections: accepted as long as there is room, served with HTTP/1.1 or h2c as the client likes, and
//! drained when the container is asked to end.

use std::{convert::Infallible, io, net::Ipv4Addr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::Service;

/// Connections of one container.
const CONNECTIONS: usize = 4_000;
/// Within which a client must send a request's head.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes hyper buffers of a connection.
const BUFFER: usize = 64 << 10;

/// The listening socket of a service.
pub(crate) fn listen(address: Ipv4Addr, port: u16) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((address, port)).into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

impl Service {
    /// Serves until `stop`, and then until every request that has begun is answered.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &connections) => accepted,
            };
            let Some((stream, permit)) = accepted else { continue };
            let (service, stop) = (Arc::clone(&self), stop.clone());
            self.spawn(async move {
                service.connection(stream, stop).await;
                drop(permit);
            });
        }
        drop(listener);
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, stop: CancellationToken) {
        // Before the first byte it is not known which HTTP this will be, and so no other timeout runs.
        tokio::select! {
            readable = timeout(HEAD, stream.readable()) => match readable {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            },
            () = stop.cancelled() => return,
        }
        let service = hyper::service::service_fn(|request| {
            let service = Arc::clone(&self);
            async move { Ok::<_, Infallible>(service.handle(request).await) }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER);
        server
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .keep_alive_interval(HEAD);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// The next connection, when there is room for one; `None`: the one that was there has gone again.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => {
            stream.set_nodelay(true).ok();
            Some((stream, permit))
        }
        Err(error) => {
            // Out of descriptors, most likely: others must close theirs first.
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
