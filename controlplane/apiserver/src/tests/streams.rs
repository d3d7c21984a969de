//! Connections into pods, joined to the node's, and requests that are passed on.

use api::Status;
use http::header::UPGRADE;
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::sockets::Socket;
use super::*;
use crate::http::dial::{Connection, Dialer};

/// A node that upgrades whatever asks for it, and says what it hears; it remembers what it was asked.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Dialer for Echo {
    async fn dial(&self, _node: &str) -> Result<Box<dyn Connection>, Status> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let asked = self.0.clone();
        let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            asked.lock().push(format!("{} {}", request.method(), request.uri()));
            async move { Ok::<_, std::convert::Infallible>(answer(&mut request)) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
        tokio::spawn(connection.with_upgrades());
        Ok(Box::new(near))
    }
}

fn answer(request: &mut Request<hyper::body::Incoming>) -> Response<Body> {
    let Some(upgrade) = request.headers().get(UPGRADE).cloned() else {
        let secrets = request.headers().contains_key("authorization");
        let mut response = Response::new(Body::from(format!("secrets: {secrets}").into_bytes()));
        response
            .headers_mut()
            .insert("location", http::HeaderValue::from_static("/pods/"));
        return response;
    };
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let socket = TokioIo::new(upgraded.await.expect("an upgrade"));
        let (mut from, mut to) = tokio::io::split(socket);
        tokio::io::copy(&mut from, &mut to).await.expect("an echo");
        to.shutdown().await.expect("an end");
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, upgrade);
    response
        .headers_mut()
        .insert("connection", http::HeaderValue::from_static("Upgrade"));
    response
}

async fn world() -> (Socket, Echo) {
    let echo = Echo::default();
    let dialer: Arc<dyn Dialer> = Arc::new(echo.clone());
    let socket = Socket::with(Box::new(move |_| {
        let tasks = TaskTracker::new();
        let mut routes = crate::pods::stream::routes(&dialer, &tasks);
        routes.extend(crate::proxy::routes(&dialer, &tasks));
        routes
    }))
    .await;
    for name in ["p", "waits"] {
        socket.fixture.post("/api/v1/namespaces/a/pods", pod(name)).await;
    }
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n1"}});
    let bound = socket
        .fixture
        .post("/api/v1/namespaces/a/pods/p/binding", binding)
        .await;
    assert_eq!(bound.code, StatusCode::CREATED);
    (socket, echo)
}

const UPGRADES: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];

#[tokio::test]
async fn clients_are_joined_to_the_node_that_runs_the_pod() {
    let (socket, echo) = world().await;
    let stream = socket.connect_as_tester("http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::post("/api/v1/namespaces/a/pods/p/exec?command=a+b&stdin=true&stdout=true")
        .header("host", "api")
        .body(Body::empty())
        .expect("a request");
    for (name, value) in UPGRADES {
        request
            .headers_mut()
            .insert(name, http::HeaderValue::from_static(value));
    }
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[UPGRADE], "SPDY/3.1");
    let upgraded = hyper::upgrade::on(response).await.expect("a connection");
    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
    let said: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut heard = Vec::new();
    let saying = async {
        to.write_all(&said).await.expect("room");
        to.shutdown().await.expect("an end");
    };
    let (_, read) = tokio::join!(saying, from.read_to_end(&mut heard));
    read.expect("an echo");
    assert!(heard == said, "{} bytes of {}", heard.len(), said.len());
    let asked = echo.0.lock().clone();
    assert_eq!(asked, ["POST /exec/a/p/c?input=1&output=1&command=a%20b"]);
}

#[tokio::test]
async fn what_cannot_be_entered_says_why() {
    let (socket, _) = world().await;
    let pods = "/api/v1/namespaces/a/pods";
    let cases = [
        ("GET", "none/exec?command=a&stdout=true", "pods \"none\" not found"),
        (
            "POST",
            "waits/exec?command=a&stdout=true",
            "pod waits does not have a host assigned",
        ),
        ("POST", "waits/portforward", "pod waits does not have a host assigned"),
        (
            "POST",
            "p/exec?command=a",
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "POST",
            "p/attach?container=x&stdout=true",
            "container x is not valid for pod p",
        ),
    ];
    for (method, target, expected) in cases {
        let target = format!("{pods}/{target}");
        let answer = socket.fixture.send_with(method, &target, &UPGRADES, Vec::new()).await;
        assert_eq!(answer.message(), expected, "{target}");
    }
    let plain = socket
        .fixture
        .get(&format!("{pods}/p/exec?command=a&stdout=true"))
        .await;
    assert_eq!(
        (plain.code, plain.message().as_str()),
        (StatusCode::BAD_REQUEST, "Upgrade request required")
    );
}

#[tokio::test]
async fn who_may_only_look_does_not_enter() {
    let (socket, echo) = world().await;
    for (target, resource) in [
        ("/api/v1/namespaces/a/pods/p/exec?command=a&stdout=true", "pods/exec"),
        ("/api/v1/namespaces/a/pods/p/attach?stdout=true", "pods/attach"),
        ("/api/v1/namespaces/a/pods/p/portforward", "pods/portforward"),
        ("/api/v1/nodes/n1/proxy/exec/a/p/c", "nodes/proxy"),
    ] {
        let mut request = Request::get(target).body(Body::empty()).expect("a request");
        for (name, value) in UPGRADES {
            request
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
        }
        let answer = socket.fixture.request(user("patcher"), request).await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{target}");
        let expected = format!("User \"patcher\" cannot create resource \"{resource}\" in API group \"\"");
        assert!(answer.message().contains(&expected), "{}", answer.message());
    }
    assert!(echo.0.lock().is_empty(), "no node was asked");
}

#[tokio::test]
async fn kubelets_are_asked_through_the_proxy() {
    let (socket, echo) = world().await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    socket.fixture.post("/api/v1/nodes", node).await;
    let redirected = socket.fixture.get("/api/v1/nodes/n1/proxy?x=1").await;
    assert_eq!(redirected.code, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(redirected.headers["location"], "/api/v1/nodes/n1/proxy/?x=1");
    let secret = [("authorization", "Bearer secret")];
    let answer = socket
        .fixture
        .send_with("GET", "/api/v1/nodes/n1/proxy/pods?x=1", &secret, Vec::new())
        .await;
    assert_eq!(
        (answer.code, &answer.bytes[..]),
        (StatusCode::OK, &b"secrets: false"[..])
    );
    assert_eq!(answer.headers["location"], "/api/v1/nodes/n1/proxy/pods/");
    assert_eq!(echo.0.lock().clone(), ["GET /pods?x=1"]);
    let other = socket.fixture.get("/api/v1/nodes/n1:22/proxy/").await;
    assert_eq!(other.code, StatusCode::BAD_REQUEST);
}
