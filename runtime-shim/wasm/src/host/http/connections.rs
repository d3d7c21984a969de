//! A service's connections: accepted as long as there is room, served with HTTP/1.1 or h2c as the client likes, and
//! drained when the container is asked to end.
//!
//! Asked to end, a service lingers: the rest of the cluster learns of it at the same time, and until the last proxy leads
//! clients elsewhere, those who come are still answered, and told that the connection closes.

use std::{convert::Infallible, io, net::Ipv4Addr, sync::Arc, time::Duration};

use http::{HeaderValue, Response, Version, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Service;

/// Connections of one container.
const CONNECTIONS: usize = 4_000;
/// Within which a client must send a request's head.
const HEAD: Duration = Duration::from_secs(30);
/// A service that was asked to end lingers until nobody has come for this long.
const QUIET: Duration = Duration::from_millis(500);
/// How long it lingers if clients keep coming; they know nothing of Services then.
const LINGER: Duration = Duration::from_secs(5);
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

/// How far a service's end has come.
struct Ending {
    /// It was asked to end, and lingers.
    asked: CancellationToken,
    /// It takes no requests any more.
    over: CancellationToken,
}

impl Ending {
    /// Tells a client of HTTP/1 to come back by another connection; HTTP/2 has a frame for that.
    fn announce<B>(&self, version: Version, response: &mut Response<B>) {
        if self.asked.is_cancelled() && version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

impl Service {
    /// Serves until `stop`, lingers, and then waits until every request that has begun is answered.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let ending = Arc::new(Ending {
            asked: stop,
            over: CancellationToken::new(),
        });
        loop {
            tokio::select! {
                () = ending.asked.cancelled() => break,
                accepted = accept(&listener, &connections) => self.take(accepted, &ending),
            }
        }
        let end = Instant::now() + LINGER;
        let mut quiet = Instant::now() + QUIET;
        while Instant::now() < end.min(quiet) {
            tokio::select! {
                () = sleep_until(end.min(quiet)) => break,
                accepted = accept(&listener, &connections) => self.take(accepted, &ending),
            }
            quiet = Instant::now() + QUIET;
        }
        drop(listener);
        ending.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn take(self: &Arc<Self>, accepted: Option<(TcpStream, OwnedSemaphorePermit)>, ending: &Arc<Ending>) {
        let Some((stream, permit)) = accepted else { return };
        let (service, ending) = (Arc::clone(self), Arc::clone(ending));
        self.spawn(async move {
            service.connection(stream, ending).await;
            drop(permit);
        });
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, ending: Arc<Ending>) {
        // Before the first byte it is not known which HTTP this will be, and so no other timeout runs.
        tokio::select! {
            readable = timeout(HEAD, stream.readable()) => match readable {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            },
            () = ending.over.cancelled() => return,
        }
        let service = hyper::service::service_fn(|request| {
            let (service, ending) = (Arc::clone(&self), Arc::clone(&ending));
            async move {
                let version = request.version();
                let mut response = service.handle(request).await;
                ending.announce(version, &mut response);
                Ok::<_, Infallible>(response)
            }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            // Who has said all there is to say still wants the answer.
            .half_close(true)
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
            () = ending.over.cancelled() => {
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
