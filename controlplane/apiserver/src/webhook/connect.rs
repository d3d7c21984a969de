//! Connections over TLS to other programs: webhooks, aggregated servers, issuers of tokens. They are kept for the next
//! request, a few to each, and closed when nobody has used them for a while.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoints;
use crate::registry::reader::Reader;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection that nobody uses is kept, and how many are, to one host.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS: usize = 16;

/// A client that keeps its connections.
pub(crate) type Kept<B> = Client<Connector, B>;

/// Why there is no connection, as Go words it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("service {name:?} not found")]
    NoService { name: String },
    #[error("{0}")]
    Failed(String),
}

/// Where connections go.
pub(crate) enum Way {
    /// To the host and the port of the request.
    Direct,
    /// To the endpoints of a Service.
    Service {
        reader: Arc<dyn Reader>,
        namespace: String,
        name: String,
        port: u16,
    },
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Place>);

struct Place {
    way: Way,
    tls: Arc<ClientConfig>,
    /// What the certificate must be for, if not the host of the request.
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    pub(crate) fn new(way: Way, tls: Arc<ClientConfig>, server_name: Option<ServerName<'static>>) -> Self {
        Connector(Arc::new(Place { way, tls, server_name }))
    }

    /// A client that opens its connections this way.
    pub(crate) fn client<B>(self) -> Kept<B>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
    {
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(self)
    }
}

impl Place {
    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let addresses: Vec<SocketAddr> = match &self.way {
            Way::Service {
                reader,
                namespace,
                name,
                port,
            } => endpoints(&**reader, namespace, name, *port).await?,
            Way::Direct => tokio::net::lookup_host((host, port))
                .await
                .map_err(|error| ConnectError::Failed(format!("dial tcp: lookup {host}: {error}")))?
                .collect(),
        };
        let server = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|error| ConnectError::Failed(error.to_string()))?,
        };
        let mut last = "no endpoints available".to_owned();
        for address in addresses {
            match dial(address, (!plain).then_some((&self.tls, &server))).await {
                Ok(stream) => return Ok(stream),
                Err(why) => last = why,
            }
        }
        Err(ConnectError::Failed(last))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, ConnectError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let place = self.0.clone();
        Box::pin(async move { place.connect(&uri).await.map(TokioIo::new) })
    }
}

async fn dial(address: SocketAddr, tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>) -> Result<Stream, String> {
    let connect = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("dial tcp {address}: connect: {}", errno_words(&error)))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some((tls, server)) = tls else {
            return Ok(Stream::Plain(stream));
        };
        let connector = TlsConnector::from(tls.clone());
        let stream = connector.connect(server.clone(), stream).await;
        stream
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(|error| tls_words(&error))
    };
    match tokio::time::timeout(CONNECT, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// A system call's error as Go words it: `connection refused`.
fn errno_words(error: &io::Error) -> String {
    let text = error.to_string();
    let mut words = text.split(" (os error").next().unwrap_or_default().chars();
    let first = words.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(words).collect()
}

/// What is wrong with a certificate, as Go says it.
fn tls_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.as_str() {
        // A signature that does not fit is that of another authority of the same name.
        text if text.contains("UnknownIssuer") || text.contains("BadSignature") => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        text if text.contains("NotValidForName") || text.contains("not valid for name") => {
            format!("tls: failed to verify certificate: x509: {text}")
        }
        text => format!("tls: {text}"),
    }
}

/// Why a request got no answer.
pub(crate) fn why(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// The Service that a request was for and that is not there.
pub(crate) fn missing_service(error: &Error) -> Option<&str> {
    match std::error::Error::source(error)?.downcast_ref::<ConnectError>()? {
        ConnectError::NoService { name } => Some(name),
        ConnectError::Failed(_) => None,
    }
}

/// The whole of an answer, up to so many bytes.
pub(crate) async fn collect(response: Response<Incoming>, limit: usize) -> Result<(StatusCode, Bytes), String> {
    let code = response.status();
    let mut body = response.into_body();
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else { continue };
        if out.len() + data.len() > limit {
            return Err(format!("the answer is larger than {limit} bytes"));
        }
        out.extend_from_slice(&data);
    }
    Ok((code, out.freeze()))
}

/// A connection.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
