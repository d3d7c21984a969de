//! Forgetting history under watches, and who does it.

use std::time::Duration;

use futures::StreamExt;
use store::{Backend, Error, Outcome, Revision, Signal, Write};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::members::{Cluster, Version, need_etcd};

const PATIENCE: Duration = Duration::from_secs(60);

async fn put(backend: &impl Backend, value: usize) -> Revision {
    match backend.write(Write::put("k", value.to_string())).await.unwrap() {
        Outcome::Committed(revision) => revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_compact_together_and_keep_the_last_period() {
    let program = need_etcd!(Version::V3_5);
    let cluster = Cluster::start(&program, 1, "http", &["--unsafe-no-fsync".to_owned()]);
    let servers = [
        cluster.connect().await,
        cluster.connect().await,
        cluster.connect().await,
    ];
    let shutdown = CancellationToken::new();
    let every = Duration::from_millis(300);
    let keepers: Vec<_> = servers
        .iter()
        .map(|server| {
            let (server, shutdown) = (server.clone(), shutdown.clone());
            tokio::spawn(async move { server.keep_compacted(every, shutdown).await })
        })
        .collect();
    let first = put(&servers[0], 0).await;
    let mut watch = servers[0].watch("k", first).await.unwrap();
    let follow = async {
        let mut last = first;
        for n in 1.. {
            let revision = put(&servers[n % 3], n).await;
            match watch.next().await.unwrap().unwrap() {
                Signal::Change(change) => assert_eq!(change.revision, revision, "one that reads is never too late"),
                Signal::Progress(_) => panic!("nobody asked"),
            }
            last = revision;
            let late = servers[0].watch("k", first).await;
            if let Err(Error::Compacted { compacted }) = late {
                assert!(compacted > first && compacted <= revision, "{compacted}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        last
    };
    let last = timeout(PATIENCE, follow).await.expect("history is compacted");
    servers[1].watch("k", last).await.unwrap();
    shutdown.cancel();
    for keeper in keepers {
        timeout(PATIENCE, keeper).await.expect("it stops").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_comes_back_too_late_says_so() {
    let program = need_etcd!(Version::V3_5);
    let mut cluster = Cluster::start(&program, 1, "http", &[]);
    let etcd = cluster.connect().await;
    let first = put(&etcd, 0).await;
    let mut watch = etcd.watch("k", first).await.unwrap();
    put(&etcd, 1).await;
    watch.next().await.unwrap().unwrap();
    cluster.members[0].kill();
    cluster.members[0].start();
    let other = cluster.connect().await;
    for n in 2..6 {
        put(&other, n).await;
    }
    other.compact(other.revision().await.unwrap()).await.unwrap();
    // Its stream broke before that, and it was not looked at since.
    let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert!(matches!(told, Err(Error::Compacted { .. })), "{told:?}");
    assert!(watch.next().await.is_none(), "an error ends the watch");
}
