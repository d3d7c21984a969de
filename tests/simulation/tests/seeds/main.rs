//! A whole cluster in one process, in bad weather, with users at work; then the weather clears and everything must become
//! as the users left it. A run is a function of its seed.
//!
//! `WHERRY_SEEDS=1000 cargo test -p simulation` tries the first thousand seeds, `WHERRY_SEED=17` one of them, with
//! `RUST_LOG` and `--nocapture` to see what it does.

mod check;
mod fleet;
mod trace;
mod trouble;
mod user;

use std::time::Duration;

use harness::{Cluster, entropy, weather::Climate};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::{trace::Trace, trouble::Trouble, user::User};

/// How many seeds are tried unless `WHERRY_SEEDS` says otherwise.
const SEEDS: u64 = 24;
const NODES: u8 = 3;
/// How long users work and faults strike.
const UNREST: Duration = Duration::from_secs(300);
/// How long a cluster may take to come to rest: the longest back-offs, evictions and silences of watches, one after another.
const PATIENCE: Duration = Duration::from_secs(2400);
/// How long it must then stay as it is.
const CALM: Duration = Duration::from_secs(90);

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    /// A digest of every change of the store, in order.
    digest: u64,
    changes: u64,
    /// How long the cluster took to come to rest.
    rest: Duration,
}

/// Runs one seed to its end.
fn simulate(seed: u64) -> Result<Report, String> {
    entropy::seeded(seed, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.expect("a runtime").block_on(live(seed))
    })
}

async fn live(seed: u64) -> Result<Report, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(seed, NODES).await;
    let trace = Trace::follow(&cluster.store).await;
    let mut user = User::new(cluster.api.administrator(), random.random());
    let mut trouble = Trouble::new(random.random());
    user.arrive().await;
    let end = Instant::now() + UNREST;
    while Instant::now() < end {
        sleep(Duration::from_millis(random.random_range(1..2000))).await;
        match random.random_bool(0.85) {
            true => user.act(&cluster).await,
            false => trouble.strike(&mut cluster).await,
        }
        trace.verdict()?;
    }
    tracing::info!("the weather clears");
    cluster.weather.set(Climate::FAIR);
    cluster.start_all().await;
    user.leave().await;
    let rest = come_to_rest(&cluster, &trace).await?;
    Ok(Report {
        digest: trace.digest(),
        changes: trace.changes(),
        rest,
    })
}

/// Waits until nothing is wrong, and sees that it stays so.
async fn come_to_rest(cluster: &Cluster, trace: &Trace) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut good_since = None;
    loop {
        trace.verdict()?;
        let wrong = check::violations(cluster).await;
        let now = Instant::now();
        if wrong.is_empty() {
            let since = *good_since.get_or_insert(now);
            if now - since >= CALM {
                return Ok(since - begun);
            }
        } else if good_since.take().is_some() {
            tracing::warn!(?wrong, "was good, is bad again");
        }
        if now - begun >= PATIENCE {
            return Err(format!("not at rest after {PATIENCE:?}: {wrong:#?}"));
        }
        sleep(Duration::from_secs(5)).await;
    }
}

fn of_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The run of a single seed: what the others start, each in a process of its own.
#[test]
fn one_seed_converges() {
    let seed = of_environment("WHERRY_SEED").unwrap_or(0);
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .try_init();
    let begun = std::time::Instant::now();
    match simulate(seed) {
        Ok(report) => println!("seed {seed}: {report:?} in {:?}", begun.elapsed()),
        Err(wrong) => panic!("seed {seed}: {wrong}"),
    }
}

#[test]
fn a_seed_determines_its_run() {
    let reports = fleet::run(&[1, 1]);
    let said: Vec<&str> = reports.iter().map(|run| run.report().expect("converges")).collect();
    assert_eq!(said[0], said[1]);
}

#[test]
fn every_seed_converges() {
    let count = of_environment("WHERRY_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = (1..=count).collect();
    let failed: Vec<String> = fleet::run(&seeds).iter().filter_map(fleet::Run::complaint).collect();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
