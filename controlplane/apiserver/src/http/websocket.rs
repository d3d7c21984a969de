//! WebSockets (RFC 6455) for answers that are streams: browsers cannot read a streaming response otherwise. The server
//! sends, the client listens; what it says is read only to answer pings and to see it leave.
//!
//! A message is written before the next one is asked for, so that a slow reader slows down its own source and holds no
//! memory. The subprotocols are those of Kubernetes' `wsstream`: bytes as they are, or as base64 text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use api::Status;

use super::body::Body;

/// The largest message, in bytes before encoding.
const MESSAGE: usize = 32 * 1024;

/// How bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Binary,
    Base64,
}

/// Subprotocols by their names.
const PROTOCOLS: [(&str, Encoding); 2] = [
    ("binary.k8s.io", Encoding::Binary),
    ("base64.binary.k8s.io", Encoding::Base64),
];

/// A WebSocket that has been agreed on, and begins when the answer has been sent.
pub(crate) struct Accepted {
    upgrade: OnUpgrade,
    encoding: Encoding,
}

/// Whether a request asks for a WebSocket.
pub(crate) fn asked(headers: &HeaderMap) -> bool {
    has(headers, &CONNECTION, "upgrade") && has(headers, &UPGRADE, "websocket")
}

/// Agrees on a WebSocket; the response is what the client waits for.
pub(crate) fn accept(request: &mut Request<Body>) -> Result<(Response<Body>, Accepted), Status> {
    let refused = |why: &str| Status::bad_request(format!("the WebSocket cannot be opened: {why}"));
    let headers = request.headers();
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(refused("its version must be 13"));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| refused("it has no Sec-WebSocket-Key"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_ACCEPT, answer_to(key.as_bytes()));
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("websocket"));
    let (name, encoding) = choose(headers).ok_or_else(|| refused("none of its subprotocols is known"))?;
    if let Some(name) = name {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| refused("the connection does not speak HTTP/1.1"))?;
    Ok((response, Accepted { upgrade, encoding }))
}

/// The first of the client's subprotocols that is known; without any, bytes are sent as they are.
fn choose(headers: &HeaderMap) -> Option<(Option<&'static str>, Encoding)> {
    let mut asked = words(headers, &SEC_WEBSOCKET_PROTOCOL).peekable();
    if asked.peek().is_none() {
        return Some((None, Encoding::Binary));
    }
    asked.find_map(|wanted| {
        let (name, encoding) = PROTOCOLS.iter().find(|(name, _)| *name == wanted)?;
        Some((Some(*name), *encoding))
    })
}

fn words<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn has(headers: &HeaderMap, name: &http::HeaderName, wanted: &str) -> bool {
    words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted))
}

fn answer_to(key: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&derive_accept_key(key)).expect("invariant: base64 is ASCII")
}

impl Accepted {
    /// Sends a body to its end, or until the client leaves.
    pub(crate) async fn send(self, body: Body) {
        match self.upgrade.await {
            Ok(socket) => relay(TokioIo::new(socket), body, self.encoding).await,
            Err(error) => tracing::debug!(%error, "a WebSocket did not come about"),
        }
    }
}

async fn relay(socket: impl AsyncRead + AsyncWrite + Unpin, mut body: Body, encoding: Encoding) {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE))
        .write_buffer_size(0);
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(limits)).await;
    let (mut to_client, mut from_client) = socket.split();
    loop {
        let data = tokio::select! {
            biased;
            said = from_client.next() => match said {
                // Pings are answered by the library.
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
            frame = body.frame() => match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => data,
                Some(Ok(Err(_))) => continue,
                Some(Err(error)) => {
                    tracing::debug!(%error, "the source of a WebSocket broke off");
                    break;
                }
                None => break,
            },
        };
        for message in messages(&data, encoding) {
            if to_client.send(message).await.is_err() {
                return;
            }
        }
    }
    let done = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    // Whether the client hears it is its own affair.
    let _ = to_client.send(Message::Close(Some(done))).await;
    let _ = to_client.close().await;
}

fn messages(data: &Bytes, encoding: Encoding) -> impl Iterator<Item = Message> {
    let starts = (0..data.len()).step_by(MESSAGE);
    starts.map(move |start| {
        let part = data.slice(start..data.len().min(start + MESSAGE));
        match encoding {
            Encoding::Binary => Message::Binary(part),
            Encoding::Base64 => Message::text(STANDARD.encode(part)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(protocols: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let protocols = protocols.map(|text| HeaderValue::from_str(text).expect("a header"));
        headers.extend(protocols.map(|value| (SEC_WEBSOCKET_PROTOCOL, value)));
        headers
    }

    #[test]
    fn answers_as_the_specification_shows() {
        // RFC 6455, section 1.3.
        assert_eq!(answer_to(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn chooses_the_first_subprotocol_that_is_known() {
        let cases = [
            (None, Some((None, Encoding::Binary))),
            (Some("binary.k8s.io"), Some((Some("binary.k8s.io"), Encoding::Binary))),
            (
                Some("v9, base64.binary.k8s.io, binary.k8s.io"),
                Some((Some("base64.binary.k8s.io"), Encoding::Base64)),
            ),
            (Some("channel.k8s.io"), None),
        ];
        for (asked, expected) in cases {
            assert_eq!(choose(&request(asked)), expected, "{asked:?}");
        }
    }

    async fn client_of(socket: impl AsyncRead + AsyncWrite + Unpin) -> WebSocketStream<impl AsyncRead + AsyncWrite> {
        WebSocketStream::from_raw_socket(socket, Role::Client, None).await
    }

    #[tokio::test]
    async fn the_source_is_asked_only_as_fast_as_the_client_reads() {
        let (client, server) = tokio::io::duplex(4096);
        let (asked, made) = std::sync::mpsc::channel();
        let chunks = futures::stream::iter(0..1000).map(move |n: u32| {
            asked.send(n).expect("the test listens");
            Ok(Bytes::from(vec![b'x'; 4096]))
        });
        let sent = tokio::spawn(relay(server, Body::stream(chunks), Encoding::Binary));
        tokio::task::yield_now().await;
        let before = made.try_iter().count();
        assert!(before <= 3, "{before} chunks were made for a client that reads nothing");
        let all: Vec<_> = client_of(client).await.collect().await;
        sent.await.expect("it ends well");
        let bytes = all.iter().map(|message| match message {
            Ok(Message::Binary(data)) => data.len(),
            _ => 0,
        });
        assert_eq!(bytes.sum::<usize>(), 1000 * 4096);
        // What comes after it is the client's own reply, which nobody may be there to read.
        let goodbye = all.iter().find_map(|message| match message {
            Ok(Message::Close(Some(frame))) => Some(frame.code),
            _ => None,
        });
        assert_eq!(goodbye, Some(CloseCode::Normal));
    }

    #[tokio::test]
    async fn pings_are_answered_and_leaving_ends_it() {
        let (client, server) = tokio::io::duplex(4096);
        let silent = Body::stream(futures::stream::pending());
        let sent = tokio::spawn(relay(server, silent, Encoding::Base64));
        let mut client = std::pin::pin!(client_of(client).await);
        client.send(Message::Ping("hi".into())).await.expect("written");
        let pong = client.next().await.expect("an answer").expect("a message");
        assert_eq!(pong, Message::Pong("hi".into()));
        client.send(Message::Close(None)).await.expect("written");
        while client.next().await.is_some_and(|message| message.is_ok()) {}
        sent.await.expect("it ends well");
    }

    #[test]
    fn bytes_go_out_as_they_are_or_as_text() {
        let data = Bytes::from_static(b"\xff\x00");
        let sent = |encoding| messages(&data, encoding).collect::<Vec<_>>();
        assert_eq!(sent(Encoding::Binary), [Message::Binary(data.clone())]);
        assert_eq!(sent(Encoding::Base64), [Message::text("/wA=")]);
        let long = Bytes::from(vec![0; MESSAGE + 1]);
        assert_eq!(
            messages(&long, Encoding::Binary)
                .map(|message| message.len())
                .collect::<Vec<_>>(),
            [MESSAGE, 1]
        );
    }
}
