//! Measures what this store adds to a direct put: `cargo run --release -p store-etcd --example puts -- ENDPOINT [SECONDS]`.
//!
//! For 1 and 16 clients that each have one write under way, prints writes per second, latency and the CPU time of this
//! process per write: first by a put of etcd's own on the same kind of connection, then by the store, once creating keys
//! and once replacing them. Values have 1 KiB. The difference in CPU time is what the store costs.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use store::{Backend, Outcome, Write};
use store_etcd::{
    Etcd, Options,
    proto::{self, PutRequest},
};
use tonic::transport::{Channel, Endpoint};

#[derive(Clone)]
enum Way {
    Direct(Channel),
    Create(Etcd),
    Replace(Etcd),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Way::Direct(_) => "put",
            Way::Create(_) => "create",
            Way::Replace(_) => "replace",
        }
    }

    async fn write(&self, client: usize, n: usize) -> Result<()> {
        let value = format!("{n:0>1024}");
        let run = std::process::id();
        let new = format!("{run}/{client}/{n:08}");
        match self {
            Way::Direct(channel) => {
                let request = PutRequest {
                    key: format!("/direct/{new}").into(),
                    value: value.into(),
                    lease: 0,
                };
                proto::kv(channel.clone()).put(request).await?;
            }
            Way::Create(etcd) => committed(etcd.write(Write::create(new, value)).await?)?,
            Way::Replace(etcd) => committed(etcd.write(Write::put(format!("{run}/{client}/same"), value)).await?)?,
        }
        Ok(())
    }
}

fn committed(outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Committed(_) => Ok(()),
        other => bail!("a write was not committed: {other:?}"),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().context("usage: puts ENDPOINT [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let channel = Endpoint::from_shared(endpoint.clone())?
        .tcp_nodelay(true)
        .connect()
        .await?;
    let etcd = Etcd::connect(Options::new([endpoint])).await?;
    println!("way      clients  writes/s   p50 us   p99 us   CPU us/write");
    for clients in [1, 16] {
        for way in [
            Way::Direct(channel.clone()),
            Way::Create(etcd.clone()),
            Way::Replace(etcd.clone()),
        ] {
            measure(&way, clients, Duration::from_secs(seconds)).await?;
        }
    }
    Ok(())
}

async fn measure(way: &Way, clients: usize, time: Duration) -> Result<()> {
    let (started, cpu) = (Instant::now(), cpu_time()?);
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let way = way.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < time {
                    let before = Instant::now();
                    way.write(client, latencies.len()).await?;
                    latencies.push(before.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time()? - cpu);
    latencies.sort_unstable();
    let count = latencies.len();
    let percentile = |percent: usize| latencies.get(count * percent / 100).map(Duration::as_micros);
    println!(
        "{:8} {clients:7} {:9.0} {:8} {:8} {:14.1}",
        way.name(),
        count as f64 / elapsed.as_secs_f64(),
        percentile(50).context("no writes")?,
        percentile(99).context("no writes")?,
        cpu.as_micros() as f64 / count as f64,
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
