//! WebSockets (RFC 6455) for answers that are streams: browsers cannot read a streaming response otherwise. The server
//! sends, the client listens; what it says is read only to answer pings and to see it leave.
//!
//! A message is written before the next one is asked for, so that a slow reader slows down its own source and holds no
//! memory. The subprotocols are those of Kubernetes' `wsstream`: bytes as they are, or as base64 text.

mod frame;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use api::Status;
use frame::Opcode;

use super::body::Body;

/// What RFC 6455 has both sides add to the client's key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
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
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC.as_bytes()].concat());
    HeaderValue::from_str(&STANDARD.encode(hash)).expect("base64 is ASCII")
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

async fn relay(socket: impl AsyncRead + AsyncWrite, mut body: Body, encoding: Encoding) {
    let (read, mut write) = tokio::io::split(socket);
    let mut client = std::pin::pin!(listen(read));
    loop {
        let message = tokio::select! {
            biased;
            said = &mut client => match said {
                Said::Ping(data, read) => {
                    client.set(listen(read));
                    frame::encode(Opcode::Pong, &data)
                }
                Said::Leaves => break,
            },
            frame = body.frame() => match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => messages(&data, encoding),
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "the source of a WebSocket broke off");
                    break;
                }
                None => break,
            },
        };
        if write.write_all(&message).await.is_err() {
            return;
        }
    }
    // 1000: it is done. Whether the client hears it is its own affair.
    let _ = write
        .write_all(&frame::encode(Opcode::Close, &1000u16.to_be_bytes()))
        .await;
    let _ = write.shutdown().await;
}

/// What a client says that matters, with what it will say next.
enum Said<R> {
    Ping(Vec<u8>, R),
    /// By a close, by ending the connection, or by breaking the rules.
    Leaves,
}

async fn listen<R: AsyncRead + Unpin>(mut read: R) -> Said<R> {
    loop {
        match frame::read(&mut read).await {
            Ok((Opcode::Ping, data)) => return Said::Ping(data, read),
            Ok((Opcode::Close, _)) | Err(_) => return Said::Leaves,
            Ok(_) => {}
        }
    }
}

fn messages(data: &Bytes, encoding: Encoding) -> Vec<u8> {
    let encode = |part: &[u8]| match encoding {
        Encoding::Binary => frame::encode(Opcode::Binary, part),
        Encoding::Base64 => frame::encode(Opcode::Text, STANDARD.encode(part).as_bytes()),
    };
    data.chunks(MESSAGE).flat_map(encode).collect()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::AsyncReadExt;

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
        let (mut read, _write) = tokio::io::split(client);
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.expect("it ends");
        sent.await.expect("it ends well");
        assert_eq!(all.iter().filter(|byte| **byte == b'x').count(), 1000 * 4096);
        assert!(all.ends_with(&[0x88, 2, 3, 232]), "it says goodbye");
    }

    #[tokio::test]
    async fn pings_are_answered_and_leaving_ends_it() {
        let (mut client, server) = tokio::io::duplex(4096);
        let silent = Body::stream(futures::stream::pending());
        let sent = tokio::spawn(relay(server, silent, Encoding::Base64));
        client
            .write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'])
            .await
            .expect("written");
        let mut pong = [0; 4];
        client.read_exact(&mut pong).await.expect("an answer");
        assert_eq!(pong, [0x8a, 2, b'h', b'i']);
        client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.expect("written");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("it ends");
        assert_eq!(rest, [0x88, 2, 3, 232]);
        sent.await.expect("it ends well");
    }

    #[test]
    fn bytes_go_out_as_they_are_or_as_text() {
        let data = Bytes::from_static(b"\xff\x00");
        assert_eq!(messages(&data, Encoding::Binary), [0x82, 2, 0xff, 0]);
        assert_eq!(
            messages(&data, Encoding::Base64),
            [&[0x81, 4], b"/wA=".as_slice()].concat()
        );
    }
}
