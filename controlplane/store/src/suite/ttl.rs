//! Values that expire.

use std::time::Duration;

use super::{commit, next_change};
use crate::{Backend, Expect, Write};

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
