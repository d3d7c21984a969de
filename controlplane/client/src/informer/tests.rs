use std::{sync::atomic::Ordering, time::Duration};

use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::{fake::Fake, kinds};

#[derive(Debug, PartialEq, Deserialize)]
struct Slim {
    #[serde(default)]
    size: u32,
}

fn at(name: &str) -> NamespacedName {
    NamespacedName {
        namespace: None,
        name: name.into(),
    }
}

struct Setup {
    fake: Fake,
    informers: Informers,
    informer: Informer<Slim>,
}

impl Setup {
    async fn new() -> Self {
        let fake = Fake::new();
        fake.put(&kinds::POD, json!({"metadata": {"name": "a"}, "size": 1}));
        let informers = Informers::new(fake.client(), TaskTracker::new(), CancellationToken::new());
        let informer = informers.get::<Slim>(&kinds::POD, Scope::All);
        informer.synced().await;
        Self {
            fake,
            informers,
            informer,
        }
    }

    fn sizes(&self) -> Vec<(String, u32)> {
        self.informer
            .list()
            .into_iter()
            .map(|(key, slim)| (key.to_string(), slim.size))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn it_lists_then_follows() {
    let s = Setup::new().await;
    assert_eq!(s.sizes(), [("a".to_owned(), 1)]);
    s.fake.put(&kinds::POD, json!({"metadata": {"name": "b"}, "size": 2}));
    let revision = s.fake.put(&kinds::POD, json!({"metadata": {"name": "a"}, "size": 3}));
    s.informer.wait_seen(&revision).await;
    assert_eq!(s.sizes(), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
    s.fake.remove(&kinds::POD, "", "a");
    s.informer.wait_until(&at("a"), |slim| slim.is_none()).await;
    assert!(s.informer.has_seen(&s.fake.revision()));
}

#[tokio::test(start_paused = true)]
async fn all_readers_share_one_watch_that_ends_with_the_last() {
    let s = Setup::new().await;
    let other = s.informers.get::<Slim>(&kinds::POD, Scope::All);
    other.synced().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (
            s.fake.lists.load(Ordering::Relaxed),
            s.fake.watches.load(Ordering::Relaxed)
        ),
        (1, 1)
    );
    let weak = Arc::downgrade(&s.informer.handle.state);
    drop(other);
    drop(s.informer);
    sleep(Duration::from_secs(1)).await;
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closed_watch_resumes_without_a_list_and_misses_nothing() {
    let s = Setup::new().await;
    let mut deltas = s.informer.deltas();
    deltas.next().await;
    sleep(Duration::from_secs(1)).await;
    s.fake.epoch.send_modify(|epoch| *epoch += 1);
    s.fake.remove(&kinds::POD, "", "a");
    let revision = s.fake.put(&kinds::POD, json!({"metadata": {"name": "b"}, "size": 2}));
    s.informer.wait_seen(&revision).await;
    assert_eq!(s.fake.lists.load(Ordering::Relaxed), 1);
    let seen: Vec<_> = std::iter::from_fn(|| deltas.try_next())
        .map(|d| (d.key.to_string(), d.new.is_some()))
        .collect();
    assert_eq!(seen, [("a".to_owned(), false), ("b".to_owned(), true)]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_revision_means_a_new_list_that_reports_the_difference() {
    let s = Setup::new().await;
    let mut deltas = s.informer.deltas();
    deltas.next().await;
    sleep(Duration::from_secs(1)).await;
    s.fake.down.store(true, Ordering::Relaxed);
    s.fake.epoch.send_modify(|epoch| *epoch += 1);
    sleep(Duration::from_secs(1)).await;
    s.fake.remove(&kinds::POD, "", "a");
    let revision = s.fake.put(&kinds::POD, json!({"metadata": {"name": "b"}, "size": 2}));
    s.fake.compact();
    assert_eq!(
        s.sizes(),
        [("a".to_owned(), 1)],
        "what was known stays while the server is away"
    );
    s.fake.down.store(false, Ordering::Relaxed);
    s.informer.wait_seen(&revision).await;
    assert_eq!(s.sizes(), [("b".to_owned(), 2)]);
    assert_eq!(s.fake.lists.load(Ordering::Relaxed), 2);
    let mut seen: Vec<_> = std::iter::from_fn(|| deltas.try_next())
        .map(|d| d.key.to_string())
        .collect();
    seen.sort();
    assert_eq!(seen, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn changes_coalesce_per_key() {
    let s = Setup::new().await;
    let mut deltas = s.informer.deltas();
    s.fake.put(&kinds::POD, json!({"metadata": {"name": "a"}, "size": 2}));
    let revision = s.fake.put(&kinds::POD, json!({"metadata": {"name": "a"}, "size": 3}));
    s.informer.wait_seen(&revision).await;
    let delta = deltas.next().await.unwrap();
    assert_eq!((delta.old, delta.new.map(|slim| slim.size)), (None, Some(3)));
    assert!(deltas.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_does_not_fit_does_not_stop_the_others() {
    let s = Setup::new().await;
    s.fake
        .put(&kinds::POD, json!({"metadata": {"name": "a"}, "size": "many"}));
    let revision = s.fake.put(&kinds::POD, json!({"metadata": {"name": "b"}, "size": 2}));
    s.informer.wait_seen(&revision).await;
    assert_eq!(s.sizes(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}
