use std::io::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    manifest::{OCI_MANIFEST, WASM_CONFIG, WASM_LAYER},
    *,
};

const BINARY: &[u8] = b"\0asm\x01\0\0\0";

struct Store {
    dir: tempfile::TempDir,
    images: Images,
}

fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path()).unwrap();
    Store { dir, images }
}

impl Store {
    fn import(&self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<Entry, ImportError> {
        self.images
            .import(&name.parse().unwrap(), Content::Bytes(bytes.into().into()))
    }

    fn reopen(self) -> Self {
        let images = Images::open(self.dir.path()).unwrap();
        Self { dir: self.dir, images }
    }

    fn module(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut self.images.open_module(&entry.module).unwrap(), &mut bytes).unwrap();
        bytes
    }

    fn blobs(&self) -> usize {
        self.images.blobs.list().unwrap().len()
    }
}

/// A tar of files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI layout being made.
#[derive(Default)]
struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn blob(&mut self, media_type: &str, content: impl Into<Vec<u8>>) -> Value {
        let content = content.into();
        let digest = Digest::of(&content);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
        self.blobs.push((format!("blobs/sha256/{}", digest.hex()), content));
        descriptor
    }

    fn manifest(&mut self, config: Value, layers: Vec<Value>) -> Value {
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        self.blob(OCI_MANIFEST, manifest.to_string())
    }

    fn tar(&self, manifests: Vec<Value>) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let mut files: Vec<(&str, &[u8])> = vec![("oci-layout", b"{}"), ("./index.json", index.as_bytes())];
        files.extend(
            self.blobs
                .iter()
                .map(|(name, content)| (name.as_str(), content.as_slice())),
        );
        tar(&files)
    }
}

fn artifact() -> Vec<u8> {
    let mut layout = Layout::default();
    let config = layout.blob(WASM_CONFIG, "{}");
    let layer = layout.blob(WASM_LAYER, BINARY);
    let manifest = layout.manifest(config, vec![layer]);
    layout.tar(vec![manifest])
}

fn image(entrypoint: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut layout = Layout::default();
    let config = json!({"config": {"Entrypoint": [entrypoint], "Cmd": ["--port"], "Env": ["A=1"]}}).to_string();
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config);
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar", tar(files));
    let manifest = layout.manifest(config, vec![layer]);
    layout.tar(vec![manifest])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_binary_becomes_an_artifact_that_survives_a_restart() {
    let store = store();
    let entry = store.import("hello:1", BINARY).unwrap();
    let store = store.reopen();
    let found = store.images.find("hello:1").unwrap().unwrap();
    assert_eq!(found, entry);
    assert_eq!(store.module(&found), BINARY);
    assert_eq!(found.module_name, "hello.wasm");
    let [image] = store.images.list().try_into().unwrap();
    assert_eq!(image.tags, ["docker.io/library/hello:1"]);
    assert_eq!(image.id, entry.manifest.to_string());
    assert!(store.images.find(entry.id.as_str()).unwrap().is_some());
    assert!(store.images.find(entry.id.hex()).unwrap().is_some());
}

#[test]
fn the_same_binary_gives_the_same_image() {
    let store = store();
    let first = store.import("hello:1", BINARY).unwrap();
    let second = store.import("other/hello:2", BINARY).unwrap();
    assert_eq!(first.manifest, second.manifest);
    assert_eq!(store.images.list().len(), 1);
}

#[test]
fn what_is_not_wasm_is_kept_for_the_compiler_to_refuse() {
    let store = store();
    for (name, content) in [("text", &b"hello"[..]), ("empty", b""), ("cut", b"\0asm")] {
        let entry = store.import(name, content).unwrap();
        assert_eq!(store.module(&entry), content, "{name}");
    }
}

#[test]
fn artifacts_and_images_are_read_from_layouts() {
    let store = store();
    let entry = store.import("artifact", artifact()).unwrap();
    assert_eq!(store.module(&entry), BINARY);
    assert_eq!(entry.id, entry.manifest);

    let files: &[(&str, &[u8])] = &[("app/hello.wasm", BINARY), ("etc/passwd", b"root")];
    for (name, archive) in [
        ("image", image("/app/hello.wasm", files)),
        ("gz", gzip(&image("/app/hello.wasm", files))),
    ] {
        let entry = store.import(name, archive).unwrap();
        assert_eq!(store.module(&entry), BINARY, "{name}");
        assert_ne!(entry.id, entry.manifest);
        assert_eq!(entry.execution.entrypoint, ["/app/hello.wasm"]);
        assert_eq!(entry.execution.cmd, ["--port"]);
    }
}

#[test]
fn a_container_image_is_told_apart() {
    let store = store();
    let error = store
        .import("nginx", image("/bin/nginx", &[("bin/nginx", b"\x7fELF")]))
        .unwrap_err();
    assert!(matches!(error, ImportError::ContainerImage(_)), "{error}");
    assert_eq!(store.blobs(), 0);
}

#[test]
fn refuses_archives_that_are_not_whole_and_keeps_nothing() {
    let index_only = |manifests: Vec<Value>| Layout::default().tar(manifests);
    let absent = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"absent"), "size": 1});
    let wrong = {
        let mut layout = Layout::default();
        let manifest = layout.blob(OCI_MANIFEST, "{}");
        layout.blobs[0].1 = b"[]".to_vec();
        layout.tar(vec![manifest])
    };
    for (archive, expected) in [
        (tar(&[("a", b"")]), "index.json is missing"),
        (tar(&[("manifest.json", b"[]")]), "docker save"),
        (index_only(vec![]), "holds no image"),
        (index_only(vec![absent]), "is missing from the archive"),
        (wrong, "blob cannot be stored"),
        (gzip(b"not a tar"), "cannot be read"),
    ] {
        let store = store();
        let error = store.import("x", archive).unwrap_err();
        let text = cri::Error::failed("import", error).chain();
        assert!(text.contains(expected), "{text} does not say {expected}");
        assert_eq!(store.blobs(), 0, "{expected}");
        assert!(store.images.list().is_empty());
    }
}

#[test]
fn names_in_an_archive_reach_no_path_of_ours() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("blobs/sha256/x");
    let absolute = target.display().to_string();
    let mut archive = Vec::new();
    for name in [
        "../../escape",
        absolute.trim_start_matches('/'),
        "blobs/sha256/../../../escape",
    ] {
        let mut header = tar::Header::new_gnu();
        let bytes = name.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        header.set_size(0);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
    }
    archive.extend_from_slice(&[0; 1024]);
    let store = store();
    assert!(store.import("x", archive).is_err());
    assert!(!target.exists() && !store.dir.path().join("escape").exists());
    assert_eq!(store.blobs(), 0);
}

#[test]
fn removal_frees_the_content() {
    let store = store();
    let entry = store.import("hello:1", BINARY).unwrap();
    store.images.remove(&entry).unwrap();
    assert!(store.images.find("hello:1").unwrap().is_none());
    assert_eq!(store.blobs(), 0);
    assert_eq!(store.reopen().images.list().len(), 0);
}

#[test]
fn opening_frees_what_a_crash_left() {
    let store = store();
    store.import("hello:1", BINARY).unwrap();
    let before = store.blobs();
    store.images.blobs.put(&mut &b"orphan"[..], 100, None).unwrap();
    fs::write(store.dir.path().join("incoming/7"), b"half").unwrap();
    let store = store.reopen();
    assert_eq!(store.blobs(), before);
    assert_eq!(fs::read_dir(store.dir.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn a_damaged_index_is_reported_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index.json"), b"{").unwrap();
    assert!(matches!(Images::open(dir.path()), Err(StoreError::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However an archive is damaged, import answers, and what it keeps is what the index needs.
    #[test]
    fn damaged_archives_leave_a_consistent_store(
        cut in 0usize..20_000,
        damage in proptest::collection::vec((0usize..20_000, any::<u8>()), 0..8),
    ) {
        let mut archive = image("/a.wasm", &[("a.wasm", BINARY)]);
        for (position, byte) in damage {
            if let Some(place) = archive.get_mut(position) { *place = byte; }
        }
        archive.truncate(cut);
        let store = store();
        let _ = store.import("x", archive);
        let needed: std::collections::BTreeSet<_> =
            store.images.catalogue.read().entries().flat_map(|entry| entry.blobs.clone()).collect();
        let kept: std::collections::BTreeSet<_> = store.images.blobs.list().unwrap().into_iter().collect();
        prop_assert_eq!(needed, kept);
    }
}
