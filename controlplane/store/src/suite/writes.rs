//! One change per revision, made only if everything is as expected.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::future::join_all;

use super::{commit, contents, next_change};
use crate::{Backend, Expect, Outcome, Revision, Write};

pub(super) async fn revisions_ascend_by_one(backend: &impl Backend) {
    assert_eq!(backend.revision().await.unwrap(), Revision::FIRST, "an empty store");
    for n in 1..20 {
        let expected = Revision(Revision::FIRST.0 + n);
        assert_eq!(
            commit(backend, Write::put(format!("k/{}", n % 3), n.to_string())).await,
            expected
        );
        assert_eq!(backend.revision().await.unwrap(), expected);
    }
}

pub(super) async fn compares_before_it_sets(backend: &impl Backend) {
    let stale = commit(backend, Write::create("there", "old")).await;
    let at = commit(backend, Write::put("there", "new")).await;
    let refused = [
        (Write::create("there", "x"), "there"),
        (Write::update("there", "x", stale), "there"),
        (Write::update("there", "new", stale), "there"),
        (Write::delete("there", Expect::At(stale)), "there"),
        (Write::update("gone", "x", at), "gone"),
        (Write::delete("gone", Expect::At(at)), "gone"),
    ];
    for (write, conflict) in refused {
        let current = backend.get(conflict).await.unwrap().value;
        let expected = Outcome::Conflict {
            key: conflict.into(),
            current,
        };
        assert_eq!(backend.write(write.clone()).await.unwrap(), expected, "{write:?}");
        assert_eq!(backend.revision().await.unwrap(), at, "a conflict commits nothing");
    }
    let updated = commit(backend, Write::update("there", "newer", at)).await;
    let kv = backend.get("there").await.unwrap().value.expect("it was set");
    assert_eq!(
        (kv.value, kv.created, kv.revision),
        (Bytes::from("newer"), stale, updated)
    );
    commit(backend, Write::delete("there", Expect::At(updated))).await;
    assert_eq!(backend.get("there").await.unwrap().value, None);
}

pub(super) async fn compares_guards(backend: &impl Backend) {
    let space = commit(backend, Write::create("space", "open")).await;
    let guarded = |key: &str| {
        Write::create(key, "x")
            .guard("space", Expect::At(space))
            .guard("other", Expect::Absent)
    };
    commit(backend, guarded("a")).await;
    let other = commit(backend, Write::create("other", "here")).await;
    let current = backend.get("other").await.unwrap().value;
    let expected = Outcome::Conflict {
        key: "other".into(),
        current,
    };
    assert_eq!(backend.write(guarded("b")).await.unwrap(), expected);
    commit(backend, Write::delete("other", Expect::At(other))).await;
    commit(backend, guarded("b")).await;
    commit(backend, Write::put("space", "closed")).await;
    let current = backend.get("space").await.unwrap().value;
    let expected = Outcome::Conflict {
        key: "space".into(),
        current,
    };
    assert_eq!(backend.write(guarded("c")).await.unwrap(), expected);
    // The changed key is looked at first.
    let current = backend.get("a").await.unwrap().value;
    assert_eq!(
        backend.write(guarded("a")).await.unwrap(),
        Outcome::Conflict {
            key: "a".into(),
            current
        }
    );
}

pub(super) async fn unchanged_writes_commit_nothing(backend: &impl Backend) {
    let at = commit(backend, Write::put("a", "same")).await;
    let now = commit(backend, Write::put("b", "other")).await;
    let mut watch = backend.watch("", now).await.unwrap();
    for write in [Write::put("a", "same"), Write::update("a", "same", at)] {
        assert_eq!(backend.write(write).await.unwrap(), Outcome::Unchanged(at));
    }
    for expect in [Expect::Any, Expect::Absent] {
        let outcome = backend.write(Write::delete("nothing", expect)).await.unwrap();
        assert_eq!(outcome, Outcome::Unchanged(now));
    }
    assert_eq!(backend.revision().await.unwrap(), now);
    let guarded = Write::put("a", "same").guard("b", Expect::Absent);
    assert!(
        matches!(backend.write(guarded).await.unwrap(), Outcome::Conflict { .. }),
        "guards count all the same"
    );
    let marker = commit(backend, Write::put("marker", "")).await;
    assert_eq!(
        next_change(&mut watch).await.revision,
        marker,
        "nothing was told in between"
    );
}

pub(super) async fn a_key_created_again_is_another_one(backend: &impl Backend) {
    let first = commit(backend, Write::create("a", "same")).await;
    commit(backend, Write::delete("a", Expect::At(first))).await;
    let second = commit(backend, Write::create("a", "same")).await;
    let kv = backend.get("a").await.unwrap().value.expect("it is there");
    assert_eq!((kv.created, kv.revision), (second, second));
}

pub(super) async fn keeps_every_byte(backend: &impl Backend) {
    let values = [
        Bytes::new(),
        Bytes::from_static(&[0, 255, 10, 13, 0]),
        Bytes::from(vec![7; 1 << 20]),
    ];
    for (n, value) in values.iter().enumerate() {
        commit(backend, Write::create(format!("v/{n}/ü"), value.clone())).await;
    }
    let (stored, _) = contents(backend, "v/").await;
    assert!(
        stored.into_values().map(|kv| kv.value).eq(values),
        "values come back as they were"
    );
}

pub(super) async fn one_of_many_rivals_wins(backend: &impl Backend) {
    const RIVALS: u32 = 16;
    const EACH: u32 = 8;
    commit(backend, Write::create("count", "0")).await;
    let lost = AtomicU32::new(0);
    let add_one = async || {
        loop {
            let read = backend.get("count").await.unwrap().value.expect("it is there");
            let count: u32 = std::str::from_utf8(&read.value).unwrap().parse().unwrap();
            let write = Write::update("count", (count + 1).to_string(), read.revision);
            match backend.write(write).await.unwrap() {
                Outcome::Committed(_) => return,
                _ => lost.fetch_add(1, Ordering::Relaxed),
            };
        }
    };
    join_all((0..RIVALS).map(async |_| {
        for _ in 0..EACH {
            add_one().await;
        }
    }))
    .await;
    let read = backend.get("count").await.unwrap();
    assert_eq!(
        read.value.expect("it is there").value,
        Bytes::from((RIVALS * EACH).to_string())
    );
    assert_eq!(
        read.revision.0,
        Revision::FIRST.0 + 1 + u64::from(RIVALS * EACH),
        "after {lost:?} lost rounds"
    );
}
