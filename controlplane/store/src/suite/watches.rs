//! Watches: everything, once, in order, and without waiting for one another.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::join_all;
use futures::join;

use super::{Contents, Writes, applied, changes_up_to, commit, contents, next_change, next_signal};
use crate::{Backend, Change, Error, Expect, Outcome, Revision, Signal, Write};

pub(super) async fn tells_what_changed_and_how_it_was(backend: &impl Backend) {
    commit(backend, Write::create("w/before", "x")).await;
    let from = commit(backend, Write::create("w/a", "1")).await;
    let mut watch = backend.watch("w/", from).await.unwrap();
    commit(backend, Write::create("v", "elsewhere")).await;
    let updated = commit(backend, Write::put("w/a", "2")).await;
    commit(backend, Write::create("w", "elsewhere too")).await;
    let deleted = commit(backend, Write::delete("w/a", Expect::Any)).await;
    let created = commit(backend, Write::create("w/a", "3")).await;

    let change = next_change(&mut watch).await;
    let prev = change.prev.clone().expect("it was there");
    assert_eq!(
        (&*change.key, change.revision, change.value),
        ("w/a", updated, Some(Bytes::from("2")))
    );
    assert_eq!(
        (prev.value, prev.created, prev.revision),
        (Bytes::from("1"), from, from)
    );
    let change = next_change(&mut watch).await;
    let prev = change.prev.clone().expect("it was there");
    assert_eq!((change.revision, change.value), (deleted, None));
    assert_eq!(
        (prev.value, prev.created, prev.revision),
        (Bytes::from("2"), from, updated)
    );
    let change = next_change(&mut watch).await;
    assert_eq!(
        (change.revision, change.value, change.prev),
        (created, Some(Bytes::from("3")), None)
    );
}

pub(super) async fn resumes_after_every_revision(backend: &impl Backend) {
    let mut writes = Writes::new(3, "w/", 5);
    let mut last = Revision::FIRST;
    for _ in 0..40 {
        if let Outcome::Committed(revision) = backend.write(writes.next()).await.unwrap() {
            last = revision;
        }
    }
    let mut watch = backend.watch("w/", Revision::FIRST).await.unwrap();
    let all = changes_up_to(&mut watch, last).await;
    for (n, change) in all.iter().enumerate().take(all.len() - 1) {
        let mut resumed = backend.watch("w/", change.revision).await.unwrap();
        assert_eq!(
            changes_up_to(&mut resumed, last).await,
            all[n + 1..],
            "after {}",
            change.revision
        );
    }
}

pub(super) async fn loses_doubles_and_reorders_nothing(backend: &impl Backend) {
    const WRITERS: u64 = 8;
    const MARKER: &str = "w/~";
    let write = async {
        let revisions = join_all((0..WRITERS).map(async |seed| {
            let mut writes = Writes::new(seed, "w/", 10);
            let mut committed = Vec::new();
            for _ in 0..50 {
                if let Outcome::Committed(revision) = backend.write(writes.next()).await.unwrap() {
                    committed.push(revision);
                }
                // A store that answers at once would otherwise keep everybody else waiting until the end.
                tokio::task::yield_now().await;
            }
            committed
        }))
        .await;
        let last = commit(backend, Write::put(MARKER, "end")).await;
        (
            revisions.concat().into_iter().chain([last]).collect::<BTreeSet<_>>(),
            last,
        )
    };
    // Some watches run from the start, others begin while writers are at work, from the beginning or from now.
    let follow = async |start_after: u64, from_now: bool| {
        let mut trigger = backend.watch("w/", Revision::FIRST).await.unwrap();
        while start_after > 0 && next_change(&mut trigger).await.revision.0 < start_after {}
        let (state, from) = match from_now {
            true => contents(backend, "w/").await,
            false => (Contents::new(), Revision::FIRST),
        };
        let mut watch = backend.watch("w/", from).await.unwrap();
        let mut changes: Vec<Change> = Vec::new();
        while !state.contains_key(MARKER) && changes.last().is_none_or(|change| &*change.key != MARKER) {
            changes.push(next_change(&mut watch).await);
        }
        (state, from, changes)
    };
    let watches = join_all([
        follow(0, false),
        follow(0, true),
        follow(60, false),
        follow(90, true),
        follow(200, true),
    ]);
    let ((committed, last), watches) = join!(write, watches);
    let (end, _) = contents(backend, "w/").await;
    for (mut state, from, changes) in watches {
        let told: Vec<Revision> = changes.iter().map(|change| change.revision).collect();
        let expected: Vec<Revision> = committed.range(from.next()..=last).copied().collect();
        assert_eq!(told, expected, "every change after {from}, once, in order");
        for change in &changes {
            assert_eq!(state.get(&change.key), change.prev.as_ref(), "what {change:?} replaced");
            applied(&mut state, change);
        }
        assert_eq!(state, end, "the changes after {from} lead to what is there");
    }
}

pub(super) async fn progress_follows_what_was_acknowledged(backend: &impl Backend) {
    let mut watch = backend.watch("w/", Revision::FIRST).await.unwrap();
    for n in 0..5 {
        commit(backend, Write::put("w/a", n.to_string())).await;
        let elsewhere = commit(backend, Write::put("v", n.to_string())).await;
        watch.request_progress();
        assert_eq!(
            next_change(&mut watch).await.value,
            Some(Bytes::from(n.to_string())),
            "changes come first"
        );
        match next_signal(&mut watch).await.unwrap() {
            Signal::Progress(revision) => assert!(revision >= elsewhere, "{revision} includes {elsewhere}"),
            change => panic!("progress was asked for, not {change:?}"),
        }
    }
    let asker = watch.asker();
    let (told, ()) = join!(next_signal(&mut watch), async { asker.ask() });
    assert!(
        matches!(told.unwrap(), Signal::Progress(_)),
        "a watch at rest answers as well"
    );
}

pub(super) async fn one_that_does_not_read_holds_up_nobody(backend: &impl Backend) {
    let mut idle = backend.watch("w/", Revision::FIRST).await.unwrap();
    let mut last = Revision::FIRST;
    for round in 0..40 {
        let written = join_all((0..64).map(|n| commit(backend, Write::put(format!("w/{n}"), round.to_string())))).await;
        last = written.into_iter().max().expect("64 writes").max(last);
    }
    let mut previous = Revision::FIRST;
    while previous < last {
        match next_signal(&mut idle).await {
            Ok(Signal::Change(change)) => {
                assert_eq!(change.revision, previous.next(), "none is left out");
                previous = change.revision;
            }
            Ok(Signal::Progress(_)) => panic!("nobody asked for progress"),
            Err(error) => {
                assert!(
                    matches!(error, Error::Compacted { .. }),
                    "it was told that it is too late: {error}"
                );
                return;
            }
        }
    }
}
