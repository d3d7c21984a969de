//! The client's side, by SPDY/3.1: how a runtime's streaming server is reached at the URL it gave.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use cri::{Connection, Error as CriError, Session, Streams, TerminalSize};
use futures::FutureExt;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming as Body, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    Patience,
    accept::STREAM_PROTOCOL,
    mux::Stream,
    port_forward,
    remote_command::{STREAM_TYPE, exit_code, is_status},
    spdy::{self, Opener},
};

/// For the server to answer a connection, and the upgrade.
const ANSWER: Duration = Duration::from_secs(30);
/// How much of what went wrong is read.
const MAX_TEXT: u64 = 64 * 1024;
/// Sizes of a terminal that wait.
const SIZES: usize = 4;

const COMMAND_PROTOCOLS: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
const FORWARD_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("\"{0}\" is not the address of a streaming server that is reached here: http://HOST:PORT/PATH")]
    Address(String),
    #[error("connecting to {to}")]
    Connect {
        to: String,
        #[source]
        source: io::Error,
    },
    #[error("{to} does not answer")]
    Silent { to: String },
    #[error("asking {to} for a stream")]
    Request {
        to: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{to} refused a stream: {code}: {message}")]
    Refused {
        to: String,
        code: StatusCode,
        message: String,
    },
    #[error("opening a stream")]
    Stream(#[source] spdy::Error),
}

/// Reaches streaming servers. Connections are tasks of the tracker; they end with their sessions.
#[derive(Clone, Debug)]
pub struct Client {
    tasks: TaskTracker,
    patience: Patience,
}

impl Client {
    pub fn new(tasks: TaskTracker, patience: Patience) -> Self {
        Self { tasks, patience }
    }

    /// The streams of a command, or of a container that is attached to.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn remote_command(&self, url: &str, streams: Streams) -> Result<Session, ClientError> {
        let (io, protocol) = connect(url, &COMMAND_PROTOCOLS).await?;
        let (driver, opener) = spdy::client(io, self.patience.idle);
        let (sizes, asked) = mpsc::channel(SIZES);
        let (hand, resize) = tokio::sync::oneshot::channel::<Stream>();
        self.tasks.spawn(async move {
            let resizing = async {
                if let Ok(stream) = resize.await {
                    send_sizes(asked, stream).await;
                }
            };
            let driving = driver.run();
            tokio::pin!(driving);
            let result = tokio::select! {
                result = &mut driving => result,
                () = resizing => driving.await,
            };
            if let Err(error) = result {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection to a streaming server ended"
                );
            }
        });
        let open = async |kind: &str, wanted: bool| match wanted {
            true => open(&opener, vec![(STREAM_TYPE.to_owned(), kind.to_owned())])
                .await
                .map(Some),
            false => Ok(None),
        };
        let error = open("error", true).await?;
        let stdin = open("stdin", streams.stdin).await?;
        let stdout = open("stdout", streams.stdout).await?;
        let stderr = open("stderr", streams.stderr && !streams.tty).await?;
        let resize = open("resize", streams.tty && protocol <= 1).await?;
        let has_sizes = resize.is_some();
        if let Some(stream) = resize {
            let _ = hand.send(stream); // the connection may be gone: then all streams say so
        }
        let structured = protocol == 0;
        Ok(Session {
            stdin: stdin.map(|stream| Box::pin(stream) as cri::Writer),
            stdout: stdout.map(|stream| Box::pin(stream) as cri::Reader),
            stderr: stderr.map(|stream| Box::pin(stream) as cri::Reader),
            resize: has_sizes.then_some(sizes),
            ended: ended(error, structured).boxed(),
        })
    }

    /// A connection to a port.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses. That nobody listens on the port, reading tells.
    pub async fn port_forward(&self, url: &str, port: u16) -> Result<Connection, ClientError> {
        let (io, _) = connect(url, &FORWARD_PROTOCOLS).await?;
        let (driver, opener) = spdy::client(io, self.patience.idle);
        self.tasks.spawn(async move {
            if let Err(error) = driver.run().await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection to a streaming server ended"
                );
            }
        });
        let mut error = open(&opener, port_forward::headers("error", port, 0)).await?;
        let data = open(&opener, port_forward::headers("data", port, 0)).await?;
        let _ = error.shutdown().await; // nothing is ever said on it from here
        Ok(Box::pin(Forwarded {
            data,
            error: Some(error),
            complaint: Vec::new(),
        }))
    }
}

async fn open(opener: &Opener, headers: Vec<(String, String)>) -> Result<Stream, ClientError> {
    opener.open(headers).await.map_err(ClientError::Stream)
}

/// Connects and upgrades; gives the connection and which of the protocols the server chose.
async fn connect(url: &str, protocols: &[&'static str]) -> Result<(TokioIo<Upgraded>, usize), ClientError> {
    let bad = || ClientError::Address(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let to = uri.authority().ok_or_else(bad)?.to_string();
    if uri.scheme_str() != Some("http") {
        return Err(bad());
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let socket = timeout(ANSWER, TcpStream::connect((host, uri.port_u16().unwrap_or(80)))).await;
    let socket = socket.map_err(|_| ClientError::Silent { to: to.clone() })?;
    let socket = socket
        .and_then(|socket| socket.set_nodelay(true).map(|()| socket))
        .map_err(|source| ClientError::Connect { to: to.clone(), source })?;
    let upgraded = timeout(ANSWER, upgrade(socket, &uri, &to, protocols)).await;
    upgraded.map_err(|_| ClientError::Silent { to })?
}

async fn upgrade(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    uri: &Uri,
    to: &str,
    protocols: &[&'static str],
) -> Result<(TokioIo<Upgraded>, usize), ClientError> {
    let failed = |source| ClientError::Request {
        to: to.to_owned(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(failed)?;
    // It may have handed over its socket by the time that the answer is seen.
    let connection = connection.with_upgrades().fuse();
    tokio::pin!(connection);
    let asking = sender.send_request(request(uri, to, protocols));
    tokio::pin!(asking);
    let response = tokio::select! {
        biased;
        response = &mut asking => response.map_err(failed)?,
        ended = &mut connection => {
            ended.map_err(failed)?;
            asking.await.map_err(failed)?
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(to, response, connection).await);
    }
    let named = response
        .headers()
        .get(STREAM_PROTOCOL)
        .and_then(|name| name.to_str().ok());
    let last = protocols.len().saturating_sub(1);
    let chosen = named.and_then(|name| protocols.iter().position(|known| *known == name));
    let upgrading = hyper::upgrade::on(response);
    tokio::pin!(upgrading);
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut upgrading => upgraded,
        _ = &mut connection => upgrading.await,
    };
    Ok((TokioIo::new(upgraded.map_err(failed)?), chosen.unwrap_or(last)))
}

fn request(uri: &Uri, to: &str, protocols: &[&'static str]) -> Request<Empty<bytes::Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = http::Method::POST;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(to) {
        headers.insert(HOST, host);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    for protocol in protocols {
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    request
}

async fn refused(
    to: &str,
    response: Response<Body>,
    connection: impl Future<Output = Result<(), hyper::Error>>,
) -> ClientError {
    let code = response.status();
    let limit = usize::try_from(MAX_TEXT).unwrap_or(usize::MAX);
    let text = Limited::new(response.into_body(), limit).collect();
    let text = tokio::select! {
        biased;
        text = text => text.ok(),
        _ = connection => None,
    };
    let text = text.map(|text| text.to_bytes()).unwrap_or_default();
    ClientError::Refused {
        to: to.to_owned(),
        code,
        message: String::from_utf8_lossy(&text).trim().to_owned(),
    }
}

/// Waits for the server's word on how the command ended.
async fn ended(error: Option<Stream>, structured: bool) -> Result<i32, CriError> {
    let mut text = Vec::new();
    if let Some(error) = error {
        let read = error.take(MAX_TEXT).read_to_end(&mut text).await;
        // Servers of Go write their word, and then reset every stream of the connection.
        if let Err(error) = read
            && text.is_empty()
        {
            return Err(CriError::failed("the connection to the container broke", error));
        }
    }
    let outcome = match structured || is_status(&text) {
        true => exit_code(&text),
        false if text.is_empty() => Ok(0),
        false => Err(String::from_utf8_lossy(&text).into_owned()),
    };
    outcome.map_err(|message| CriError::Failed {
        doing: "the command did not run".to_owned(),
        source: message.into(),
    })
}

async fn send_sizes(mut sizes: mpsc::Receiver<TerminalSize>, mut stream: Stream) {
    while let Some(TerminalSize { width, height }) = sizes.recv().await {
        let text = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A forwarded connection; where it never came about, its end is the server's word on why.
struct Forwarded {
    data: Stream,
    error: Option<Stream>,
    complaint: Vec<u8>,
}

impl Forwarded {
    /// Reads what the server says went wrong, to the end.
    fn poll_complaint(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(error) = self.error.as_mut() {
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(error).poll_read(cx, &mut buffer));
            let full = self.complaint.len() as u64 >= MAX_TEXT;
            if read.is_err() || buffer.filled().is_empty() || full {
                self.error = None;
            }
            self.complaint.extend_from_slice(buffer.filled());
        }
        if self.complaint.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let text = String::from_utf8_lossy(&self.complaint).into_owned();
        Poll::Ready(Err(io::Error::other(text)))
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let read = ready!(Pin::new(&mut this.data).poll_read(cx, into));
        match read {
            Ok(()) if into.filled().len() > before || into.remaining() == 0 => Poll::Ready(Ok(())),
            Ok(()) => this.poll_complaint(cx),
            Err(error) => {
                // The word on why may have come just before.
                match this.poll_complaint(cx) {
                    Poll::Ready(Err(complaint)) => Poll::Ready(Err(complaint)),
                    _ => Poll::Ready(Err(error)),
                }
            }
        }
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().data).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().data).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().data).poll_shutdown(cx)
    }
}
