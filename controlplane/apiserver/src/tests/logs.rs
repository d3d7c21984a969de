//! Logs that are followed by readers of every speed, over HTTP/1.1, HTTP/2 and WebSockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::sockets::Socket;
use super::*;
use crate::http::dial::{Connection, Dialer};

const LOG: &str = "/api/v1/namespaces/a/pods/p/log?follow=true";
const CHUNK: usize = 16 * 1024;
/// More than the buffers on the way hold, in bytes: two sockets' at their largest, and HTTP/2's windows.
const BUFFERS: usize = 48 << 20;

/// A node whose pods never stop talking.
#[derive(Clone, Default)]
struct Talker {
    said: Arc<AtomicUsize>,
}

#[async_trait]
impl Dialer for Talker {
    async fn dial(&self, _node: &str) -> Result<Box<dyn Connection>, Status> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let said = self.said.clone();
        let service = hyper::service::service_fn(move |_| {
            let said = said.clone();
            let chunks = futures::stream::repeat_with(move || {
                said.fetch_add(CHUNK, Ordering::Relaxed);
                Ok(Bytes::from(vec![b'x'; CHUNK]))
            });
            async move { Ok::<_, std::convert::Infallible>(Response::new(Body::stream(chunks))) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        Ok(Box::new(near))
    }
}

async fn world() -> (Socket, Talker) {
    let talker = Talker::default();
    let dialer = Arc::new(talker.clone());
    let socket = Socket::with(Box::new(move |_| {
        vec![crate::pods::log::route(dialer, TaskTracker::new())]
    }))
    .await;
    socket.fixture.post("/api/v1/namespaces/a/pods", pod("p")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n1"}});
    let bound = socket
        .fixture
        .post("/api/v1/namespaces/a/pods/p/binding", binding)
        .await;
    assert_eq!(bound.code, StatusCode::CREATED);
    (socket, talker)
}

fn get(target: &str) -> Request<Body> {
    let request = Request::get(format!("https://api{target}")).header("host", "api");
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_nobody_and_no_memory_over_http_2() {
    let (socket, talker) = world().await;
    let stream = socket.connect_as_tester("h2").await;
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let ask = |target: &str| {
        let (mut sender, request) = (sender.clone(), get(target));
        async move { sender.send_request(request).await.expect("an answer") }
    };
    let stalled = ask(LOG).await;
    let mut reading = ask(LOG).await.into_body();
    // Others on the same connection are served, a log that is read among them.
    for _ in 0..50 {
        assert_eq!(ask("/api/v1/namespaces/a/pods/p").await.status(), StatusCode::OK);
        assert!(reading.frame().await.expect("more").is_ok());
    }
    drop(reading);
    let said = talker.said.load(Ordering::Relaxed);
    assert!(said < BUFFERS, "{said} bytes were said to readers that do not read");
    // The reader that comes back finds its log.
    let mut stalled = stalled.into_body();
    assert!(stalled.frame().await.expect("more").is_ok());
}

#[tokio::test]
async fn logs_end_with_the_server() {
    let (socket, _) = world().await;
    let stream = socket.connect_as_tester("http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection);
    let mut log = sender.send_request(get(LOG)).await.expect("an answer").into_body();
    assert!(log.frame().await.expect("a beginning").is_ok());
    socket.stop.cancel();
    while let Some(frame) = log.frame().await {
        frame.expect("it ends in good order");
    }
    drop(sender);
    socket.served.await.expect("the server ends");
}

/// Opens a WebSocket on the log; answers the subprotocol that was agreed on and the socket.
async fn open(socket: &Socket, protocols: Option<&str>) -> (Option<String>, impl AsyncRead + Unpin) {
    let stream = socket.connect_as_tester("http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection.with_upgrades());
    let mut request = get(LOG);
    let headers = request.headers_mut();
    for (name, value) in [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    if let Some(protocols) = protocols {
        headers.insert("sec-websocket-protocol", protocols.parse().expect("a header"));
    }
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let protocol = response
        .headers()
        .get("sec-websocket-protocol")
        .map(|p| p.to_str().expect("text").to_owned());
    let upgraded = hyper::upgrade::on(response).await.expect("a WebSocket");
    (protocol, TokioIo::new(upgraded))
}

/// The next frame's first byte and content.
async fn frame(socket: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let first = socket.read_u8().await.expect("a frame");
    let length = match socket.read_u8().await.expect("a length") {
        126 => socket.read_u16().await.expect("a length").into(),
        127 => usize::try_from(socket.read_u64().await.expect("a length")).expect("it fits"),
        short => short.into(),
    };
    let mut content = vec![0; length];
    socket.read_exact(&mut content).await.expect("a content");
    (first, content)
}

#[tokio::test]
async fn web_sockets_carry_logs_as_bytes_or_as_text() {
    let (socket, talker) = world().await;
    for (asked, agreed) in [(None, None), (Some("binary.k8s.io"), Some("binary.k8s.io"))] {
        let (protocol, mut log) = open(&socket, asked).await;
        assert_eq!(protocol.as_deref(), agreed);
        let (first, content) = frame(&mut log).await;
        assert_eq!(first, 0x82);
        assert!(!content.is_empty() && content.iter().all(|byte| *byte == b'x'));
    }
    let (protocol, mut log) = open(&socket, Some("base64.binary.k8s.io, binary.k8s.io")).await;
    assert_eq!(protocol.as_deref(), Some("base64.binary.k8s.io"));
    let (first, content) = frame(&mut log).await;
    assert_eq!(first, 0x81);
    assert!(
        STANDARD
            .decode(&content)
            .expect("base64")
            .iter()
            .all(|byte| *byte == b'x')
    );
    // Nobody has read on since: the source has stopped.
    for _ in 0..50 {
        assert_eq!(
            socket.fixture.get("/api/v1/namespaces/a/pods/p").await.code,
            StatusCode::OK
        );
    }
    let said = talker.said.load(Ordering::Relaxed);
    assert!(said < BUFFERS, "{said} bytes were said to readers that do not read");
    assert!(!frame(&mut log).await.1.is_empty(), "who reads on gets more");
}

#[tokio::test]
async fn a_web_socket_that_cannot_be_is_refused_in_words() {
    let (socket, _) = world().await;
    let asked = |more: &'static [(&'static str, &'static str)]| {
        let headers = [&[("connection", "upgrade"), ("upgrade", "websocket")], more].concat();
        let fixture = &socket.fixture;
        async move { fixture.send_with("GET", LOG, &headers, Vec::new()).await }
    };
    let answer = asked(&[]).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.message(),
        "the WebSocket cannot be opened: its version must be 13"
    );
    let unknown = asked(&[
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "a"),
        ("sec-websocket-protocol", "v9"),
    ])
    .await;
    assert_eq!(
        unknown.message(),
        "the WebSocket cannot be opened: none of its subprotocols is known"
    );
}
