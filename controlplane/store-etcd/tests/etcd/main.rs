//! The store on real etcd: the suite that every backend passes, and what happens when members die.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic is how a test says that something is wrong"
)]

mod compaction;
mod failover;
mod members;
mod security;

use std::cell::RefCell;

use store::suite;

use members::{Cluster, Version, need_etcd};

async fn passes_the_suite(version: Version, more: &[String]) {
    let program = need_etcd!(version);
    let current = RefCell::new(None);
    let make = async || {
        let cluster = Cluster::start(&program, 1, "http", more);
        let etcd = cluster.connect().await;
        // The previous one ends.
        current.replace(Some(cluster));
        etcd
    };
    suite::run_all(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_on_3_5() {
    passes_the_suite(Version::V3_5, &["--unsafe-no-fsync".to_owned()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_on_3_4_which_is_not_believed_about_progress() {
    passes_the_suite(Version::V3_4, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_crashes_of_etcd() {
    let program = need_etcd!(Version::V3_5);
    let cluster = tokio::sync::Mutex::new(Cluster::start(&program, 1, "http", &[]));
    let open = async || {
        let mut cluster = cluster.lock().await;
        if !cluster.members[0].runs() {
            cluster.members[0].start();
        }
        let options = cluster.options();
        cluster.connect_with(options).await
    };
    let crash = async |etcd| {
        cluster.lock().await.members[0].kill();
        drop(etcd);
    };
    suite::survives_crashes(open, crash).await;
}
