//! The binary is killed at random moments while clients write, read and watch; what they saw must be true.
//!
//! `WHERRY_KILLS=100` kills it a hundred times.

mod clients;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use e2e::{Cluster, need_root};
use history::{check::check, record::History};
use rand::RngExt;

use crate::clients::Clients;

/// How often the binary is killed unless `WHERRY_KILLS` says otherwise.
const KILLS: u32 = 15;

fn kills() -> u32 {
    let text = std::env::var("WHERRY_KILLS").ok();
    text.map_or(KILLS, |text| text.parse().expect("WHERRY_KILLS is a number"))
}

/// Kills and starts the cluster again; each time at a moment between its first steps and steady work.
fn torment(cluster: &mut Cluster) {
    for _ in 0..kills() {
        let alive = Duration::from_millis(rand::rng().random_range(20..600));
        let_pass(alive);
        cluster.crash();
        cluster.launch();
        if rand::rng().random_bool(0.8) {
            cluster.wait_ready();
        }
    }
}

/// Lets clients work.
#[allow(clippy::disallowed_methods, reason = "a kill waits for nothing but its moment")]
fn let_pass(time: Duration) {
    thread::sleep(time);
}

#[test]
fn no_kill_loses_a_write_or_an_event() {
    need_root!();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut cluster = Cluster::start(e2e::control_plane());
    let (namespace, kubeconfig) = (cluster.network(), cluster.kubeconfig());
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let clients = {
        let stop = stop.clone();
        thread::spawn(move || Clients::enter(&namespace, kubeconfig, begun).work(&stop))
    };
    torment(&mut cluster);
    // What was launched last may not be ready yet; clients go on until it is, and then for a while.
    let_pass(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let history: History = clients.join().expect("the clients end");
    let wrong = check(&history);
    let acknowledged = history
        .ops
        .iter()
        .filter(|op| matches!(op.answer, history::record::Answer::Written(_)));
    let lost = history
        .ops
        .iter()
        .filter(|op| op.answer == history::record::Answer::Lost)
        .count();
    let events = history
        .watchers
        .iter()
        .flatten()
        .filter(|seen| matches!(seen, history::record::Seen::Event(_)));
    let lists = history
        .watchers
        .iter()
        .flatten()
        .filter(|seen| matches!(seen, history::record::Seen::Listed(..)));
    let resumed = history
        .watchers
        .iter()
        .flatten()
        .filter(|seen| matches!(seen, history::record::Seen::Resumed(_)));
    println!(
        "{} kills in {:?}: {} requests, {} writes acknowledged, {lost} answers lost, {} events, {} lists, {} watches",
        kills(),
        begun.elapsed(),
        history.ops.len(),
        acknowledged.count(),
        events.count(),
        lists.count(),
        resumed.count()
    );
    assert!(
        history.ops.len() > 100 && lost > 0,
        "the clients were at work while the binary was killed"
    );
    assert!(
        wrong.is_empty(),
        "{} things cannot be:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}
