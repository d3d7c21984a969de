use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use futures::StreamExt;
use futures::task::{ArcWake, waker};
use store::{Backend, Error, Expect, Outcome, Page, Revision, Signal, Write, suite};

use crate::{OpenError, Options, Redb};

mod faults;

fn open(path: &Path) -> Redb {
    Redb::open(path, Options::default()).unwrap()
}

async fn put(store: &Redb, key: &str, value: &str) -> Revision {
    match store.write(Write::put(key, value.to_owned())).await.unwrap() {
        Outcome::Committed(revision) => revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn passes_the_suite() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let count = std::cell::Cell::new(0);
    suite::run_all(async || {
        count.set(count.get() + 1);
        open(&directory.path().join(count.get().to_string()))
    })
    .await;
}

#[tokio::test]
async fn passes_the_suite_when_watches_read_from_the_file() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let count = std::cell::Cell::new(0);
    suite::run_all(async || {
        count.set(count.get() + 1);
        let options = Options {
            tail_changes: 1,
            ..Options::default()
        };
        Redb::open(&directory.path().join(count.get().to_string()), options).unwrap()
    })
    .await;
}

#[tokio::test]
async fn survives_crashes() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("store");
    let crash = async |store: Redb| {
        // What a killed process leaves is what has been written so far, not what closing adds.
        let left = fs::read(&path).unwrap();
        drop(store);
        fs::write(&path, left).unwrap();
    };
    suite::survives_crashes(async || open(&path), crash).await;
}

#[tokio::test]
async fn closing_keeps_everything_and_refuses_what_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path);
    let at = put(&store, "a", "x").await;
    let mut watch = store.watch("", at).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    assert!(matches!(store.get("a").await, Err(Error::Closed)));
    assert!(matches!(store.revision().await, Err(Error::Closed)));
    assert!(matches!(store.write(Write::put("a", "y")).await, Err(Error::Closed)));
    let again = open(&path);
    assert_eq!(again.get("a").await.unwrap().value.unwrap().value, "x");
}

#[tokio::test]
async fn history_is_bounded_by_revisions_and_by_bytes() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let kept = async |name: &str, options: Options| {
        let store = Redb::open(&directory.path().join(name), options).unwrap();
        let mut last = Revision::FIRST;
        for n in 0..60 {
            last = put(&store, "a", &format!("{n:0>1000}")).await;
        }
        let error = store.range("", Page::all(), Some(Revision::FIRST)).await.unwrap_err();
        let Error::Compacted { compacted } = error else {
            panic!("{error}")
        };
        assert_eq!(
            store.range("", Page::all(), Some(compacted)).await.unwrap().items.len(),
            1
        );
        last.0 - compacted.0
    };
    let few = Options {
        history_revisions: 7,
        tail_changes: 2,
        ..Options::default()
    };
    assert_eq!(kept("revisions", few).await, 7);
    // A change weighs two values of 1,000 bytes and some.
    let light = Options {
        history_bytes: 21_000,
        ..Options::default()
    };
    assert_eq!(kept("bytes", light).await, 10);
    let none = Options {
        history_revisions: 0,
        history_bytes: 0,
        ..Options::default()
    };
    assert_eq!(kept("nothing", none).await, 1, "the latest stays");
}

#[tokio::test]
async fn a_watch_sleeps_through_what_happens_elsewhere() {
    #[derive(Default)]
    struct Woken(AtomicUsize);
    impl ArcWake for Woken {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = Options {
        tail_changes: 2,
        ..Options::default()
    };
    let store = Redb::open(&directory.path().join("store"), options).unwrap();
    let from = put(&store, "b/0", "x").await;
    let mut watch = store.watch("a/", from).await.unwrap();
    let woken = Arc::new(Woken::default());
    let waker = waker(woken.clone());
    let mut context = Context::from_waker(&waker);
    assert!(watch.poll_next_unpin(&mut context).is_pending());
    let mut last = from;
    for index in 0..10 {
        last = put(&store, "b/0", &index.to_string()).await;
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    store.compact(last).await.unwrap();
    let matching = put(&store, "a/0", "x").await;
    assert!(woken.0.load(Ordering::SeqCst) > 0);
    let Poll::Ready(Some(Ok(Signal::Change(change)))) = watch.poll_next_unpin(&mut context) else {
        panic!("what was forgotten did not concern this watch");
    };
    assert_eq!((&*change.key, change.revision), ("a/0", matching));
    let last = put(&store, "b/0", "y").await;
    watch.request_progress();
    assert_eq!(watch.next().await.unwrap().unwrap(), Signal::Progress(last));
}

#[tokio::test]
async fn values_expire_while_the_store_is_closed() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("store");
    let open = |clock| {
        Redb::open(
            &path,
            Options {
                clock,
                ..Options::default()
            },
        )
        .unwrap()
    };
    let store = open(|| UNIX_EPOCH + Duration::from_secs(1000));
    store
        .write(Write::create("a", "x").ttl(Duration::from_secs(60)))
        .await
        .unwrap();
    store
        .write(Write::create("b", "x").ttl(Duration::from_secs(3600)))
        .await
        .unwrap();
    let now = store.revision().await.unwrap();
    drop(store);
    let store = open(|| UNIX_EPOCH + Duration::from_secs(2000));
    let mut watch = store.watch("", now).await.unwrap();
    let Some(Ok(Signal::Change(change))) = watch.next().await else {
        panic!("it expires")
    };
    assert_eq!((&*change.key, change.value, change.revision), ("a", None, now.next()));
    assert!(store.get("b").await.unwrap().value.is_some());
}

#[tokio::test]
async fn a_second_opener_is_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path);
    let error = Redb::open(&path, Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert_one_line(
        &error,
        "is in use by another process: stop that one first, or choose another data directory",
    );
    put(&store, "a", "the first one goes on").await;
    drop(store);
    open(&path);
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    drop(open(&path));
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(crate::format::FORMATS)
        .unwrap()
        .insert("format", 2)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Redb::open(&path, Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 2, known: 1, .. }));
    assert_one_line(&error, "has format 2, and this version knows none after 1");
}

#[test]
fn files_that_are_no_store_are_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, vec![7; 8192]).unwrap();
    let foreign = directory.path().join("foreign");
    let database = redb::Database::create(&foreign).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(redb::TableDefinition::<u64, u64>::new("other"))
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    for path in [garbage, foreign] {
        let before = fs::read(&path).unwrap();
        let error = Redb::open(&path, Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_one_line(&error, "is not a store, or is damaged");
        assert_eq!(fs::read(&path).unwrap().len(), before.len(), "it is left alone");
    }
    let error = Redb::open(&directory.path().join("no/such/directory"), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }));
}

#[test]
fn what_a_crash_left_of_making_a_store_is_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    fs::write(directory.path().join("store.new"), vec![7; 8192]).unwrap();
    drop(open(&path));
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["store"]);
}

#[test]
fn messages_follow_the_kind_of_error() {
    use std::io::{Error as IoError, ErrorKind};
    for (kind, part) in [
        (
            ErrorKind::PermissionDenied,
            "is not writable: check its owner and permissions",
        ),
        (ErrorKind::ReadOnlyFilesystem, "is not writable"),
        (ErrorKind::StorageFull, "no space left to open the store"),
        (ErrorKind::Other, "cannot open the store"),
    ] {
        let error = OpenError::io(Path::new("/data/store.redb"), IoError::from(kind));
        assert_one_line(&error, part);
        assert!(error.to_string().contains("\"/data/store.redb\""), "{error}");
    }
}

fn assert_one_line(error: &OpenError, part: &str) {
    let text = error.to_string();
    assert!(text.contains(part) && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn rivals_on_many_threads_lose_nothing() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Arc::new(open(&directory.path().join("store")));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            runtime.spawn(async move {
                for n in 0..100 {
                    put(&store, &format!("k/{writer}"), &n.to_string()).await;
                }
                store
                    .write(Write::delete(format!("k/{writer}"), Expect::Any))
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.revision().await.unwrap(), Revision(1 + 808));
    runtime.shutdown_background();
}
