//! A registry as its clients see it, over its handler: pushes, uploads, pulls, refusals.

use std::collections::BTreeMap;
use std::io::Read;

use api::{GroupResource, Object};
use apiserver::authn::UserInfo;
use apiserver::http::body::Body;
use apiserver::registry::reader::{Reader, Trail};
use apiserver::registry::virtuals::{Response, VirtualContext};
use async_trait::async_trait;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::manifest::OCI_MANIFEST;

mod shared;

/// Believes what the binary says: `ok` runs, all else does not.
#[derive(Debug)]
struct Fake;

#[async_trait]
impl Inspector for Fake {
    async fn look(&self, mut binary: std::fs::File, title: &str, created: &str) -> Result<Looked, String> {
        let mut text = String::new();
        binary.read_to_string(&mut text).map_err(|error| error.to_string())?;
        if !text.starts_with("ok") {
            return Ok(Looked {
                refusal: Some("it imports acme:billing/api@1.0.0".to_owned()),
                missing: vec!["acme:billing/api@1.0.0".to_owned()],
                program: Value::Null,
                config: String::new(),
                manifest: String::new(),
            });
        }
        let config = json!({"created": created}).to_string();
        Ok(Looked {
            refusal: None,
            missing: Vec::new(),
            program: json!({"kind": "component", "worlds": ["wasi:http/proxy@0.2.0"]}),
            manifest: document(&config, &text, title).to_string(),
            config,
        })
    }
}

fn document(config: &str, layer: &str, title: &str) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": Digest::of(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": "application/wasm", "digest": Digest::of(layer.as_bytes()), "size": layer.len(),
            "annotations": {"org.opencontainers.image.title": title}}]})
}

/// Knows two namespaces, of which one goes.
struct Namespaces(BTreeMap<&'static str, Arc<Object>>);

#[async_trait]
impl Reader for Namespaces {
    fn get(&self, _kind: &GroupResource, _namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        self.0.get(name).cloned()
    }
    async fn get_fresh(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        Ok(self.get(kind, namespace, name))
    }
    async fn fresh(&self, _kind: &GroupResource) -> Result<(), Status> {
        Ok(())
    }
    fn field(&self, _: &GroupResource, _: Option<&str>, _: &str, _: &str) -> Option<String> {
        None
    }
    fn list(&self, _: &GroupResource, _: Option<&str>) -> Vec<Arc<Object>> {
        Vec::new()
    }
    fn changes(&self, _: &GroupResource) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
    fn trail(&self, _: &GroupResource) -> Box<dyn Trail> {
        unreachable!("nobody follows namespaces here")
    }
}

struct World {
    directory: tempfile::TempDir,
    registry: Registry,
    reader: Arc<dyn Reader>,
    ending: CancellationToken,
}

/// What came of a request.
struct Answer {
    code: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl World {
    async fn new(limits: Limits) -> Self {
        Self::sharing(limits, None).await
    }

    async fn sharing(limits: Limits, sharing: Option<Sharing>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let registry = Registry::open(Config {
            directory: directory.path().to_owned(),
            limits,
            inspector: Arc::new(Fake),
            sharing,
        });
        let registry = registry.await;
        let namespace = |value| Arc::new(Object::from_value(value).expect("an object"));
        let namespaces = BTreeMap::from([
            ("team", namespace(json!({"metadata": {"name": "team"}}))),
            (
                "going",
                namespace(json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}})),
            ),
        ]);
        World {
            directory,
            registry: registry.expect("opened"),
            reader: Arc::new(Namespaces(namespaces)),
            ending: CancellationToken::new(),
        }
    }

    async fn call(&self, method: Method, path: &str, media: &str, body: &[u8]) -> Result<Response, Status> {
        let (path_alone, _) = path.split_once('?').unwrap_or((path, ""));
        let place = apiserver::images::Place::parse(path_alone);
        let parts: Vec<&str> = path_alone.split('/').collect();
        let (namespace, name) = match place {
            Some(place) => (place.namespace, String::new()),
            None => (
                parts.get(5).copied().unwrap_or_default(),
                parts.get(7).copied().unwrap_or_default().to_owned(),
            ),
        };
        let verb = match (method.as_str(), name.is_empty()) {
            _ if path.contains("watch=true") => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("DELETE", true) => "deletecollection",
            _ => "delete",
        };
        let context = VirtualContext {
            user: Arc::new(UserInfo {
                username: "ann".to_owned(),
                ..UserInfo::default()
            }),
            now: "2026-01-01T12:00:00Z".parse().expect("a time"),
            verb,
            namespace: Some(namespace.to_owned()),
            name,
            dry_run: path.contains("dryRun=All"),
            reader: self.reader.clone(),
            ending: self.ending.clone(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media);
        let request = request.header("content-length", body.len());
        let request = request.body(Body::from(body.to_vec())).expect("a request");
        self.registry.route().handler.call(context, request).await
    }

    async fn ask(&self, method: Method, path: &str, media: &str, body: &[u8]) -> Answer {
        match self.call(method, path, media, body).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Answer {
                    code: parts.status.as_u16(),
                    headers: parts.headers,
                    body: body.collect().await.expect("a body").to_bytes().to_vec(),
                }
            }
            Err(status) => Answer {
                code: status.code,
                headers: http::HeaderMap::new(),
                body: status.to_vec(),
            },
        }
    }

    async fn upload(&self, name: &str, body: &[u8]) -> Answer {
        let path = format!("/apis/registry.wherry.dev/v1/namespaces/team/images?name={name}");
        self.ask(Method::POST, &path, "application/wasm", body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "", b"").await
    }

    /// Pushes content in pieces, as registries' clients do; answers the last answer.
    async fn push(&self, content: &str) -> Answer {
        let begun = self.ask(Method::POST, "/v2/team/hello/blobs/uploads/", "", b"").await;
        assert_eq!(begun.code, 202);
        let at = begun.header("location").to_owned();
        let (first, rest) = content.split_at(content.len() / 2);
        assert_eq!(self.ask(Method::PATCH, &at, "", first.as_bytes()).await.code, 202);
        let digest = Digest::of(content.as_bytes());
        self.ask(Method::PUT, &format!("{at}?digest={digest}"), "", rest.as_bytes())
            .await
    }

    fn files(&self) -> usize {
        let count = |directory: &str| {
            std::fs::read_dir(self.directory.path().join(directory))
                .expect("it is there")
                .count()
        };
        count("blobs/sha256") + count("uploads")
    }
}

const IMAGES: &str = "/apis/registry.wherry.dev/v1/namespaces/team/images";

#[tokio::test]
async fn an_upload_is_an_image_that_nodes_pull() {
    let world = World::new(Limits::default()).await;
    let made = world.upload("hello:1", b"ok program").await;
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(made.json()["status"]["image"], "wherry.internal/team/hello:1");
    assert_eq!(made.json()["status"]["pushedBy"], "ann");
    let manifest = world.get("/v2/team/hello/manifests/1").await;
    assert_eq!((manifest.code, manifest.header("content-type")), (200, OCI_MANIFEST));
    assert_eq!(
        Digest::of(&manifest.body).as_str(),
        manifest.header("docker-content-digest")
    );
    assert_eq!(
        made.json()["status"]["digest"],
        manifest.header("docker-content-digest")
    );
    let layer = manifest.json()["layers"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let blob = world.get(&format!("/v2/team/hello/blobs/{layer}")).await;
    assert_eq!((blob.code, blob.body.as_slice()), (200, &b"ok program"[..]));
    assert_eq!(
        world.get(&format!("/v2/team/other/blobs/{layer}")).await.code,
        404,
        "of another repository"
    );
    let by_digest = format!("/v2/team/hello/manifests/{}", manifest.header("docker-content-digest"));
    assert_eq!(world.ask(Method::HEAD, &by_digest, "", b"").await.code, 200);
    let listed = world.get(IMAGES).await.json();
    assert_eq!(listed["items"][0]["metadata"]["name"], "hello:1");
    assert_eq!(
        world.get("/v2/team/hello/tags/list").await.json(),
        json!({"name": "team/hello", "tags": ["1"]})
    );
}

#[tokio::test]
async fn what_cannot_run_is_named_and_not_stored() {
    let world = World::new(Limits::default()).await;
    let refused = world.upload("hello:1", b"bad program").await;
    assert_eq!(refused.code, 422);
    let message = refused.json()["message"].as_str().expect("words").to_owned();
    assert!(
        message.contains("hello:1 was not stored") && message.contains("acme:billing/api@1.0.0"),
        "{message}"
    );
    assert_eq!(
        refused.json()["details"]["causes"][0]["field"],
        "imports[acme:billing/api@1.0.0]"
    );
    assert_eq!(world.files(), 0);
    // Nor if it is pushed: its content is there, but is no image.
    let (config, layer) = ("{}", "bad program");
    for content in [config, layer] {
        assert_eq!(world.push(content).await.code, 201);
    }
    let manifest = document(config, layer, "x.wasm").to_string();
    let refused = world
        .ask(
            Method::PUT,
            "/v2/team/hello/manifests/1",
            OCI_MANIFEST,
            manifest.as_bytes(),
        )
        .await;
    assert_eq!(refused.code, 422, "{}", refused.json());
    assert_eq!(world.get("/v2/team/hello/manifests/1").await.code, 404);
    // Looking alone stores nothing either.
    let path = format!("{IMAGES}?name=hello:1&dryRun=All");
    assert_eq!(
        world.ask(Method::POST, &path, "application/wasm", b"ok").await.code,
        201
    );
    assert_eq!(world.get(IMAGES).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_push_is_taken_in_pieces_and_checked() {
    let world = World::new(Limits::default()).await;
    let (config, layer) = ("{\"a\": 1}", "ok pushed");
    let manifest = document(config, layer, "x.wasm").to_string();
    let put = || {
        world.ask(
            Method::PUT,
            "/v2/team/hello/manifests/1",
            OCI_MANIFEST,
            manifest.as_bytes(),
        )
    };
    let early = put().await;
    assert!(
        early.code == 400
            && early.json()["message"]
                .as_str()
                .is_some_and(|why| why.contains("was not uploaded"))
    );
    for content in [config, layer] {
        assert_eq!(world.push(content).await.code, 201);
    }
    assert_eq!(put().await.code, 201);
    let pulled = world.get("/v2/team/hello/manifests/1").await;
    assert_eq!(pulled.body, manifest.as_bytes(), "byte for byte");
    // A digest that does not fit is refused, and leaves nothing.
    let files = world.files();
    let wrong = format!("/v2/team/hello/blobs/uploads/?digest={}", Digest::of(b"other"));
    assert_eq!(world.ask(Method::POST, &wrong, "", b"content").await.code, 400);
    assert_eq!(world.files(), files);
    // An upload belongs to its repository, goes on where it is, and can be given up.
    let begun = world.ask(Method::POST, "/v2/team/hello/blobs/uploads/", "", b"").await;
    let at = begun.header("location").to_owned();
    assert_eq!(world.get(&at.replace("/hello/", "/other/")).await.code, 404);
    world.ask(Method::PATCH, &at, "", b"12345").await;
    assert_eq!(world.get(&at).await.header("range"), "0-4");
    assert_eq!(world.ask(Method::DELETE, &at, "", b"").await.code, 204);
    assert_eq!((world.get(&at).await.code, world.files()), (404, files));
    let container = manifest.replace("application/wasm", "application/vnd.oci.image.layer.v1.tar+gzip");
    let refused = world
        .ask(
            Method::PUT,
            "/v2/team/hello/manifests/2",
            OCI_MANIFEST,
            container.as_bytes(),
        )
        .await;
    assert!(
        refused.json()["message"]
            .as_str()
            .is_some_and(|why| why.contains("no container images"))
    );
}

#[tokio::test]
async fn limits_are_told_and_nothing_of_what_is_too_much_stays() {
    let world = World::new(Limits { image: 20, total: 600 }).await;
    let large = world.upload("hello:1", b"ok and a good deal too long").await;
    assert_eq!(large.code, 413);
    assert!(
        large.json()["message"]
            .as_str()
            .is_some_and(|why| why.contains("an image may have 20 bytes"))
    );
    assert_eq!(world.upload("hello:1", b"ok 1").await.code, 201);
    let full = world.upload("hello:2", b"ok 2").await;
    assert_eq!(full.code, 507, "{}", full.json());
    assert!(
        full.json()["message"]
            .as_str()
            .is_some_and(|why| why.starts_with("the image registry is full"))
    );
    assert_eq!(world.files(), 3, "what was brought for the second is gone");
    assert_eq!(
        world
            .ask(Method::DELETE, &format!("{IMAGES}/hello:1"), "", b"")
            .await
            .code,
        200
    );
    assert_eq!(world.upload("hello:2", b"ok 2").await.code, 201);
}

#[tokio::test]
async fn names_and_namespaces_are_checked() {
    let world = World::new(Limits::default()).await;
    for name in ["", "Hello:1", "a/b:1", "hello:.x", "hello@sha256:00"] {
        assert_eq!(world.upload(name, b"ok").await.code, 400, "{name}");
    }
    let elsewhere =
        |namespace: &str| format!("/apis/registry.wherry.dev/v1/namespaces/{namespace}/images?name=hello:1");
    let wasm = "application/wasm";
    assert_eq!(
        world.ask(Method::POST, &elsewhere("nowhere"), wasm, b"ok").await.code,
        404
    );
    assert_eq!(
        world.ask(Method::POST, &elsewhere("going"), wasm, b"ok").await.code,
        403
    );
    assert_eq!(
        world
            .ask(Method::POST, &elsewhere("team"), "application/json", b"{}")
            .await
            .code,
        415
    );
    assert_eq!(world.get("/v2/team/Hello/manifests/1").await.code, 400);
    assert_eq!(world.get(&format!("{IMAGES}/nothing:1")).await.code, 404);
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn deleting_frees_the_content_and_watchers_hear_of_it() {
    let world = World::new(Limits::default()).await;
    let from = world.get(IMAGES).await.json()["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    world.upload("hello:1", b"ok 1").await;
    world.upload("hello:2", b"ok 2").await;
    let watch = format!("{IMAGES}?watch=true&resourceVersion={from}");
    let watching = world.call(Method::GET, &watch, "", b"").await.expect("a stream");
    let mut body = watching.into_body();
    let mut lines = Vec::new();
    let mut deleted = false;
    while lines.len() < 4 {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame())
            .await
            .expect("in time");
        let data = frame.expect("a frame").expect("read").into_data().unwrap_or_default();
        for line in data.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).expect("an event");
            lines.push(format!("{} {}", event["type"], event["object"]["metadata"]["name"]).replace('"', ""));
        }
        if !std::mem::replace(&mut deleted, true) {
            assert_eq!(
                world.ask(Method::DELETE, IMAGES, "", b"").await.json()["items"]
                    .as_array()
                    .map(Vec::len),
                Some(2)
            );
        }
    }
    assert_eq!(
        lines,
        ["ADDED hello:1", "ADDED hello:2", "DELETED hello:1", "DELETED hello:2"]
    );
    assert_eq!((world.files(), world.registry.0.store.room.used()), (0, 0));
    world.ending.cancel();
    assert!(body.frame().await.is_none(), "the server ends");
    let old = world
        .call(
            Method::GET,
            &format!("{IMAGES}?watch=true&resourceVersion=99999"),
            "",
            b"",
        )
        .await;
    assert_eq!(old.err().map(|status| status.code), Some(410));
}

#[tokio::test]
async fn downloads_go_on_where_they_stopped() {
    let world = World::new(Limits::default()).await;
    world.upload("hello:1", b"ok 0123456789").await;
    let path = format!("/v2/team/hello/blobs/{}", Digest::of(b"ok 0123456789"));
    let part = |range: &'static str| {
        let request = Request::get(&path)
            .header("range", range)
            .body(Body::empty())
            .expect("a request");
        let place_path = path.clone();
        let registry = world.registry.0.clone();
        let reader = world.reader.clone();
        async move {
            let place = apiserver::images::Place::parse(&place_path).expect("a place");
            let context = VirtualContext {
                user: Arc::default(),
                now: "2026-01-01T12:00:00Z".parse().expect("a time"),
                verb: "get",
                namespace: Some("team".to_owned()),
                name: String::new(),
                dry_run: false,
                reader,
                ending: CancellationToken::new(),
            };
            let answer = distribution::answer(&registry, &context, place, request).await?;
            let code = answer.status().as_u16();
            let range = answer.headers().get("content-range").cloned();
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            Ok::<_, Status>((code, range.map(|range| range.to_str().expect("text").to_owned()), body))
        }
    };
    let (code, range, body) = part("bytes=10-").await.expect("an answer");
    assert_eq!(
        (code, range.as_deref(), &*body),
        (206, Some("bytes 10-12/13"), &b"789"[..])
    );
    let (code, _, body) = part("bytes=0-1").await.expect("an answer");
    assert_eq!((code, &*body), (206, &b"ok"[..]));
    assert_eq!(part("bytes=13-").await.err().map(|status| status.code), Some(416));
}
