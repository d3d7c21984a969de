use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use kubelet::testing::FakeRuntime;
use serde_json::Value;
use tokio::net::UnixStream;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    runtime: FakeRuntime,
    asked: mpsc::Receiver<Down>,
    ready: watch::Sender<bool>,
    _quit: tokio_util::sync::DropGuard,
}

fn serve() -> Fixture {
    let dir = tempfile::tempdir().expect("dir");
    let runtime = FakeRuntime::new(client::Clock::system(), &[]);
    let (down, asked) = mpsc::channel(1);
    let (ready, readiness) = watch::channel(false);
    let socket = Socket {
        runtime: Arc::new(runtime.clone()),
        data_dir: dir.path().to_owned(),
        node_name: "n1".into(),
        ready: readiness,
        down,
    };
    let quit = CancellationToken::new();
    tokio::spawn(socket.listen().expect("binds").run(quit.clone()));
    Fixture {
        dir,
        runtime,
        asked,
        ready,
        _quit: quit.drop_guard(),
    }
}

async fn call(data_dir: &Path, method: &str, target: &str, body: &'static str) -> (u16, Value) {
    let stream = UnixStream::connect(path(data_dir)).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("speaks");
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(target).header("host", "agent");
    let request = request.body(Full::new(Bytes::from(body))).expect("request");
    let answer = sender.send_request(request).await.expect("answers");
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    (code, serde_json::from_slice(&body).expect("json"))
}

#[tokio::test]
async fn loads_an_image_and_leaves_no_file_behind() {
    let fixture = serve();
    let (code, answer) = call(fixture.dir.path(), "POST", "/images?name=hello%3A1", "wasm").await;
    assert_eq!((code, &answer["id"]), (200, &json!("sha256:hello:1")));
    let images = cri::Runtime::list_images(&fixture.runtime).await.expect("lists");
    assert_eq!(images.len(), 1);
    let files = std::fs::read_dir(fixture.dir.path())
        .expect("dir")
        .map(|e| e.expect("entry").file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["agent.sock"]);
}

#[tokio::test]
async fn tells_its_status() {
    let fixture = serve();
    fixture.ready.send_replace(true);
    let (code, answer) = call(fixture.dir.path(), "GET", "/status", "").await;
    assert_eq!((code, answer), (200, json!({"node": "n1", "ready": true, "pods": 0})));
}

#[tokio::test]
async fn answers_down_when_it_is_done_or_says_why_not() {
    let mut fixture = serve();
    for (outcome, want) in [
        (Ok(()), (200, json!({}))),
        (Err("no".to_owned()), (500, json!({"error": "no"}))),
    ] {
        let asking = call(fixture.dir.path(), "POST", "/down", "");
        let answering = async { fixture.asked.recv().await.expect("asked").send(outcome).expect("waits") };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer, want);
    }
}

#[tokio::test]
async fn takes_the_place_of_a_socket_that_was_left() {
    let fixture = serve();
    let mode = std::fs::metadata(path(fixture.dir.path()))
        .expect("socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let left = tempfile::tempdir().expect("dir");
    drop(std::os::unix::net::UnixListener::bind(path(left.path())).expect("binds"));
    let (down, _asked) = mpsc::channel(1);
    let socket = Socket {
        runtime: Arc::new(fixture.runtime.clone()),
        data_dir: left.path().to_owned(),
        node_name: "n1".into(),
        ready: watch::channel(false).1,
        down,
    };
    assert!(socket.listen().is_ok());
}

#[tokio::test]
async fn lists_and_removes_images() {
    let fixture = serve();
    let names = |answer: &Value| {
        let images = answer["images"].as_array().expect("a list").iter();
        images
            .map(|image| image["tags"][0].as_str().expect("a tag").to_owned())
            .collect::<Vec<_>>()
    };
    for name in ["a:1", "b:1"] {
        call(fixture.dir.path(), "POST", &format!("/images?name={name}"), "wasm").await;
    }
    let (code, answer) = call(fixture.dir.path(), "GET", "/images", "").await;
    assert_eq!((code, names(&answer)), (200, vec!["a:1".to_owned(), "b:1".to_owned()]));
    let (_, answer) = call(fixture.dir.path(), "GET", "/images?name=b:1", "").await;
    assert_eq!(names(&answer), ["b:1"]);
    let (code, answer) = call(fixture.dir.path(), "DELETE", "/images?name=c:1", "").await;
    assert_eq!((code, &answer["error"]), (404, &json!("image \"c:1\" not found")));
    let (code, _) = call(fixture.dir.path(), "GET", "/images/program?name=a:1", "").await;
    assert_eq!(code, 422);
}
