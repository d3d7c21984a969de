use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Cache, EventKind, Index, Options, Watcher};
use crate::memory::Memory;
use crate::ring::Bounds;
use crate::{Backend, Error, Expect, Kv, Outcome, Page, Range, Read, Revision, Watch, Write};

const DEADLINE: Duration = Duration::from_secs(30);

/// Serves a value as `<value>@<revision>`.
struct Stamp;

impl Index for Stamp {
    type Entry = usize;

    fn index(&self, _: &str, revision: Revision, stored: &Bytes) -> (Bytes, usize) {
        let text = format!("{}@{revision}", String::from_utf8_lossy(stored));
        (text.into(), stored.len())
    }
}

/// The model, with watches that can be broken and histories that can be forgotten.
struct Flaky {
    memory: Memory,
    /// Cancels every open watch.
    cut: Mutex<CancellationToken>,
    watches: AtomicUsize,
}

impl Flaky {
    fn new() -> Arc<Self> {
        Arc::new(Flaky {
            memory: Memory::new(),
            cut: Mutex::default(),
            watches: AtomicUsize::new(0),
        })
    }

    fn cut(&self) {
        std::mem::take(&mut *self.cut.lock()).cancel();
    }
}

#[async_trait]
impl Backend for Flaky {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        self.memory.get(key).await
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        self.memory.range(prefix, page, at).await
    }

    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        self.memory.write(write).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.watches.fetch_add(1, Ordering::SeqCst);
        let watch = self.memory.watch(prefix, from).await?;
        let asker = watch.asker();
        let cut = self.cut.lock().clone();
        Ok(Watch::new(watch.take_until(cut.cancelled_owned()), move || asker.ask()))
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.memory.compact(to).await
    }
}

struct Running {
    cache: Arc<Cache<Stamp>>,
    shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn start(backend: Arc<dyn Backend>, options: Options) -> Running {
    let shutdown = CancellationToken::new();
    let cache = Cache::start(backend, "k/", Stamp, options, &TaskTracker::new(), shutdown.clone());
    tokio::time::timeout(DEADLINE, cache.ready())
        .await
        .expect("it lists in time");
    Running { cache, shutdown }
}

fn quick() -> Options {
    Options {
        page: 3,
        backoff: Duration::from_millis(1),
        ..Options::default()
    }
}

async fn put(backend: &dyn Backend, key: &str, value: &str) -> Revision {
    match backend.write(Write::put(key, value.to_owned())).await.unwrap() {
        Outcome::Committed(revision) => revision,
        other => panic!("{other:?}"),
    }
}

type Told = (EventKind, String, String);

/// The events up to a revision, as kind, key and bytes.
async fn told(watcher: &mut Watcher<Stamp>, up_to: Revision) -> Result<Vec<Told>, Error> {
    let mut told = Vec::new();
    let mut last = Revision::default();
    while last < up_to {
        let next = tokio::time::timeout(DEADLINE, watcher.next())
            .await
            .expect("events come in time");
        for event in next?.expect("the cache goes on") {
            last = event.revision;
            let bytes = String::from_utf8(event.item.bytes.to_vec()).unwrap();
            told.push((event.kind, event.item.key.to_string(), bytes));
        }
    }
    Ok(told)
}

fn listed(cache: &Cache<Stamp>) -> Vec<String> {
    cache
        .snapshot()
        .range("k/", None)
        .map(|item| String::from_utf8_lossy(&item.bytes).into_owned())
        .collect()
}

#[tokio::test]
async fn lists_in_pages_and_follows() {
    let store = Flaky::new();
    for n in 0..10 {
        put(&*store, &format!("k/{n}"), "x").await;
    }
    put(&*store, "other", "x").await;
    let running = start(store.clone(), quick()).await;
    let cache = &running.cache;
    let snapshot = cache.snapshot();
    assert_eq!(
        (snapshot.len("k/"), snapshot.len("k/3"), snapshot.revision),
        (10, 1, Revision(12))
    );
    let mut watcher = cache.watch("k/", snapshot.revision).unwrap();
    put(&*store, "k/3", "y").await;
    put(&*store, "other", "y").await;
    store.write(Write::delete("k/4", Expect::Any)).await.unwrap();
    let last = put(&*store, "k/a", "new").await;
    let expected: Vec<Told> = vec![
        (EventKind::Modified, "k/3".into(), "y@13".into()),
        (EventKind::Deleted, "k/4".into(), "x@15".into()),
        (EventKind::Added, "k/a".into(), "new@16".into()),
    ];
    assert_eq!(told(&mut watcher, last).await.unwrap(), expected);
    assert_eq!(cache.get("k/3").unwrap().entry, 1);
    assert!(cache.get("k/4").is_none());
    assert_eq!(snapshot.len("k/"), 10, "a snapshot stays as it was");
    let after: Vec<_> = snapshot
        .range("k/", Some("k/7"))
        .map(|item| item.key.to_string())
        .collect();
    assert_eq!(after, ["k/8", "k/9"]);
}

#[tokio::test]
async fn fresh_sees_every_acknowledged_write() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    join_all((0..8).map(async |writer| {
        for n in 0..50 {
            let key = format!("k/{writer}");
            let revision = put(&*store, &key, &n.to_string()).await;
            running.cache.fresh().await.unwrap();
            assert!(running.cache.get(&key).unwrap().revision >= revision);
            let elsewhere = put(&*store, &format!("other/{writer}"), &n.to_string()).await;
            assert!(
                running.cache.fresh().await.unwrap() >= elsewhere,
                "also where nothing changed here"
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn waits_for_a_revision_or_gives_up() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let revision = put(&*store, "other", "x").await;
    running.cache.wait_for(revision, DEADLINE).await.unwrap();
    let error = running
        .cache
        .wait_for(revision.next(), Duration::from_millis(1))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { revision: awaited } if awaited == revision.next()));
}

#[tokio::test]
async fn bookmarks_move_while_nothing_matches() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let mut watcher = running.cache.watch("k/none/", running.cache.revision()).unwrap();
    put(&*store, "k/a", "x").await;
    let elsewhere = put(&*store, "other", "x").await;
    assert_eq!(running.cache.fresh().await.unwrap(), elsewhere);
    let polled = futures::FutureExt::now_or_never(watcher.next());
    assert!(polled.is_none());
    assert_eq!(watcher.position(), elsewhere);
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl futures::task::ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_happens_elsewhere_wakes_no_watcher() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let mut watcher = running.cache.watch("k/", running.cache.revision()).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = futures::task::waker(woken.clone());
    let mut context = std::task::Context::from_waker(&waker);
    let mut next = std::pin::pin!(watcher.next());
    assert!(next.as_mut().poll(&mut context).is_pending());
    let elsewhere = put(&*store, "other", "x").await;
    assert_eq!(running.cache.fresh().await.unwrap(), elsewhere);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    let here = put(&*store, "k/a", "x").await;
    assert_eq!(running.cache.fresh().await.unwrap(), here);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(next.as_mut().poll(&mut context).is_ready());
}

#[tokio::test]
async fn a_slow_watcher_falls_out_alone() {
    let store = Flaky::new();
    let running = start(store.clone(), Options { history: 10, ..quick() }).await;
    let from = running.cache.revision();
    let mut slow = running.cache.watch("k/", from).unwrap();
    let mut quick = running.cache.watch("k/", from).unwrap();
    let mut last = from;
    for n in 0..20 {
        last = put(&*store, "k/a", &n.to_string()).await;
        assert_eq!(told(&mut quick, last).await.unwrap().len(), 1);
    }
    assert!(matches!(told(&mut slow, last).await, Err(Error::Compacted { .. })));
    assert!(matches!(running.cache.watch("k/", from), Err(Error::Compacted { .. })));
    assert!(matches!(
        running.cache.watch("k/", last.next()),
        Err(Error::FutureRevision { .. })
    ));
    running.cache.watch("k/", Revision(last.0 - 10)).unwrap();
}

#[tokio::test]
async fn history_is_bounded_by_bytes_too() {
    let store = Flaky::new();
    let running = start(
        store.clone(),
        Options {
            history_bytes: 1000,
            ..quick()
        },
    )
    .await;
    let from = running.cache.revision();
    for n in 0..5 {
        put(&*store, &format!("k/{n}"), &"x".repeat(400)).await;
    }
    running.cache.fresh().await.unwrap();
    assert!(matches!(running.cache.watch("k/", from), Err(Error::Compacted { compacted }) if compacted == Revision(4)));
}

#[tokio::test]
async fn a_broken_watch_is_resumed_unnoticed() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let mut watcher = running.cache.watch("k/", running.cache.revision()).unwrap();
    let mut count = 0;
    for round in 0..20 {
        let writes = join_all((0..5).map(async |n| {
            if n == round % 5 {
                store.cut();
            }
            put(&*store, &format!("k/{n}"), &round.to_string()).await
        }))
        .await;
        count += told(&mut watcher, writes.into_iter().max().unwrap())
            .await
            .unwrap()
            .len();
    }
    assert_eq!(count, 100, "each change once");
    assert!(store.watches.load(Ordering::SeqCst) > 1, "watches were broken");
    assert_eq!(listed(&running.cache).len(), 5);
}

#[tokio::test]
async fn lists_anew_where_the_watch_cannot_be_resumed() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let mut watcher = running.cache.watch("k/", running.cache.revision()).unwrap();
    // Nothing here yields to the cache, so the watch breaks before it has told of these, and they are forgotten.
    for n in 0..5 {
        put(&*store, "k/a", &n.to_string()).await;
    }
    let last = put(&*store, "k/b", "x").await;
    store.compact(last).await.unwrap();
    store.cut();
    assert!(matches!(told(&mut watcher, last).await, Err(Error::Compacted { .. })));
    let revision = running.cache.fresh().await.unwrap();
    assert_eq!(listed(&running.cache), ["4@6", "x@7"]);
    let mut again = running.cache.watch("k/", revision).unwrap();
    let last = put(&*store, "k/b", "y").await;
    assert_eq!(
        told(&mut again, last).await.unwrap(),
        [(EventKind::Modified, "k/b".into(), "y@8".into())]
    );
}

#[tokio::test]
async fn every_watcher_tells_how_the_state_came_about() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let cache = &running.cache;
    let from = cache.revision();
    let follow = async || {
        let mut watcher = cache.watch("k/", from).unwrap();
        let mut state = BTreeMap::new();
        loop {
            for event in watcher.next().await.unwrap().unwrap() {
                let item = event.item.clone();
                let before = match event.kind {
                    EventKind::Deleted => state.remove(&item.key),
                    _ => state.insert(item.key.clone(), item.clone()),
                };
                assert_eq!(before.map(|item| item.revision), event.prev.map(|item| item.revision));
                if &*item.key == "k/end" {
                    return state.into_values().map(|item| item.bytes.clone()).collect::<Vec<_>>();
                }
            }
        }
    };
    let write = async {
        join_all((0..6).map(async |writer| {
            for n in 0..40 {
                let key = format!("k/{}", (writer + n) % 7);
                let write = match n % 5 {
                    0 => Write::delete(key, Expect::Any),
                    _ => Write::put(key, format!("{writer}-{n}")),
                };
                store.write(write).await.unwrap();
            }
        }))
        .await;
        put(&*store, "k/end", "").await;
    };
    let (states, ()) = futures::join!(join_all([follow(), follow(), follow()]), write);
    let now: Vec<_> = cache
        .snapshot()
        .range("k/", None)
        .map(|item| item.bytes.clone())
        .collect();
    assert!(states.iter().all(|state| *state == now));
}

#[tokio::test]
async fn ends_with_its_token() {
    let store = Flaky::new();
    let running = start(store.clone(), quick()).await;
    let mut watcher = running.cache.watch("k/", running.cache.revision()).unwrap();
    running.shutdown.cancel();
    assert!(
        tokio::time::timeout(DEADLINE, watcher.next())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    let ahead = put(&*store, "k/a", "x").await;
    assert!(matches!(
        running.cache.wait_for(ahead, DEADLINE).await,
        Err(Error::Closed)
    ));
}

#[tokio::test]
async fn dropped_items_are_let_go() {
    let store = Flaky::new();
    let running = start(store.clone(), Options { history: 1, ..quick() }).await;
    put(&*store, "k/a", "x").await;
    running.cache.fresh().await.unwrap();
    let first = Arc::downgrade(&running.cache.get("k/a").unwrap());
    for n in 0..3 {
        put(&*store, "k/a", &n.to_string()).await;
    }
    running.cache.fresh().await.unwrap();
    assert_eq!(Weak::strong_count(&first), 0);
}

#[tokio::test(start_paused = true)]
async fn histories_shrink_when_time_has_passed() {
    let store = Flaky::new();
    let rest = Bounds {
        entries: 2,
        weight: usize::MAX,
    };
    let running = start(store.clone(), Options { rest, ..quick() }).await;
    let begun = running.cache.revision();
    for n in 0..10 {
        put(&*store, "k/a", &n.to_string()).await;
    }
    let last = running.cache.fresh().await.unwrap();
    assert!(running.cache.watch("k/", begun).is_ok());
    tokio::time::sleep(3 * quick().fresh).await;
    assert!(running.cache.watch("k/", begun).is_err());
    assert!(running.cache.watch("k/", Revision(last.0 - 2)).is_ok());
}

#[tokio::test]
async fn encodings_are_made_once() {
    let store = Flaky::new();
    put(&*store, "k/a", "x").await;
    let running = start(store, quick()).await;
    let item = running.cache.get("k/a").unwrap();
    let made = AtomicUsize::new(0);
    let make = |text: &'static str| {
        made.fetch_add(1, Ordering::SeqCst);
        Bytes::from(text)
    };
    let encodings = [
        item.memo(1, || make("one")),
        item.memo(2, || make("two")),
        item.memo(1, || make("again")),
    ];
    assert_eq!(
        (encodings.as_slice(), made.load(Ordering::SeqCst)),
        ([&b"one"[..], b"two", b"one"].map(Bytes::from).as_slice(), 2)
    );
}
