use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::{
    images::OCI_MANIFEST,
    registry::testing::{Registry, Trick, limits},
};

const WASM: &str = "application/wasm";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

struct Node {
    directory: tempfile::TempDir,
    images: Arc<Images>,
    registry: Registry,
}

async fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let images = Arc::new(Images::open(&directory.path().join("images")).unwrap());
    Node {
        directory,
        images,
        registry: Registry::start().await,
    }
}

impl Node {
    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.address)
    }

    async fn pull_as(&self, name: &str, user: Option<(&str, &str)>) -> Result<Entry, PullError> {
        let credentials = user.map(|(name, password)| cri::RegistryAuth {
            username: name.to_owned(),
            password: password.to_owned(),
            ..cri::RegistryAuth::default()
        });
        let pull = Pull {
            images: Arc::clone(&self.images),
            settings: Settings {
                hosts: Some(self.directory.path().join("certs.d")),
                limits: limits(),
                plain_http: false,
            },
            name: name.parse().unwrap(),
            credentials,
            progress: Arc::default(),
        };
        pull.run().await
    }

    async fn pull(&self, rest: &str) -> Result<Entry, PullError> {
        self.pull_as(&self.name(rest), None).await
    }

    /// The error's whole text.
    async fn refused(&self, rest: &str) -> String {
        words(&self.pull(rest).await.unwrap_err())
    }

    fn module(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut file = self.images.open_module(&entry.module).unwrap();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        bytes
    }

    fn hosts(&self, domain: &str, text: &str) {
        let folder = self.directory.path().join("certs.d").join(domain);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), text).unwrap();
    }
}

fn words(error: &PullError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn binary() -> Vec<u8> {
    // Large enough to be cut, and different everywhere.
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend((0..100_000_u32).flat_map(u32::to_le_bytes));
    bytes
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// Puts an artifact into the registry; answers the digest of its manifest.
fn artifact(registry: &Registry, repository: &str, tags: &[&str], binary: &[u8]) -> Digest {
    let config = serde_json::to_vec(&json!({"os": "wasip1", "of": Digest::of(binary)})).unwrap();
    registry.put_blob(repository, binary.to_vec());
    registry.put_blob(repository, config.clone());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG, &config), "layers": [descriptor(WASM, binary)]});
    registry.put_manifest(repository, tags, OCI_MANIFEST, &manifest)
}

/// Puts an image of one layer into the registry.
fn image(registry: &Registry, repository: &str, tag: &str, entrypoint: &str, layer: &[u8]) -> Digest {
    let config = serde_json::to_vec(&json!({"config": {"Entrypoint": [entrypoint]}})).unwrap();
    registry.put_blob(repository, layer.to_vec());
    registry.put_blob(repository, config.clone());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, &config), "layers": [descriptor(LAYER, layer)]});
    registry.put_manifest(repository, &[tag], OCI_MANIFEST, &manifest)
}

fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

fn blob_of(binary: &[u8]) -> String {
    format!("blobs/{}", Digest::of(binary))
}

#[tokio::test]
async fn an_artifact_becomes_an_image_by_tag_and_by_digest() {
    let node = node().await;
    let digest = artifact(&node.registry, "team/hello", &["1"], &binary());
    let entry = node.pull("team/hello:1").await.unwrap();
    assert_eq!((&entry.id, node.module(&entry)), (&digest, binary()));
    let image = node.images.describe(&entry);
    assert_eq!(image.tags, [node.name("team/hello:1")]);
    assert_eq!(image.digests, [node.name(&format!("team/hello@{digest}"))]);
    assert!(image.size > binary().len() as u64);
    let again = node.pull(&format!("team/hello@{digest}")).await.unwrap();
    assert_eq!(again, entry);
    let fetched = node
        .registry
        .requests()
        .iter()
        .filter(|line| line.contains("/blobs/"))
        .count();
    assert_eq!(fetched, 2, "what is here is not fetched again");
}

#[tokio::test]
async fn of_an_index_the_image_for_wasm_is_taken_and_found_by_either_digest() {
    let node = node().await;
    let wasm = image(&node.registry, "x", "wasm", "/app.wasm", &tar("app.wasm", &binary()));
    let linux = image(&node.registry, "x", "linux", "/app", &tar("app", b"elf"));
    let of = |digest: &Digest, os: &str, architecture: &str| {
        let platform = json!({"os": os, "architecture": architecture});
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "platform": platform})
    };
    let manifests = [of(&linux, "linux", "amd64"), of(&wasm, "wasi", "wasm")];
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let index = node.registry.put_manifest("x", &["1"], OCI_INDEX, &index);
    let entry = node.pull("x:1").await.unwrap();
    assert_eq!((&entry.manifest, node.module(&entry)), (&wasm, binary()));
    for digest in [&index, &wasm] {
        let found = node.images.find(&node.name(&format!("x@{digest}"))).unwrap();
        assert_eq!(found.as_ref(), Some(&entry), "{digest}");
    }
}

#[tokio::test]
async fn a_container_image_is_refused_before_its_layers_are_fetched() {
    let node = node().await;
    let layer = tar("docker-entrypoint.sh", &binary());
    image(&node.registry, "nginx", "1", "/docker-entrypoint.sh", &layer);
    let error = node.pull("nginx:1").await.unwrap_err();
    assert!(matches!(error, PullError::ContainerImage(_)));
    assert!(words(&error).ends_with("its entrypoint \"/docker-entrypoint.sh\" is not a .wasm file"));
    let layer = blob_of(&layer);
    assert!(!node.registry.requests().iter().any(|line| line.contains(&layer)));
    let linux = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"x"), "size": 1,
        "platform": {"os": "linux", "architecture": "amd64"}});
    let mut arm = linux.clone();
    arm["platform"]["architecture"] = "arm64".into();
    let index = json!({"schemaVersion": 2, "manifests": [linux, arm]});
    node.registry.put_manifest("multi", &["1"], OCI_INDEX, &index);
    let error = node.pull("multi:1").await.unwrap_err();
    assert!(matches!(error, PullError::ContainerImage(_)), "{error:?}");
    assert!(words(&error).ends_with("the image is for linux/amd64, linux/arm64, not for Wasm"));
}

#[tokio::test]
async fn a_connection_that_breaks_or_stalls_goes_on_where_it_ended() {
    let node = node().await;
    artifact(&node.registry, "x", &["1"], &binary());
    let tricks = [Trick::CutAfter(1000), Trick::StallAfter(2000), Trick::Status(503, "")];
    node.registry.play(&blob_of(&binary()), tricks);
    let entry = node.pull("x:1").await.unwrap();
    assert_eq!(node.module(&entry), binary());
    let ranges: Vec<_> = node
        .registry
        .requests()
        .into_iter()
        .filter(|line| line.contains(&blob_of(&binary())))
        .map(|line| line.split(' ').nth(2).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(ranges, ["", "bytes=1000-", "bytes=3000-", "bytes=3000-"]);
}

#[tokio::test]
async fn a_pull_that_failed_goes_on_where_it_ended_even_after_a_restart() {
    let mut node = node().await;
    artifact(&node.registry, "x", &["1"], &binary());
    let tricks = [
        Trick::CutAfter(1000),
        Trick::Status(500, ""),
        Trick::Status(500, ""),
        Trick::Status(500, ""),
    ];
    node.registry.play(&blob_of(&binary()), tricks);
    let said = node.refused("x:1").await;
    assert!(said.contains("500 Internal Server Error"), "{said}");
    node.images = Arc::new(Images::open(&node.directory.path().join("images")).unwrap());
    let entry = node.pull("x:1").await.unwrap();
    assert_eq!(node.module(&entry), binary());
    let last = node.registry.requests().pop().unwrap();
    assert!(last.ends_with("bytes=1000-"), "{last}");
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_is_read_from_the_start() {
    let node = node().await;
    artifact(&node.registry, "x", &["1"], &binary());
    node.registry
        .play(&blob_of(&binary()), [Trick::CutAfter(1000), Trick::WholeInPlaceOfPart]);
    let entry = node.pull("x:1").await.unwrap();
    assert_eq!(node.module(&entry), binary());
}

#[tokio::test]
async fn what_a_damaged_disk_kept_is_fetched_anew() {
    let node = node().await;
    artifact(&node.registry, "x", &["1"], &binary());
    let partial = node.directory.path().join("images/partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join(Digest::of(&binary()).hex()), b"damaged").unwrap();
    let entry = node.pull("x:1").await.unwrap();
    assert_eq!(node.module(&entry), binary());
}

#[tokio::test]
async fn lies_are_named() {
    let node = node().await;
    let same_length: &'static [u8] = vec![7; binary().len() + 8].leak();
    let html = "<html>please sign in</html>";
    let cases: [(&str, Trick, &str); 9] = [
        ("blob", Trick::Instead(same_length), "sent content with the digest"),
        ("blob", Trick::Instead(b"short"), "sent content with the digest"),
        ("blob", Trick::Endless, "is longer than the 400016 bytes announced"),
        ("blob", Trick::Status(404, ""), "not found"),
        (
            "manifest",
            Trick::Type("text/html"),
            "unexpected media type \"text/html\"",
        ),
        ("manifest", Trick::Instead(b"{}"), "sent content with the digest"),
        ("manifest", Trick::Endless, "longer than the 4194304 bytes"),
        (
            "manifest",
            Trick::Status(403, html),
            "access forbidden: insufficient_scope",
        ),
        ("manifest", Trick::Status(301, ""), "it redirects to nowhere"),
    ];
    for (number, (what, trick, says)) in cases.into_iter().enumerate() {
        let repository = format!("lie{number}");
        let mut content = binary();
        content.extend(number.to_le_bytes());
        let digest = artifact(&node.registry, &repository, &["1"], &content);
        let manifest = format!("{repository}/manifests/{digest}");
        let ending = match what {
            "blob" => format!("{repository}/{}", blob_of(&content)),
            _ => manifest.clone(),
        };
        if matches!(trick, Trick::Type(_)) {
            node.registry.put(&manifest, "text/html", html);
        }
        node.registry.play(&ending, std::iter::repeat_n(trick, 4));
        let said = node.refused(&format!("{repository}@{digest}")).await;
        assert!(said.contains(says), "{says}: {said}");
        assert!(node.images.list().is_empty());
    }
    artifact(&node.registry, "honest", &["1"], &binary());
    node.pull("honest:1").await.unwrap();
}

#[tokio::test]
async fn absence_silence_and_slowness_are_told_apart() {
    let node = node().await;
    let said = node.refused("absent:1").await;
    let name = node.name("absent:1");
    assert_eq!(said, format!("failed to resolve reference \"{name}\": not found"));
    artifact(&node.registry, "x", &["1"], &binary());
    node.registry
        .play("manifests/1", std::iter::repeat_n(Trick::Silence, 3));
    let said = node.refused("x:1").await;
    assert!(said.contains("did not answer within"), "{said}");
    node.registry
        .play(&blob_of(&binary()), std::iter::repeat_n(Trick::StallAfter(0), 3));
    let said = node.refused("x:1").await;
    assert!(said.contains("sends too slowly: 0 bytes"), "{said}");
    let said = words(&node.pull_as("127.0.0.1:1/x:1", None).await.unwrap_err());
    let expected = "cannot reach http://127.0.0.1:1: Connection refused";
    assert!(said.contains(expected), "{said}");
    node.pull("x:1").await.unwrap();
}

#[tokio::test]
async fn sizes_are_bounded_before_anything_is_fetched() {
    let node = node().await;
    let huge = json!({"mediaType": WASM, "digest": Digest::of(b"x"), "size": MAX_BINARY + 1});
    let config = descriptor(CONFIG, b"{}");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [huge]});
    node.registry.put_manifest("huge", &["1"], OCI_MANIFEST, &manifest);
    let said = node.refused("huge:1").await;
    assert!(said.contains("more than the 268435456 that are allowed"), "{said}");
    let layers = vec![descriptor(LAYER, b"x"); 200];
    let manifest = json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, b"{}"), "layers": layers});
    node.registry.put_manifest("many", &["1"], OCI_MANIFEST, &manifest);
    let said = node.refused("many:1").await;
    assert!(said.contains("it has 201 blobs"), "{said}");
    assert!(!node.registry.requests().iter().any(|line| line.contains("/blobs/")));
}

#[tokio::test]
async fn shows_who_we_are_when_asked_and_only_then() {
    for basic in [false, true] {
        let node = node().await;
        artifact(&node.registry, "private", &["1"], &binary());
        node.registry.require("user", "secret", basic);
        let name = node.name("private:1");
        let error = node.pull_as(&name, None).await.unwrap_err();
        assert!(words(&error).contains("pull access denied"), "{}", words(&error));
        let error = node.pull_as(&name, Some(("user", "wrong"))).await.unwrap_err();
        assert!(words(&error).contains("pull access denied"), "{}", words(&error));
        node.pull_as(&name, Some(("user", "secret"))).await.unwrap();
        assert!(node.registry.authorizations().contains(&String::new()), "asked first");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_nor_go_to_a_mirror() {
    let (node, elsewhere) = (node().await, Registry::start().await);
    artifact(&node.registry, "x", &["1"], &binary());
    node.registry.require("user", "secret", true);
    let digest = elsewhere.put_blob("cdn", binary());
    let target = format!("http://{}/v2/cdn/blobs/{digest}?signature=1", elsewhere.address);
    node.registry.play(&blob_of(&binary()), [Trick::Redirect(target)]);
    elsewhere.require("nobody", "nothing", true);
    let name = node.name("x:1");
    node.pull_as(&name, Some(("user", "secret"))).await.unwrap();
    assert_eq!(elsewhere.authorizations(), [""], "the other host hears no secret");

    let mirror = Registry::start().await;
    mirror.require("user", "secret", true);
    node.hosts(
        &node.registry.address,
        &format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\n",
            node.registry.address, mirror.address
        ),
    );
    node.pull_as(&name, Some(("user", "secret"))).await.unwrap();
    assert!(mirror.authorizations().iter().all(String::is_empty));
    assert!(!mirror.requests().is_empty());
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_when_they_fail() {
    let (node, mirror) = (node().await, Registry::start().await);
    node.hosts(
        "registry.example",
        &format!(
            "server = \"http://{}\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n",
            node.registry.address, mirror.address
        ),
    );
    let first = artifact(&mirror, "team/a", &["1"], &binary());
    let entry = node.pull_as("registry.example/team/a:1", None).await.unwrap();
    assert_eq!(entry.manifest, first);
    assert!(node.registry.requests().is_empty(), "the mirror had everything");
    let image = node.images.describe(&entry);
    assert_eq!(image.tags, ["registry.example/team/a:1"]);

    let mut other = binary();
    other.push(1);
    artifact(&node.registry, "team/b", &["1"], &other);
    let entry = node.pull_as("registry.example/team/b:1", None).await.unwrap();
    assert_eq!(node.module(&entry), other);
}

#[tokio::test]
async fn two_pulls_of_one_blob_fetch_it_once() {
    let node = node().await;
    artifact(&node.registry, "a", &["1"], &binary());
    artifact(&node.registry, "b", &["1"], &binary());
    let (a, b) = tokio::join!(node.pull("a:1"), node.pull("b:1"));
    assert_eq!(a.unwrap().module, b.unwrap().module);
    let blob = blob_of(&binary());
    let fetched = node
        .registry
        .requests()
        .iter()
        .filter(|line| line.contains(&blob))
        .count();
    assert_eq!(fetched, 1);
}

#[tokio::test]
async fn a_tag_that_moved_brings_the_new_image() {
    let node = node().await;
    let old = artifact(&node.registry, "x", &["1"], &binary());
    node.pull("x:1").await.unwrap();
    let mut newer = binary();
    newer.push(1);
    let new = artifact(&node.registry, "x", &["1"], &newer);
    let entry = node.pull("x:1").await.unwrap();
    assert_eq!(entry.manifest, new);
    assert!(node.images.known(&old).is_some(), "it may be in use");
}

#[tokio::test]
async fn what_was_pushed_can_be_pulled() {
    let node = node().await;
    node.registry.require("user", "secret", false);
    let binary = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
    let push = |name: String| crate::registry::Push {
        name,
        binary: binary.clone().into(),
        file: "a.wasm".to_owned(),
        created: "2026-01-02T03:04:05Z".to_owned(),
        credentials: Some(cri::RegistryAuth {
            username: "user".into(),
            password: "secret".into(),
            ..cri::RegistryAuth::default()
        }),
        hosts: None,
        plain_http: false,
    };
    let name = node.name("team/pushed:1");
    let pushed = crate::registry::push(push(name.clone())).await.unwrap();
    assert_eq!(pushed.name, name);
    let entry = node.pull_as(&name, Some(("user", "secret"))).await.unwrap();
    assert_eq!(
        (entry.manifest.to_string(), node.module(&entry)),
        (pushed.digest.clone(), binary.clone())
    );
    assert_eq!(entry.module_name, "a.wasm");
    let uploads = || {
        node.registry
            .requests()
            .iter()
            .filter(|line| line.starts_with("POST"))
            .count()
    };
    assert_eq!(uploads(), 2);
    let again = crate::registry::push(push(name)).await.unwrap();
    assert_eq!((again, uploads()), (pushed, 2), "what is there is not sent again");
    let error = crate::registry::push(push(format!("{}/a@{}", node.registry.address, entry.manifest))).await;
    assert!(error.unwrap_err().to_string().contains("name a tag"));
}

#[tokio::test]
async fn progress_says_how_much_is_to_come() {
    let progress = Progress::default();
    assert_eq!(progress.bytes(), None);
    progress.expect(100);
    progress.arrived(&Digest::of(b"a"), 10);
    progress.arrived(&Digest::of(b"a"), 30);
    progress.arrived(&Digest::of(b"b"), 5);
    assert_eq!(progress.bytes(), Some((35, 100)));
}
