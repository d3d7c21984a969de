//! Measures durable writes: `cargo run --release -p store-redb --example writes -- DIRECTORY [SECONDS]`.
//!
//! For 1, 16 and 64 clients that each have one write under way, prints writes per second, latency and the CPU time of
//! the whole process per write. Values have 1 KiB; three of four writes create a key, one replaces one.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use store::{Backend, Outcome, Write};
use store_redb::{Options, Redb};

struct Measured {
    latencies: Vec<Duration>,
    elapsed: Duration,
    cpu: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().context("usage: writes DIRECTORY [SECONDS]")?);
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    println!("clients  writes/s   p50 us   p99 us   CPU us/write  file MiB");
    for clients in [1, 16, 64] {
        let path = directory.join(format!("bench-{}-{clients}.redb", std::process::id()));
        let measured = measure(&path, clients, Duration::from_secs(seconds)).await;
        let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        std::fs::remove_file(&path)?;
        print(clients, measured?, size)?;
    }
    Ok(())
}

async fn measure(path: &std::path::Path, clients: usize, time: Duration) -> Result<Measured> {
    let store = Arc::new(Redb::open(path, Options::default())?);
    let (started, cpu) = (Instant::now(), cpu_time()?);
    let tasks: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(client_loop(store.clone(), client, started + time)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let measured = Measured {
        latencies,
        elapsed: started.elapsed(),
        cpu: cpu_time()? - cpu,
    };
    store.close().await;
    Ok(measured)
}

async fn client_loop(store: Arc<Redb>, client: usize, until: Instant) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let n = latencies.len();
        let key = format!(
            "core/configmaps/bench-{client}/config-{:08}",
            n - usize::from(n % 4 == 3)
        );
        let before = Instant::now();
        let outcome = store.write(Write::put(key, format!("{n:0>1024}"))).await?;
        latencies.push(before.elapsed());
        if !matches!(outcome, Outcome::Committed(_)) {
            bail!("a write was not committed: {outcome:?}");
        }
    }
    Ok(latencies)
}

fn print(clients: usize, mut measured: Measured, size: u64) -> Result<()> {
    let count = measured.latencies.len();
    measured.latencies.sort_unstable();
    let percentile = |percent: usize| measured.latencies.get(count * percent / 100).map(Duration::as_micros);
    let (p50, p99) = (
        percentile(50).context("no writes")?,
        percentile(99).context("no writes")?,
    );
    let rate = count as f64 / measured.elapsed.as_secs_f64();
    let cpu = measured.cpu.as_micros() as f64 / count as f64;
    println!(
        "{clients:7} {rate:9.0} {p50:8} {p99:8} {cpu:14.1} {:9.1}",
        size as f64 / f64::from(1 << 20)
    );
    Ok(())
}

/// The CPU time of this process so far, user and system (see proc(5): fields 14 and 15, in 1/100 s).
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').context("no name in /proc/self/stat")?.1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}
