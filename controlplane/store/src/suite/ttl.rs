//! Values that expire.

use std::time::Duration;

use super::{changes_up_to, commit, next_change};
use crate::{Backend, Change, Expect, Write};

const SOON: Duration = Duration::from_millis(30);
const MUCH_LATER: Duration = Duration::from_secs(3600);

pub(super) async fn expiry_is_an_ordinary_deletion(backend: &impl Backend) {
    commit(backend, Write::create("t/b", "y").ttl(MUCH_LATER)).await;
    let created = commit(backend, Write::create("t/a", "x").ttl(SOON)).await;
    let mut watch = backend.watch("t/", created).await.unwrap();
    let change = next_change(&mut watch).await;
    assert_eq!(
        (&*change.key, change.value, change.revision),
        ("t/a", None, created.next())
    );
    assert_eq!(change.prev.map(|prev| prev.revision), Some(created));
    let read = backend.get("t/a").await.unwrap();
    assert_eq!((read.value, read.revision), (None, created.next()));
    assert!(
        backend.get("t/b").await.unwrap().value.is_some(),
        "its time has not come"
    );
    assert_eq!(
        commit(backend, Write::create("t/a", "again")).await,
        created.next().next()
    );
}

pub(super) async fn a_later_write_decides_anew(backend: &impl Backend) {
    commit(backend, Write::create("t/forever", "x").ttl(SOON)).await;
    commit(backend, Write::put("t/forever", "y")).await;
    commit(backend, Write::create("t/longer", "x").ttl(SOON)).await;
    commit(backend, Write::put("t/longer", "y").ttl(MUCH_LATER)).await;
    commit(backend, Write::create("t/again", "x").ttl(SOON)).await;
    // On a slow machine it may be gone already.
    backend.write(Write::delete("t/again", Expect::Any)).await.unwrap();
    commit(backend, Write::create("t/again", "y")).await;
    commit(backend, Write::create("t/sooner", "x")).await;
    let last = commit(backend, Write::put("t/sooner", "y").ttl(SOON * 2)).await;
    let mut watch = backend.watch("t/", last).await.unwrap();
    let change = next_change(&mut watch).await;
    assert_eq!(
        (&*change.key, change.value, change.revision),
        ("t/sooner", None, last.next())
    );
    for key in ["t/forever", "t/longer", "t/again"] {
        assert!(backend.get(key).await.unwrap().value.is_some(), "{key} is still there");
    }
}

pub(super) async fn what_expires_together_is_told_in_full(backend: &impl Backend) {
    const MANY: usize = 20;
    let mut last = commit(backend, Write::create("t/stays", "x")).await;
    for n in 0..MANY {
        last = commit(backend, Write::create(format!("t/{n:02}"), "x").ttl(SOON)).await;
    }
    let mut watch = backend.watch("t/", last).await.unwrap();
    let mut gone: Vec<Change> = Vec::new();
    while gone.len() < MANY {
        gone.push(next_change(&mut watch).await);
    }
    assert!(gone.iter().all(|change| change.value.is_none()), "{gone:?}");
    assert!(
        gone.is_sorted_by_key(|change| change.revision),
        "in the order of revisions"
    );
    let mut keys: Vec<_> = gone.iter().map(|change| change.key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), MANY, "each once");
    for change in &gone {
        let after: Vec<_> = gone
            .iter()
            .filter(|later| later.revision > change.revision)
            .cloned()
            .collect();
        let marker = commit(backend, Write::put("t/stays", change.key.to_string())).await;
        let mut resumed = backend.watch("t/", change.revision).await.unwrap();
        let told = changes_up_to(&mut resumed, marker).await;
        let told: Vec<_> = told.into_iter().filter(|change| &*change.key != "t/stays").collect();
        assert_eq!(told, after, "after {}", change.revision);
    }
}
