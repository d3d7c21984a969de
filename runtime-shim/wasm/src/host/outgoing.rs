//! Outgoing `wasi:http`: a guest's requests leave from its pod's address, to names as its pod knows them.
//!
//! Connections are kept for a while and used again by the container's later instances, over plain HTTP/1.1 and, for
//! `https`, over TLS with the node's certificate authorities and, where the pod has a service account, the cluster's.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{
    resolver::LookupError,
    sockets::{Addresses, Route},
    trust,
};

/// How long a connection is kept without use, and how many of one container to one server.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 4;
/// Unless the guest asks for another: as `wasi:http` implementations have it.
const CONNECT: Duration = Duration::from_secs(30);
const FIRST_BYTE: Duration = Duration::from_secs(600);

/// A container's way out. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
}

struct Shared {
    addresses: Arc<Addresses>,
    /// PEM of the cluster's authorities, if the pod has them.
    cluster_authorities: Option<Vec<u8>>,
    /// Made at the first request: most guests never call anybody.
    client: OnceLock<Client<Connector, WasiBody>>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

impl Outgoing {
    pub(crate) fn new(addresses: Arc<Addresses>, cluster_authorities: Option<Vec<u8>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                addresses,
                cluster_authorities,
                client: OnceLock::new(),
            }),
        }
    }
}

impl Shared {
    fn client(&self) -> &Client<Connector, WasiBody> {
        self.client.get_or_init(|| {
            let tls = trust::client_config(self.cluster_authorities.as_deref());
            let connector = Connector {
                addresses: Arc::clone(&self.addresses),
                tls: TlsConnector::from(tls),
            };
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .build(connector)
        })
    }
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let shared = Arc::clone(&self.shared);
        let options = options.unwrap_or_default();
        Box::new(async move {
            let limit = options.connect_timeout.unwrap_or(CONNECT) + options.first_byte_timeout.unwrap_or(FIRST_BYTE);
            let response = timeout(limit, shared.client().request(request))
                .await
                .map_err(|_elapsed| Error::ConnectionReadTimeout)?
                .map_err(|error| reason(&error))?;
            let response = response.map(|body| body.map_err(Error::Hyper).boxed_unsync());
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(std::future::ready(Ok(())));
            Ok((response, done))
        })
    }
}

/// What the guest is told.
fn reason(error: &hyper_util::client::legacy::Error) -> Error {
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        if let Some(refused) = next.downcast_ref::<ConnectError>() {
            return refused.told();
        }
        cause = next.source();
    }
    Error::HttpProtocolError
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the address names no host")]
    NoHost,
    #[error("the name cannot be resolved")]
    Lookup(#[source] LookupError),
    #[error("the pod may not connect there")]
    Forbidden,
    #[error("the connection failed")]
    Connect(#[source] io::Error),
    #[error("the connection took too long")]
    Timeout,
    #[error("TLS failed")]
    Tls(#[source] io::Error),
}

impl ConnectError {
    fn told(&self) -> Error {
        match self {
            Self::NoHost => Error::HttpRequestUriInvalid,
            Self::Lookup(LookupError::Unavailable) => Error::DnsTimeout,
            Self::Lookup(error) => Error::DnsError {
                rcode: Some(error.to_string()),
                info_code: None,
            },
            Self::Forbidden => Error::DestinationIpProhibited,
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            Self::Connect(_) => Error::DestinationUnavailable,
            Self::Timeout => Error::ConnectionTimeout,
            Self::Tls(_) => Error::TlsCertificateError,
        }
    }
}

#[derive(Clone)]
struct Connector {
    addresses: Arc<Addresses>,
    tls: TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Outlet>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let outlet = timeout(CONNECT, connector.connect(&uri))
                .await
                .map_err(|_elapsed| ConnectError::Timeout)??;
            Ok(TokioIo::new(outlet))
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<Outlet, ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = self.dial(host, port).await?;
        if !secure {
            return Ok(Outlet::Plain(stream));
        }
        let name = trust::server_name(host).ok_or(ConnectError::NoHost)?;
        let stream = self.tls.connect(name, stream).await.map_err(ConnectError::Tls)?;
        Ok(Outlet::Tls(Box::new(stream)))
    }

    /// Connects to the first address of a host that takes the connection.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let resolver = &self.addresses.resolver;
        let addresses = resolver.lookup(host).await.map_err(ConnectError::Lookup)?;
        let mut failed = ConnectError::Forbidden;
        for address in addresses {
            let Some(route) = self.addresses.remote((address, port).into()) else {
                continue;
            };
            match open(route).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = ConnectError::Connect(error),
            }
        }
        Err(failed)
    }
}

async fn open(route: Route) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = route.from {
        socket.bind(from)?;
    }
    let stream = socket.connect(route.to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection, with or without TLS.
enum Outlet {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Outlet {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Outlet {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests;
