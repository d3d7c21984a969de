//! Requests to a whole API server: bodies in every encoding, patches, and the parameters with which lists and watches are
//! continued. Any of it may be refused; nothing may be an internal error.

use std::time::Duration;

use bytes::Bytes;
use client::{Client, Error};
use harness::Cluster;
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub const WORDS: &[&str] = &[
    "resourceVersion=",
    "resourceVersionMatch=",
    "Exact",
    "NotOlderThan",
    "continue=",
    "limit=",
    "&",
    "=",
    "0",
    "1",
    "-1",
    "%00",
    "18446744073709551615",
    "9223372036854775808",
    "allowWatchBookmarks=true",
    "sendInitialEvents=true",
    "timeoutSeconds=",
    "fieldSelector=metadata.name%3Dx",
    "labelSelector=a+in+(b)",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
    "watch=true",
    "watch=false",
];

/// An API server without nodes, on a thread's own runtime whose clock stands still.
struct Api {
    runtime: Runtime,
    client: Client,
    /// A token that the server itself has made.
    token: String,
    _cluster: Cluster,
}

impl Api {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime");
        let (cluster, client) = runtime.block_on(async {
            let cluster = Cluster::start(1, 0).await;
            let client = cluster.api.administrator();
            (cluster, client)
        });
        let mut api = Self {
            runtime,
            client,
            token: String::new(),
            _cluster: cluster,
        };
        for name in ["target", "b", "c"] {
            let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "app:1"}]}});
            api.create_pod(&pod);
        }
        let page = api.send(
            Method::GET,
            "/api/v1/namespaces/default/pods?limit=1",
            "application/json",
            b"",
        );
        let page: Value = serde_json::from_slice(&page.expect("pods can be listed")).expect("a list");
        api.token = page["metadata"]["continue"]
            .as_str()
            .expect("there are more")
            .to_owned();
        api
    }

    /// Creates a pod, once its namespace has the service account that controllers make.
    fn create_pod(&self, pod: &Value) {
        let body = pod.to_string();
        let create = || {
            self.send(
                Method::POST,
                "/api/v1/namespaces/default/pods",
                "application/json",
                body.as_bytes(),
            )
        };
        let created = (0..100).any(|_| {
            self.runtime
                .block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
            create().is_some()
        });
        assert!(created, "a pod can be created");
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the server says that something is wrong with itself.
    fn send(&self, method: Method, path: &str, media: &str, body: &[u8]) -> Option<Bytes> {
        let body = Bytes::copy_from_slice(body);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .body(body)
            .ok()?;
        match self.runtime.block_on(self.client.raw(request)) {
            Ok(answer) => Some(answer),
            Err(Error::Api(status)) => {
                assert!(status.code < 500 || status.code == 504, "{path}: {status:?}");
                None
            }
            Err(error) => panic!("{path}: {error:?}"),
        }
    }
}

fn with(run: impl FnOnce(&Api)) {
    thread_local! {
        static API: Api = Api::start();
    }
    API.with(run);
}

pub fn bodies(input: &[u8]) {
    with(|api| {
        for path in [
            "/api/v1/namespaces/default/pods",
            "/api/v1/namespaces/default/services",
            "/apis/apps/v1/namespaces/default/deployments",
        ] {
            for media in ["application/json", "application/yaml"] {
                api.send(Method::POST, &format!("{path}?dryRun=All"), media, input);
            }
        }
    });
}

pub fn protobuf(input: &[u8]) {
    with(|api| {
        for path in [
            "/api/v1/namespaces/default/configmaps?dryRun=All",
            "/api/v1/namespaces/default/pods?dryRun=All",
        ] {
            api.send(Method::POST, path, "application/vnd.kubernetes.protobuf", input);
        }
        let delete = "/api/v1/namespaces/default/pods/target?dryRun=All";
        api.send(Method::DELETE, delete, "application/vnd.kubernetes.protobuf", input);
    });
}

pub fn patches(input: &[u8]) {
    with(|api| {
        for media in [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ] {
            api.send(
                Method::PATCH,
                "/api/v1/namespaces/default/pods/target?dryRun=All",
                media,
                input,
            );
        }
        api.send(
            Method::PATCH,
            "/api/v1/namespaces/default/pods/target?dryRun=All&fieldManager=fuzz&force=true",
            "application/apply-patch+yaml",
            input,
        );
    });
}

/// A query that can stand in a URI.
fn query(input: &[u8], token: &str) -> String {
    let text = String::from_utf8_lossy(input).replace("TOKEN", token);
    text.bytes()
        .filter(|byte| byte.is_ascii_graphic() && *byte != b'#')
        .map(char::from)
        .collect()
}

pub fn lists(input: &[u8]) {
    with(|api| {
        let query = query(input, &api.token).replace("watch", "match");
        api.send(
            Method::GET,
            &format!("/api/v1/namespaces/default/pods?{query}"),
            "application/json",
            b"",
        );
        api.send(Method::GET, &format!("/api/v1/pods?{query}"), "application/json", b"");
    });
}

/// A watch that begins is broken off at once.
pub fn watches(input: &[u8]) {
    with(|api| {
        let query = query(input, &api.token);
        let path = format!("/api/v1/namespaces/default/pods?watch=true&{query}");
        let Ok(request) = Request::get(&path).body(Bytes::new()) else {
            return;
        };
        match api.runtime.block_on(api.client.open(request)) {
            Ok(_) => {}
            Err(Error::Api(status)) => assert!(status.code < 500 || status.code == 504, "{path}: {status:?}"),
            Err(error) => panic!("{path}: {error:?}"),
        }
    });
}
