//! Members that die while clients write and watch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use store::{Backend, Change, Error, Outcome, Page, Revision, Signal, Write};
use store_etcd::Etcd;
use tokio::time::timeout;

use crate::members::{Cluster, Version, need_etcd};

const WRITERS: usize = 4;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates one key after the other until it is told to stop; returns how many it knows to exist. A client that retries:
/// where the outcome of a write is not known, it looks.
async fn write(etcd: Etcd, writer: usize, stop: Arc<AtomicBool>) -> usize {
    let mut written = 0;
    while !stop.load(Ordering::SeqCst) {
        let key = format!("w/{writer}/{written:06}");
        match etcd.write(Write::create(&*key, format!("by {writer}"))).await {
            Ok(Outcome::Committed(_)) => written += 1,
            Ok(Outcome::Conflict { current, .. }) => {
                assert_eq!(
                    current.unwrap().value,
                    format!("by {writer}"),
                    "only we write \"{key}\""
                );
                written += 1;
            }
            Ok(other) => panic!("a create is not {other:?}"),
            Err(Error::Unavailable { .. } | Error::Undecided { .. }) => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            Err(error) => panic!("{error}"),
        }
    }
    written
}

/// Everything that is told until the marker is.
async fn follow(etcd: Etcd, from: Revision) -> Vec<Change> {
    let mut watch = etcd.watch("w/", from).await.unwrap();
    let mut changes: Vec<Change> = Vec::new();
    while changes.last().is_none_or(|change| &*change.key != "w/~") {
        match timeout(PATIENCE, watch.next())
            .await
            .expect("the watch goes on")
            .unwrap()
            .unwrap()
        {
            Signal::Change(change) => changes.push(change),
            Signal::Progress(_) => panic!("nobody asked"),
        }
    }
    changes
}

async fn waits_for_more(etcd: &Etcd, than: usize) {
    let count = async || match etcd.range("w/", Page::all(), None).await {
        Ok(range) => range.items.len(),
        Err(_) => 0,
    };
    let more = async {
        while count().await <= than {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, more).await.expect("writes go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_under_writes_loses_and_doubles_nothing() {
    let program = need_etcd!(Version::V3_5);
    let mut cluster = Cluster::start(&program, 3, "http", &[]);
    let etcd = cluster.connect().await;
    let from = etcd.revision().await.unwrap();
    let watches: Vec<_> = (0..3).map(|_| tokio::spawn(follow(etcd.clone(), from))).collect();
    // As other servers would have it: connections of their own.
    let other = cluster.connect().await;
    let others = tokio::spawn(follow(other.clone(), from));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let etcd = if writer % 2 == 0 { etcd.clone() } else { other.clone() };
            tokio::spawn(write(etcd, writer, stop.clone()))
        })
        .collect();
    let mut known = 0;
    for _ in 0..3 {
        waits_for_more(&etcd, known + 100).await;
        let leader = cluster.leader().await;
        cluster.members[leader].kill();
        known = etcd
            .range("w/", Page::all(), None)
            .await
            .map_or(known, |range| range.items.len());
        waits_for_more(&etcd, known + 100).await;
        cluster.members[leader].start();
    }
    stop.store(true, Ordering::SeqCst);
    let mut written = Vec::new();
    for writer in writers {
        written.push(timeout(PATIENCE, writer).await.expect("it stops").unwrap());
    }
    while !matches!(
        etcd.write(Write::put("w/~", "end")).await,
        Ok(Outcome::Committed(_) | Outcome::Unchanged(_))
    ) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let there = etcd.range("w/", Page::all(), None).await.unwrap();
    let there: BTreeMap<_, _> = there.items.into_iter().map(|kv| (kv.key, kv.revision)).collect();
    for (writer, written) in written.iter().enumerate() {
        for n in 0..*written {
            let key = format!("w/{writer}/{n:06}");
            assert!(there.contains_key(&*key), "\"{key}\" was acknowledged");
        }
    }
    for watch in watches.into_iter().chain([others]) {
        let changes = timeout(PATIENCE, watch).await.expect("it ends").unwrap();
        assert!(
            changes.windows(2).all(|two| two[0].revision < two[1].revision),
            "in order and none twice"
        );
        let told: BTreeMap<_, _> = changes
            .into_iter()
            .map(|change| (change.key, change.revision))
            .collect();
        assert_eq!(told, there, "everything that is there was told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_written_and_afterwards_all_goes_on() {
    let program = need_etcd!(Version::V3_5);
    let mut cluster = Cluster::start(&program, 3, "http", &[]);
    let etcd = cluster.connect().await;
    let first = etcd.write(Write::create("a", "1")).await.unwrap();
    let Outcome::Committed(first) = first else {
        panic!("{first:?}")
    };
    let mut watch = etcd.watch("", first).await.unwrap();
    cluster.members[0].kill();
    let second = timeout(PATIENCE, async {
        loop {
            match etcd.write(Write::update("a", "2", first)).await {
                Ok(Outcome::Committed(revision)) => return revision,
                Ok(Outcome::Conflict { current, .. }) => return current.unwrap().revision,
                Ok(other) => panic!("{other:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    let second = second.await.expect("one member of three is not missed");
    cluster.members[1].kill();
    let error = etcd.write(Write::update("a", "3", second)).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. } | Error::Undecided { .. }),
        "{error}"
    );
    let error = etcd.get("a").await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }),
        "a read is not answered by a minority: {error}"
    );
    cluster.members[2].kill();
    let error = etcd.write(Write::update("a", "3", second)).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. } | Error::Undecided { .. }),
        "{error}"
    );
    for member in &mut cluster.members {
        member.start();
    }
    let last = timeout(PATIENCE, async {
        loop {
            match etcd.write(Write::put("a", "4")).await {
                Ok(Outcome::Committed(revision) | Outcome::Unchanged(revision)) => return revision,
                Ok(other) => panic!("{other:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    let last = last.await.expect("it comes back");
    let mut told = Vec::new();
    while told.last() != Some(&last) {
        match timeout(PATIENCE, watch.next())
            .await
            .expect("the watch goes on")
            .unwrap()
            .unwrap()
        {
            Signal::Change(change) => told.push(change.revision),
            Signal::Progress(_) => {}
        }
    }
    assert!(told.is_sorted_by(|a, b| a < b) && told.contains(&second), "{told:?}");
}
