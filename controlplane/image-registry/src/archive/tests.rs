use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::catalogue::Manifest;
use crate::name::{Repository, Target};

fn hello() -> Repository {
    Repository::new("team", "hello").expect("a name")
}

fn tag(text: &str) -> Target {
    text.parse().expect("a tag")
}

fn now() -> api::time::Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn push(store: &Store, name: &str, content: &[u8]) -> Digest {
    let config = store.put(&hello(), b"{}").expect("stored");
    let layer = store.put(&hello(), content).expect("stored");
    let text = [b"manifest of ", content].concat();
    let document = store.put(&hello(), &text).expect("stored");
    let manifest = Manifest {
        media_type: "m".to_owned(),
        size: text.len() as u64,
        config: (&config, 2).into(),
        layer: (&layer, content.len() as u64).into(),
        program: json!({}),
        pushed_by: "ann".to_owned(),
    };
    let committed = store.commit(&hello(), &tag(name), &document, manifest, now());
    committed.expect("committed");
    layer
}

fn open(root: &Path) -> Arc<Store> {
    Arc::new(Store::open(root, 1 << 20).expect("opened"))
}

fn files(root: &Path) -> usize {
    fs::read_dir(root.join(BLOBS)).expect("a directory").count()
}

/// A backup of two images that share a configuration.
fn backup(root: &Path) -> Vec<u8> {
    let store = open(root);
    push(&store, "1", b"one");
    push(&store, "2", b"two, which is longer");
    let mut written = Vec::new();
    let summary = store.stand_still().go_on().write(&mut written).expect("written");
    assert_eq!((summary.images, files(root)), (2, 5));
    assert_eq!(check(&*written).expect("whole"), Some(summary));
    written
}

#[test]
fn what_was_there_comes_back() {
    let scratch = tempfile::tempdir().expect("a directory");
    let written = backup(&scratch.path().join("a"));
    let place = scratch.path().join("b");
    let summary = restore(&*written, &place).expect("restored").expect("images");
    let (before, after) = (open(&scratch.path().join("a")), open(&place));
    assert_eq!(before.list(None), after.list(None), "names, digests, revisions");
    assert_eq!((summary.images, files(&place)), (2, 5));
    let (_, manifest) = after.find(&hello(), &tag("2")).expect("it is there");
    let mut content = String::new();
    let mut file = after.open_blob(&manifest.layer.digest).expect("it is there");
    file.read_to_string(&mut content).expect("text");
    assert_eq!(content, "two, which is longer");
    // One that was not running is written the same.
    drop(before);
    let mut stopped = Vec::new();
    write_stopped(&scratch.path().join("a"), &mut stopped).expect("written");
    assert_eq!(stopped, written);
    let nothing = write_stopped(&scratch.path().join("nowhere"), io::sink()).expect("nothing");
    assert_eq!(nothing, Summary::default());
    // A backup of before there were images, and a directory that has some.
    assert_eq!(restore(io::empty(), &scratch.path().join("c")).expect("nothing"), None);
    assert!(!scratch.path().join("c").exists());
    assert!(matches!(restore(&*written, &place), Err(ArchiveError::Exists(_))));
}

#[test]
fn what_happens_meanwhile_changes_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let root = scratch.path().join("a");
    let store = open(&root);
    let one = push(&store, "1", b"one");
    let moment = store.stand_still().go_on();
    store
        .remove(&hello(), &tag("1"), now())
        .expect("removed")
        .expect("it was there");
    push(&store, "2", b"two");
    assert!(store.open_blob(&one).is_ok(), "the backup needs it");
    let mut written = Vec::new();
    assert_eq!(moment.write(&mut written).expect("written").images, 1);
    drop(moment);
    assert!(store.open_blob(&one).is_err(), "nobody needs it any more");
    assert_eq!(files(&root), 3);
    let place = scratch.path().join("b");
    restore(&*written, &place).expect("restored");
    let names: Vec<String> = open(&place).list(None).0.into_iter().map(|named| named.name).collect();
    assert_eq!(names, ["hello:1"]);
    // What is pushed again while it is kept for a backup stays.
    push(&store, "3", b"three");
    let moment = store.stand_still().go_on();
    store.remove(&hello(), &tag("3"), now()).expect("removed");
    let three = push(&store, "3", b"three");
    drop(moment);
    assert!(store.open_blob(&three).is_ok());
}

#[test]
fn what_is_not_whole_makes_no_registry() {
    let scratch = tempfile::tempdir().expect("a directory");
    let written = backup(&scratch.path().join("a"));
    let place = scratch.path().join("b");
    let says = |input: &[u8]| {
        let error = restore(input, &place).expect_err("refused").to_string();
        assert!(check(input).is_err(), "{error}");
        let left = fs::read_dir(scratch.path()).expect("a directory").count();
        assert!(!place.exists() && left == 1, "{error}");
        error
    };
    assert!(says(b"apiVersion: v1\nkind: List\n").contains("do not begin as images do"));
    for length in [3, 18, 100, written.len() / 2, written.len() - 1] {
        let error = says(&written[..length]);
        assert!(
            error.contains("cut short") || error.contains("begin"),
            "{length}: {error}"
        );
    }
    // Every byte counts.
    for at in (0..written.len()).step_by(7) {
        let mut altered = written.clone();
        altered[at] ^= 1;
        says(&altered);
    }
    let mut endless = written[..MARK.len()].to_vec();
    endless.extend(u32::MAX.to_be_bytes());
    assert!(says(&endless).contains("beyond belief"));
}

#[test]
fn a_damaged_content_is_named_and_no_backup_pretends_to_hold_it() {
    let scratch = tempfile::tempdir().expect("a directory");
    let store = open(scratch.path());
    let one = push(&store, "1", b"one");
    let place = scratch.path().join(BLOBS).join(one.hex());
    for content in [&b"two"[..], b"on", b"oneandmore"] {
        fs::write(&place, content).expect("written");
        let result = store.stand_still().go_on().write(io::sink());
        match content.len() {
            // The rest of it is nobody's.
            10 => assert!(result.is_ok()),
            _ => {
                let error = result.expect_err("damaged").to_string();
                assert!(
                    error.contains("team/hello@sha256:") && error.contains("push it again"),
                    "{error}"
                );
            }
        }
    }
    fs::remove_file(&place).expect("it was there");
    assert!(matches!(
        store.stand_still().go_on().write(io::sink()),
        Err(ArchiveError::Damaged { .. })
    ));
}
