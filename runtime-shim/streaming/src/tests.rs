//! Both sides against each other over loopback, through a real HTTP upgrade.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cri::{Error, Session, Streams, TerminalSize};
use futures::{FutureExt, SinkExt, StreamExt};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_util::task::TaskTracker;

use crate::{Client, Kind, Offer, Patience, Target};

/// What a server of these tests does with a command or a port.
#[derive(Clone)]
enum Does {
    /// Says what it hears and how many sizes it saw, on stdout; `err` on stderr; ends with 7.
    Cat(Streams),
    Fails(Streams),
    /// Connects to a port of this machine.
    Forwards,
}

impl Does {
    async fn session(self) -> Result<Session, Error> {
        let Self::Cat(streams) = self else {
            return Err(Error::InvalidConfig {
                message: "it cannot be run".to_owned(),
            });
        };
        let (stdin, heard) = tokio::io::duplex(1000);
        let (stdout, mut said) = tokio::io::duplex(1000);
        let (stderr, mut complained) = tokio::io::duplex(1000);
        let (sizes, mut seen) = mpsc::channel(4);
        let mut heard = heard;
        let ended = async move {
            if streams.tty {
                let TerminalSize { width, height } = seen.recv().await.expect("a size");
                said.write_all(format!("{width}x{height} ").as_bytes())
                    .await
                    .expect("room");
            }
            if streams.stdin {
                tokio::io::copy(&mut heard, &mut said).await.expect("room");
            }
            if streams.stderr {
                complained.write_all(b"err").await.expect("room");
            }
            Ok(7)
        };
        // A runtime moves bytes whether or not somebody waits for the end.
        let ended = tokio::spawn(ended);
        Ok(Session {
            stdin: streams.stdin.then(|| Box::pin(stdin) as cri::Writer),
            stdout: Some(Box::pin(stdout)),
            stderr: streams.stderr.then(|| Box::pin(stderr) as cri::Reader),
            resize: streams.tty.then_some(sizes),
            ended: async { ended.await.expect("no panic") }.boxed(),
        })
    }
}

fn target() -> Target {
    Target {
        pod: "web".to_owned(),
        uid: "u1".to_owned(),
        connect: Box::new(|port| {
            async move {
                let socket = TcpStream::connect(("127.0.0.1", port)).await;
                let socket = socket.map_err(|error| Error::failed(format!("dialling port {port}"), error))?;
                Ok(Box::pin(socket) as cri::Connection)
            }
            .boxed()
        }),
    }
}

async fn answer(mut request: Request<Incoming>, does: Does, ports: Vec<u16>) -> Response<String> {
    let offer = match does {
        Does::Forwards => Offer::PortForward,
        _ => Offer::RemoteCommand,
    };
    let (response, accepted) = match offer.accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refused) => return refused.response(),
    };
    tokio::spawn(async move {
        let patience = Patience::default();
        match does {
            Does::Forwards => accepted.port_forward(&ports, target(), patience).await,
            Does::Cat(streams) | Does::Fails(streams) => {
                let begin = does.session();
                accepted.remote_command(Kind::Exec, streams, patience, begin).await;
            }
        }
    });
    response
}

async fn serve(does: Does, ports: Vec<u16>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (does, ports) = (does.clone(), ports.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let (does, ports) = (does.clone(), ports.clone());
                    async move { Ok::<_, Infallible>(answer(request, does, ports).await) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

fn client() -> (Client, TaskTracker) {
    let tasks = TaskTracker::new();
    (Client::new(tasks.clone(), Patience::default()), tasks)
}

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

async fn text(reader: &mut cri::Reader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).await.expect("text");
    text
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_exit_code() {
    let address = serve(Does::Cat(ALL), Vec::new()).await;
    let (client, tasks) = client();
    let mut session = client
        .remote_command(&format!("http://{address}/exec/1"), ALL)
        .await
        .expect("a session");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"hello").await.expect("room");
    stdin.shutdown().await.expect("an end");
    assert_eq!(text(session.stdout.as_mut().expect("stdout")).await, "hello");
    assert_eq!(text(session.stderr.as_mut().expect("stderr")).await, "err");
    assert_eq!(session.ended.as_mut().await.expect("an end"), 7);
    drop((session, stdin));
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_no_stderr() {
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let address = serve(Does::Cat(streams), Vec::new()).await;
    let (client, _) = client();
    let mut session = client
        .remote_command(&format!("http://{address}/exec/1"), streams)
        .await
        .expect("a session");
    assert!(session.stderr.is_none());
    let size = TerminalSize { width: 80, height: 24 };
    session
        .resize
        .as_ref()
        .expect("a terminal")
        .send(size)
        .await
        .expect("room");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"hi").await.expect("room");
    stdin.shutdown().await.expect("an end");
    assert_eq!(text(session.stdout.as_mut().expect("stdout")).await, "80x24 hi");
}

#[tokio::test]
async fn a_command_that_cannot_run_says_why() {
    let address = serve(Does::Fails(ALL), Vec::new()).await;
    let (client, _) = client();
    let session = client
        .remote_command(&format!("http://{address}/exec/1"), ALL)
        .await
        .expect("a session");
    let error = session.ended.await.expect_err("it fails");
    assert!(
        error
            .chain()
            .contains("error executing command in container: it cannot be run"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn what_is_no_streaming_server_is_named() {
    let address = serve(Does::Forwards, Vec::new()).await;
    let (client, _) = client();
    let refused = client
        .remote_command(&format!("http://{address}/x"), ALL)
        .await
        .expect_err("refused");
    assert!(refused.to_string().contains("403"), "{refused}");
    for url in ["https://127.0.0.1:1/x", "nonsense", "/path"] {
        let error = client.remote_command(url, ALL).await.expect_err("refused");
        assert!(error.to_string().contains(url), "{error}");
    }
}

/// Sends `reply` to whoever connects, once it has heard everything.
async fn pod(reply: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).await.expect("bytes");
            socket.write_all(&reply(heard)).await.expect("room");
        }
    });
    port
}

#[tokio::test]
async fn a_port_is_reached_and_half_closed() {
    let port = pod(|heard| heard.repeat(2)).await;
    let address = serve(Does::Forwards, Vec::new()).await;
    let (client, tasks) = client();
    let mut connection = client
        .port_forward(&format!("http://{address}/p"), port)
        .await
        .expect("a connection");
    let said = vec![42; 1_000_000];
    connection.write_all(&said).await.expect("room");
    connection.shutdown().await.expect("an end");
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).await.expect("bytes");
    assert!(heard == said.repeat(2));
    drop(connection);
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_says_so() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = unused.local_addr().expect("an address").port();
    drop(unused);
    let address = serve(Does::Forwards, Vec::new()).await;
    let (client, _) = client();
    let mut connection = client
        .port_forward(&format!("http://{address}/p"), port)
        .await
        .expect("a connection");
    let error = connection.read_u8().await.expect_err("refused").to_string();
    assert!(
        error.starts_with(&format!(
            "error forwarding port {port} to pod web, uid u1: dialling port {port}"
        )),
        "{error}"
    );
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn websocket(address: SocketAddr, protocol: &str) -> Socket {
    let mut request = format!("ws://{address}/").into_client_request().expect("a request");
    let protocol = protocol.parse().expect("a protocol");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let socket = TcpStream::connect(address).await.expect("a connection");
    let (socket, _) = tokio_tungstenite::client_async(request, socket)
        .await
        .expect("an upgrade");
    socket
}

/// Everything a channel says until the server closes, as text.
async fn channels(socket: &mut Socket) -> Vec<String> {
    let mut said = vec![String::new(); 5];
    while let Some(message) = socket.next().await {
        match message.expect("a message") {
            Message::Binary(bytes) => {
                let (id, text) = bytes.split_first().expect("a channel");
                said[usize::from(*id)] += &String::from_utf8_lossy(text);
            }
            Message::Close(frame) => {
                assert_eq!(
                    u16::from(frame.expect("a reason").code),
                    1000,
                    "kubectl takes any other for a failure"
                );
            }
            _ => {}
        }
    }
    said
}

#[tokio::test]
async fn version_5_ends_stdin() {
    let address = serve(Does::Cat(ALL), Vec::new()).await;
    let mut socket = websocket(address, "v5.channel.k8s.io").await;
    let first = socket.next().await.expect("a message").expect("a message");
    assert_eq!(
        first,
        Message::binary(vec![1]),
        "an empty message on stdout says that it is connected"
    );
    socket.send(Message::binary(b"\0hello".to_vec())).await.expect("room");
    socket.send(Message::binary(vec![255, 0])).await.expect("room");
    let said = channels(&mut socket).await;
    assert_eq!((said[1].as_str(), said[2].as_str()), ("hello", "err"));
    assert!(
        said[3].contains(r#""causes":[{"reason":"ExitCode","message":"7"}]"#),
        "{}",
        said[3]
    );
}

#[tokio::test]
async fn base64_is_spoken() {
    let streams = Streams { stdin: false, ..ALL };
    let address = serve(Does::Cat(streams), Vec::new()).await;
    let mut socket = websocket(address, "v4.base64.channel.k8s.io").await;
    let mut said = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            said.push(text.to_string());
        }
    }
    assert_eq!(said.first().map(String::as_str), Some("1"));
    assert!(said.contains(&"2ZXJy".to_owned()), "{said:?}");
}

#[tokio::test]
async fn ports_are_forwarded_by_channels() {
    let port = pod(|_| b"pong".to_vec()).await;
    let address = serve(Does::Forwards, vec![port]).await;
    let mut socket = websocket(address, "v4.channel.k8s.io").await;
    let [low, high] = port.to_le_bytes();
    for channel in [0, 1] {
        let first = socket.next().await.expect("a message").expect("a message");
        assert_eq!(first, Message::binary(vec![channel, low, high]));
    }
    socket.send(Message::binary(vec![255, 0])).await.expect("room");
    let said = channels(&mut socket).await;
    assert_eq!(said[0], "pong");
}

/// A reader that stops reading stops the source; memory does not grow with what is sent.
#[tokio::test]
async fn a_slow_reader_slows_the_source() {
    let sent = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let counter = sent.clone();
    let flood = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        while socket.write_all(&[0; 65_536]).await.is_ok() {
            counter.fetch_add(65_536, Ordering::Relaxed);
        }
    });
    let address = serve(Does::Forwards, Vec::new()).await;
    let (client, _) = client();
    let mut connection = client
        .port_forward(&format!("http://{address}/p"), port)
        .await
        .expect("a connection");
    connection.read_u8().await.expect("a byte");
    // Once nothing more is taken, only sockets' buffers and ours are full.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }
    assert!(before < 64 << 20, "{before} bytes were taken");
    drop(connection);
    flood.await.expect("no panic");
}
