//! What is measured, asked for over the request path; nodes answer in this process.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper_util::rt::TokioIo;
use serde_json::json;
use store::Backend;

use super::*;
use crate::http::dial::Connection;
use crate::tests::{Fixture, time};

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";
const TABLE: [(&str, &str); 1] = [(
    "accept",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
)];

/// A node whose pods use a quarter of a core; each time it is asked, ten seconds have gone by.
#[derive(Clone, Default)]
struct Busy {
    asked: Arc<AtomicU64>,
}

#[async_trait]
impl Dialer for Busy {
    async fn dial(&self, node: &str) -> Result<Box<dyn Connection>, Status> {
        if node == "away" {
            return Err(Status::service_unavailable("away"));
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        let at = 10 * (1 + self.asked.fetch_add(1, Ordering::Relaxed));
        let (cpu, ms) = (at as f64 / 4.0, at * 1000);
        let mut text = format!("node_cpu_usage_seconds_total {cpu} {ms}\nnode_memory_working_set_bytes 2048 {ms}\n");
        for (pod, container) in [("web", "main"), ("web", "side"), ("pending", "main"), ("other", "main")] {
            let labels = format!("container=\"{container}\",namespace=\"a\",pod=\"{pod}\"");
            text += &format!("container_cpu_usage_seconds_total{{{labels}}} {cpu} {ms}\n");
            text += &format!("container_memory_working_set_bytes{{{labels}}} 1048576 {ms}\n");
        }
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            assert_eq!(request.uri().path(), "/metrics/resource");
            let text = text.clone();
            async move {
                Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::from(text)))
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        Ok(Box::new(near))
    }
}

async fn put(f: &Fixture, key: &str, object: Value) {
    let write = store::Write::create(key, object.to_string().into_bytes());
    f.backend.write(write).await.expect("it is written");
}

/// A cluster of two nodes, of which one answers, and three pods; the clock is paused.
async fn world() -> (Fixture, Busy) {
    let busy = Busy::default();
    let dialer: Arc<dyn Dialer> = Arc::new(busy.clone());
    let virtuals: crate::Virtuals = Box::new(move |deps| {
        let reader = deps.reader.clone();
        routes(
            &reader,
            &dialer,
            Arc::new(time),
            &TaskTracker::new(),
            CancellationToken::new(),
        )
    });
    let f = Fixture::with(Arc::default(), Vec::new(), virtuals).await;
    for name in ["away", "n1"] {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name,
            "labels": {"kubernetes.io/hostname": name}}});
        put(&f, &format!("core/nodes//{name}"), node).await;
    }
    for (name, node, phase) in [
        ("web", "n1", "Running"),
        ("pending", "n1", "Pending"),
        ("other", "away", "Running"),
    ] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "uid": name,
            "labels": {"app": name}}, "spec": {"nodeName": node, "containers": [{"name": "main", "image": "i"}]},
            "status": {"phase": phase}});
        put(&f, &format!("core/pods/a/{name}"), pod).await;
    }
    // A list is of everything that was written before: the caches have it then.
    for all in ["/api/v1/nodes", "/api/v1/pods"] {
        assert_eq!(f.get(all).await.code, StatusCode::OK);
    }
    (f, busy)
}

/// The same, after two readings.
async fn measured() -> (Fixture, Busy) {
    let (f, busy) = world().await;
    while f.get(&format!("{ROOT}/nodes")).await.code != StatusCode::OK {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await; // the paused clock jumps
    }
    (f, busy)
}

#[tokio::test(start_paused = true)]
async fn pods_and_nodes_are_told_of_once_they_have_been_measured() {
    let (f, _) = world().await;
    let early = f.get(&format!("{ROOT}/namespaces/a/pods")).await;
    assert_eq!(early.code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        early.message(),
        "the server is currently unable to handle the request (list pods.metrics.k8s.io): nothing has been measured yet"
    );
    assert_eq!(early.headers["retry-after"], "5");
    let pending = f
        .get(&format!("{ROOT}/pods?fieldSelector=metadata.name%3Dpending"))
        .await;
    assert_eq!(
        (pending.code, pending.names().len()),
        (StatusCode::OK, 0),
        "nobody measures it"
    );
    let (f, _) = measured().await;
    let pods = f.get(&format!("{ROOT}/namespaces/a/pods")).await;
    assert_eq!(pods.at("/kind"), "PodMetricsList");
    assert_eq!(
        pods.names(),
        ["web"],
        "what does not run is not told, nor what nobody has measured"
    );
    let web = f.get(&format!("{ROOT}/namespaces/a/pods/web")).await.json();
    let usage = json!({"cpu": "250m", "memory": "1Mi"});
    assert_eq!(
        web["containers"],
        json!([{"name": "main", "usage": usage}, {"name": "side", "usage": usage}])
    );
    assert_eq!((&web["kind"], &web["window"]), (&json!("PodMetrics"), &json!("10s")));
    assert_eq!(web["metadata"]["labels"], json!({"app": "web"}));
    let nodes = f.get(&format!("{ROOT}/nodes")).await;
    assert_eq!(nodes.names(), ["n1"]);
    assert_eq!(nodes.at("/items/0/usage"), json!({"cpu": "250m", "memory": "2Ki"}));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_found_in_metrics_servers_words() {
    let (f, _) = measured().await;
    for (path, message) in [
        ("namespaces/a/pods/none", "pods \"none\" not found"),
        (
            "namespaces/a/pods/pending",
            "podmetrics.metrics.k8s.io \"a/pending\" not found",
        ),
        (
            "namespaces/a/pods/other",
            "podmetrics.metrics.k8s.io \"a/other\" not found",
        ),
        ("nodes/none", "nodes \"none\" not found"),
        ("nodes/away", "nodemetrics.metrics.k8s.io \"away\" not found"),
    ] {
        let answer = f.get(&format!("{ROOT}/{path}")).await;
        assert_eq!(
            (answer.code, answer.message().as_str()),
            (StatusCode::NOT_FOUND, message),
            "{path}"
        );
    }
    for (path, code) in [
        ("namespaces/a/pods?watch=true", StatusCode::METHOD_NOT_ALLOWED),
        (
            "namespaces/a/pods?fieldSelector=spec.nodeName%3Dn1",
            StatusCode::BAD_REQUEST,
        ),
        ("namespaces/a/pods?labelSelector=%3D%3D", StatusCode::BAD_REQUEST),
        ("pods/web", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(f.get(&format!("{ROOT}/{path}")).await.code, code, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn selectors_namespaces_and_tables() {
    let (f, _) = measured().await;
    for (query, names) in [
        ("pods", &["web"][..]),
        ("namespaces/b/pods", &[]),
        ("pods?labelSelector=app%3Dweb", &["web"]),
        ("pods?labelSelector=app!%3Dweb", &[]),
        ("pods?fieldSelector=metadata.namespace%3Da", &["web"]),
        ("pods?fieldSelector=metadata.name%3Dx", &[]),
        ("nodes?labelSelector=kubernetes.io%2Fhostname%3Dn1", &["n1"]),
    ] {
        let answer = f.get(&format!("{ROOT}/{query}")).await;
        assert_eq!(
            (answer.code, answer.names()),
            (StatusCode::OK, names.iter().map(|n| (*n).to_owned()).collect()),
            "{query}"
        );
    }
    let table = f
        .send_with("GET", &format!("{ROOT}/pods"), &TABLE, Vec::new())
        .await
        .json();
    let columns = table["columnDefinitions"].as_array().expect("columns").iter();
    assert_eq!(
        columns.map(|column| column["name"].clone()).collect::<Vec<_>>(),
        ["Name", "cpu", "memory", "Window"]
    );
    assert_eq!(
        table["rows"][0]["cells"],
        json!(["web", "500m", "2Mi", "10s"]),
        "a pod's containers together"
    );
    let table = f
        .send_with("GET", &format!("{ROOT}/nodes/n1"), &TABLE, Vec::new())
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"], json!(["n1", "250m", "2Ki", "10s"]));
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let answer = f.send_with("GET", &format!("{ROOT}/pods"), &protobuf, Vec::new()).await;
    assert_eq!(
        (answer.code, answer.names()),
        (StatusCode::OK, vec!["web".to_owned()]),
        "there is no message of it"
    );
}

#[tokio::test(start_paused = true)]
async fn nodes_are_asked_no_more_often_than_somebody_wants_to_know() {
    let (f, busy) = measured().await;
    let count = || busy.asked.load(Ordering::Relaxed);
    let before = count();
    for _ in 0..5 {
        f.get(&format!("{ROOT}/nodes")).await;
    }
    assert_eq!(count(), before, "what is new enough is told again");
    // An hour in which nobody asks after the first five minutes.
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    let idle = count() - before;
    assert!((60..=82).contains(&idle), "{idle} times in an hour");
    let before = count();
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    let meanwhile = count();
    assert_eq!(f.get(&format!("{ROOT}/nodes")).await.code, StatusCode::OK);
    assert!(count() > before && count() <= meanwhile + 1);
}

#[tokio::test(start_paused = true)]
async fn the_group_is_discovered_after_all_others_and_has_no_apiservice() {
    let (f, _) = world().await;
    let groups = f.get("/apis").await.json();
    let last = groups["groups"]
        .as_array()
        .and_then(|groups| groups.last())
        .expect("groups");
    assert_eq!(last["name"], "metrics.k8s.io");
    assert_eq!(
        f.get(ROOT).await.at("/resources"),
        json!([
            {"name": "nodes", "singularName": "nodemetrics", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"]},
            {"name": "pods", "singularName": "podmetrics", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]},
        ])
    );
    let v3 = f.get("/openapi/v3/apis/metrics.k8s.io/v1beta1").await.json();
    for path in [
        "pods",
        "namespaces/{namespace}/pods",
        "namespaces/{namespace}/pods/{name}",
        "nodes",
        "nodes/{name}",
    ] {
        assert!(!v3["paths"][format!("{ROOT}/{path}")]["get"].is_null(), "{path}");
    }
    let schemas = &v3["components"]["schemas"];
    let of = |kind: &str| &schemas[format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{kind}")];
    assert_eq!(
        of("PodMetrics")["required"],
        json!(["containers", "timestamp", "window"])
    );
    assert_eq!(of("ContainerMetrics")["properties"]["name"]["type"], "string");
    assert_eq!(
        of("PodMetricsList")["x-kubernetes-group-version-kind"][0]["kind"],
        "PodMetricsList"
    );
    f.aggregate();
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    while f.get(&format!("{services}/v1.apps")).await.code != StatusCode::OK {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        f.get(&format!("{services}/v1beta1.metrics.k8s.io")).await.code,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(start_paused = true)]
async fn a_metrics_server_that_is_installed_answers_instead() {
    let (f, _) = measured().await;
    f.aggregate();
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let body = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": GROUP, "version": VERSION,
        "service": {"namespace": "kube-system", "name": "metrics-server"}, "insecureSkipTLSVerify": true,
        "groupPriorityMinimum": 100, "versionPriority": 100}});
    let created = f.post(services, body).await;
    assert_eq!(created.code, StatusCode::CREATED, "{created:?}");
    let pods = format!("{ROOT}/pods");
    let mut answer = f.get(&pods).await;
    while answer.code == StatusCode::OK {
        tokio::task::yield_now().await;
        answer = f.get(&pods).await;
    }
    assert_eq!(
        (answer.code, &*answer.bytes),
        (StatusCode::SERVICE_UNAVAILABLE, &b"service unavailable\n"[..])
    );
    let deleted = f.delete(&format!("{services}/v1beta1.metrics.k8s.io")).await;
    assert_eq!(deleted.code, StatusCode::OK);
    while f.get(&pods).await.code != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}
