//! The socket: TLS, HTTP/1.1 and HTTP/2, one task per connection, and an orderly end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls_pki_types::UnixTime;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::pipeline::{Caller, handle};
use crate::authn::Certified;
use crate::server::{ApiServer, Shared};

/// How long a client may take over its handshake, until it says something, or over the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may take to finish when the server ends.
const DRAIN: Duration = Duration::from_secs(10);
/// Requests in flight on one HTTP/2 connection, as Kubernetes.
const MAX_STREAMS: u32 = 250;
/// Bytes of a request's head, in either HTTP version: room for the longest tokens, and for whoever acts for somebody in
/// hundreds of groups.
const MAX_HEAD: usize = 400 * 1024;
/// Headers of a request over HTTP/1.1; over HTTP/2 their size alone counts.
const MAX_HEADERS: usize = 1000;
/// Idle HTTP/2 connections are probed this often, so that dead peers do not hold watches open.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

impl ApiServer {
    /// Answers requests on a socket until `shutdown`; then stops accepting, ends watches, and returns when the
    /// connections have ended or the drain deadline has passed. `tls` offers `h2` and `http/1.1` by ALPN.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        let connections = tokio_util::task::TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (shared, acceptor, shutdown) = (self.shared.clone(), acceptor.clone(), shutdown.clone());
                    connections.spawn(connection(shared, acceptor, stream, peer, shutdown));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let some close.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        // Watches and logs would go on for ever; everything else gets the time to finish.
        self.shared.ending.cancel();
        connections.close();
        if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
            tracing::warn!(
                open = connections.len(),
                "connections were still open when the server ended"
            );
        }
    }
}

async fn connection(
    server: Arc<Shared>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
) {
    // Small answers must not wait for acknowledgements; a socket that refuses this still works.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
    };
    let caller = Caller::Connection {
        certified: certified(&server, &stream),
        loopback: peer.ip().is_loopback(),
        peer: Some(peer.ip()),
    };
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let (server, caller) = (server.clone(), caller.clone());
        async move { Ok::<_, Infallible>(handle(server, caller, request.map(Body::from)).await) }
    });
    // A buffer of the first byte alone: whatever else comes is read past it.
    let mut stream = tokio::io::BufReader::with_capacity(1, stream);
    let said = tokio::select! {
        said = tokio::time::timeout(HEAD_TIMEOUT, stream.fill_buf()) => said,
        () = shutdown.cancelled() => return,
    };
    match said {
        Ok(Ok([_, ..])) => {}
        Ok(Ok([])) => return,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a connection broke off"),
        Err(_) => return tracing::debug!(%peer, "a connection said nothing"),
    }
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error, "a connection broke off");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEP_ALIVE)
        .adaptive_window(false);
    builder
}

/// What the certificate of a connection says of its client; found out once.
fn certified(server: &Shared, stream: &TlsStream<TcpStream>) -> Certified {
    let (_, session) = stream.get_ref();
    let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) else {
        return Certified::No;
    };
    let user = server.certificates.as_ref().and_then(|certificates| {
        let now = Duration::from_secs(server.now().as_second().unsigned_abs());
        certificates.user(chain, UnixTime::since_unix_epoch(now))
    });
    user.map_or(Certified::Refused, |user| Certified::As(Arc::new(user)))
}
