//! Measures a sandbox host: requests per second and CPU per request of one service, and memory per idle pod.
//!
//! Usage: `cargo run --release -p wasm --example bench -- FILE.wasm [SECONDS] [CONNECTIONS] [IDLE_PODS]`
//!
//! The load comes from this process, over keep-alive connections to a loopback address, on the machine's same cores: CPU
//! per request is what compares, requests per second is what the two reach together.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it measures is its output"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wasm::protocol::compiled::{Compiled, Outcome};

use self::support::{Agent, Container, Host};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 33, 9, 1);

fn main() -> ExitCode {
    if let Some(code) = support::as_child() {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(bench())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn argument(index: usize, default: u64) -> u64 {
    env::args()
        .nth(index)
        .and_then(|word| word.parse().ok())
        .unwrap_or(default)
}

async fn bench() -> io::Result<()> {
    let file = env::args()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: bench FILE.wasm [SECONDS] [CONNECTIONS] [IDLE_PODS]"))?;
    let (seconds, connections, pods) = (argument(2, 10), argument(3, 32), argument(4, 1000));
    let began = Instant::now();
    let (outcome, code) = support::compile(&fs::read(file)?)?;
    let Outcome::Compiled(compiled) = outcome else {
        return Err(io::Error::other(format!("{outcome:?}")));
    };
    println!(
        "compiled in {:?}, {} KiB of code",
        began.elapsed(),
        compiled.code_length >> 10
    );
    let host = Host::start()?;
    let mut agent = host.connect(1).await?;
    println!("idle host: {} KiB resident", resident(&host)?);
    let log = tempfile::tempfile()?;
    let guest = Guest { code, compiled, log };
    agent.run_sandbox("busy", ADDRESS).await?;
    agent.run("busy", guest.pod("busy")).await?;
    println!("one pod: {} KiB resident", resident(&host)?);
    load(&host, &mut agent, Duration::from_secs(seconds), connections).await?;
    println!("after the load: {} KiB resident", resident(&host)?);
    let (before, began) = (resident(&host)?, Instant::now());
    for index in 0..pods {
        let id = format!("idle-{index}");
        let [_, _, high, low] = u32::try_from(index).unwrap_or(0).to_be_bytes();
        agent.run_sandbox(&id, Ipv4Addr::new(127, 34, high, low)).await?;
        agent.run(&id, guest.pod(&id)).await?;
    }
    let each = began.elapsed() / u32::try_from(pods).unwrap_or(1).max(1);
    println!(
        "{pods} idle pods: {} KiB resident each, {each:?} to start each",
        (resident(&host)?.saturating_sub(before)) / pods.max(1)
    );
    Ok(())
}

/// What every pod runs.
struct Guest {
    code: File,
    compiled: Compiled,
    log: File,
}

impl Guest {
    fn pod<'a>(&'a self, id: &'a str) -> Container<'a> {
        let Self { code, compiled, log } = self;
        Container {
            id,
            code,
            compiled,
            log,
            env: Vec::new(),
            port: 8080,
            resources: cri::Resources::default(),
        }
    }
}

async fn load(host: &Host, agent: &mut Agent, duration: Duration, connections: u64) -> io::Result<()> {
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(Arc::clone(&answered), Arc::clone(&stop))))
        .collect();
    let (cpu, metered) = (cpu_ticks(host)?, used(agent).await?);
    let began = Instant::now();
    tokio::time::sleep(duration).await;
    let (elapsed, requests) = (began.elapsed(), answered.load(Relaxed));
    let (cpu, metered) = (cpu_ticks(host)? - cpu, used(agent).await? - metered);
    stop.store(true, Relaxed);
    for client in clients {
        client.await.map_err(io::Error::other)??;
    }
    let each = |nanoseconds: u64| nanoseconds as f64 / 1000.0 / requests as f64;
    println!(
        "{:.0} requests/s over {connections} connections; the host's CPU {:.1} us each, {:.1} us of it charged to the pod",
        requests as f64 / elapsed.as_secs_f64(),
        each(cpu * 10_000_000),
        each(metered),
    );
    Ok(())
}

async fn used(agent: &mut Agent) -> io::Result<u64> {
    Ok(agent
        .stats()
        .await?
        .iter()
        .map(|stats| stats.cpu_usage_core_nanoseconds)
        .sum())
}

async fn client(answered: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> io::Result<()> {
    let mut stream = TcpStream::connect((ADDRESS, 8080)).await?;
    stream.set_nodelay(true)?;
    let mut reply = Vec::with_capacity(4096);
    while !stop.load(Relaxed) {
        stream.write_all(REQUEST).await?;
        reply.clear();
        while !is_whole(&reply) {
            if stream.read_buf(&mut reply).await? == 0 {
                return Err(io::Error::other("the service closed the connection"));
            }
        }
        if !reply.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&reply).into_owned()));
        }
        answered.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Whether all of an answer is here: as many bytes as its head says, or the last chunk.
fn is_whole(reply: &[u8]) -> bool {
    let Some(end) = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = reply.split_at(end);
    let length = String::from_utf8_lossy(head)
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    match length {
        Some(length) => body.len() == 4_usize.saturating_add(length),
        None => reply.ends_with(b"0\r\n\r\n"),
    }
}

/// Hundredths of a second of CPU that the host has used.
fn cpu_ticks(host: &Host) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid()))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum())
}

/// KiB.
fn resident(host: &Host) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0))
}
