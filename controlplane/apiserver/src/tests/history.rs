//! The last hour of what runs, and what Wasm programs say of themselves: asked of nodes that answer, and of one that does not.

use api::Status;
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::*;
use crate::http::dial::{Connection, Dialer};

const ROOT: &str = "/apis/runtime.wherry.dev/v1";

/// Nodes that know what they are asked for; `gone` cannot be reached.
#[derive(Clone, Default)]
struct Nodes {
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Dialer for Nodes {
    async fn dial(&self, node: &str) -> Result<Box<dyn Connection>, Status> {
        if node == "gone" {
            return Err(Status::service_unavailable("it is gone".to_owned()));
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (asked, node) = (self.asked.clone(), node.to_owned());
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let target = request.uri().to_string();
            asked.lock().push(format!("{node} {target}"));
            let (code, body) = answer(&target);
            async move {
                let mut response = Response::new(Body::from(body.to_string().into_bytes()));
                *response.status_mut() = code;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        Ok(Box::new(near))
    }
}

fn answer(target: &str) -> (StatusCode, Value) {
    let told = |name: &str, columns: Value| {
        let series = json!([{"name": name, "columns": columns}]);
        json!({"step": 15, "end": 1_767_225_600, "since": 1_767_225_585, "series": series})
    };
    let answer = match target.split('?').next().unwrap_or_default() {
        "/history" => told(
            "",
            json!({"cpu": [0.5, 1.0], "requests": [0.0, 4.0], "latency:1000": [0.0, 4.0]}),
        ),
        "/history/a/p" => told("main", json!({"cpu": [null, 0.25]})),
        "/programs/a/p" => json!({"containers": [{"name": "main", "program": {"kind": "component"}}]}),
        _ => return (StatusCode::NOT_FOUND, json!("nothing is known of it")),
    };
    (StatusCode::OK, answer)
}

async fn world(nodes: &[&str]) -> (Fixture, Nodes) {
    let dialer = Nodes::default();
    let given: Arc<dyn Dialer> = Arc::new(dialer.clone());
    let virtuals = Box::new(move |_: &crate::registry::Deps| {
        crate::history::routes(&given, &TaskTracker::new(), &CancellationToken::new())
    });
    let fixture = Fixture::with(Arc::default(), Vec::new(), virtuals).await;
    for name in nodes {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        assert_eq!(fixture.post("/api/v1/nodes", node).await.code, StatusCode::CREATED);
    }
    // A list is of everything that was written before: the caches have it then.
    assert_eq!(fixture.get("/api/v1/nodes").await.names().len(), nodes.len());
    (fixture, dialer)
}

#[tokio::test]
async fn a_cluster_is_the_sum_of_its_nodes_and_says_who_is_silent() {
    let (fixture, nodes) = world(&["one", "two", "gone"]).await;
    let found = fixture.get(&format!("{ROOT}/clusters/current?rangeSeconds=60")).await;
    assert_eq!(found.code, StatusCode::OK);
    assert_eq!(
        (&found.json()["kind"], &found.json()["metadata"]["name"]),
        (&json!("History"), &json!("current"))
    );
    let status = found.at("/status");
    assert_eq!(status["silentNodes"], json!(["gone"]));
    assert_eq!(
        (&status["since"], &status["end"]),
        (&json!("2025-12-31T23:59:45Z"), &json!(1_767_225_600))
    );
    assert_eq!(status["series"][0]["values"]["cpu"], json!([1.0, 2.0]));
    assert_eq!(status["series"][0]["values"]["latencyP50"], json!([null, 0.0005]));
    let mut asked = nodes.asked.lock().clone();
    asked.sort();
    assert_eq!(asked, ["one /history?seconds=60", "two /history?seconds=60"]);
}

#[tokio::test]
async fn a_pod_is_asked_of_its_own_node() {
    let (fixture, nodes) = world(&["one", "two"]).await;
    fixture.post("/api/v1/namespaces/a/pods", pod("p")).await;
    let history = format!("{ROOT}/namespaces/a/pods/p");
    let unbound = fixture.get(&history).await;
    assert_eq!(
        (unbound.code, &unbound.json()["status"]["series"]),
        (StatusCode::OK, &json!([]))
    );
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "two"}});
    fixture.post("/api/v1/namespaces/a/pods/p/binding", binding).await;
    let found = fixture.get(&history).await;
    let series = json!([{"name": "main", "values": {"cpu": [null, 0.25]}}]);
    assert_eq!(
        (found.code, &found.json()["status"]["series"]),
        (StatusCode::OK, &series)
    );
    let programs = fixture.get(&format!("{history}/programs")).await;
    assert_eq!(
        programs.json()["status"]["containers"][0]["program"]["kind"],
        "component"
    );
    assert_eq!(
        *nodes.asked.lock(),
        ["two /history/a/p?seconds=3600", "two /programs/a/p"]
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_words() {
    let (fixture, _) = world(&["one", "gone"]).await;
    for (path, code) in [
        ("clusters/other", StatusCode::NOT_FOUND),
        ("nodes/nobody", StatusCode::NOT_FOUND),
        ("nodes/gone", StatusCode::SERVICE_UNAVAILABLE),
        ("nodes/one?rangeSeconds=7200", StatusCode::BAD_REQUEST),
        ("namespaces/a/pods/nobody", StatusCode::NOT_FOUND),
        ("namespaces/a/namespaces/b", StatusCode::NOT_FOUND),
        ("nodes", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        assert_eq!(fixture.get(&format!("{ROOT}/{path}")).await.code, code, "{path}");
    }
    // A namespace of which no node knows anything has no history.
    let empty = fixture.get(&format!("{ROOT}/namespaces/a")).await;
    assert_eq!(
        (empty.code, &empty.json()["status"]["series"]),
        (StatusCode::OK, &json!([]))
    );
}
