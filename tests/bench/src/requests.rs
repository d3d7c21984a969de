//! Requests per second of the example component through its Service, beside `wasmtime serve` of the same component.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use e2e::{Cluster, Options, repository, run, until};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    figures::{Durations, print},
    processes,
};

/// Where `wasmtime serve` listens inside the cluster's network namespace.
const OTHER: &str = "127.0.0.1:8099";

/// Deploys the example, loads its Service address and, where asked for, `wasmtime serve` before and after it.
pub(crate) fn measure(clients: usize, seconds: u64, wasmtime: Option<&Path>) -> anyhow::Result<()> {
    let cluster = Cluster::start(Options::default());
    let component = repository().join("examples/hello/hello.wasm");
    cluster.load(&component, "hello:1").ok();
    cluster
        .kubectl(&[
            "apply",
            "-f",
            repository()
                .join("examples/hello")
                .to_str()
                .context("a path in UTF-8")?,
        ])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    let service = cluster.get(&["service", "hello"]);
    let address = format!(
        "{}:80",
        service["spec"]["clusterIP"]
            .as_str()
            .context("the Service has an address")?
    );
    for round in 1..=2 {
        let hosts = || -> Vec<u32> {
            let all = processes::of_binary(&e2e::binary());
            all.into_iter()
                .filter(|p| p.command.contains("sandbox-host"))
                .map(|p| p.pid)
                .collect()
        };
        one("wherry", round, &cluster, &address, clients, seconds, hosts)?;
        if let Some(wasmtime) = wasmtime {
            let mut child = serve(&cluster, wasmtime, &component)?;
            let pid = child.id();
            let result = one("wasmtime-serve", round, &cluster, OTHER, clients, seconds, || vec![pid]);
            child.kill()?;
            child.wait()?;
            result?;
        }
    }
    Ok(())
}

fn serve(cluster: &Cluster, wasmtime: &Path, component: &Path) -> anyhow::Result<Child> {
    let mut command = cluster.on_machine(wasmtime.to_str().context("a path in UTF-8")?);
    command
        .args(["serve", "-Scli", "--addr", OTHER])
        .arg(component)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn()?;
    until("wasmtime serve answers", Duration::from_secs(60), || {
        let answer = cluster.curl(&format!("http://{OTHER}/"));
        if answer.success { Ok(()) } else { Err(answer.stderr) }
    });
    Ok(child)
}

fn one(
    name: &str,
    round: usize,
    cluster: &Cluster,
    address: &str,
    clients: usize,
    seconds: u64,
    pids: impl Fn() -> Vec<u32>,
) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let mut load = cluster.on_machine(own.to_str().context("a path in UTF-8")?);
    load.args(["load-requests", address, &clients.to_string(), &seconds.to_string()]);
    let used = || pids().into_iter().map(processes::cpu).sum::<Duration>();
    let before = used();
    let out = run(&mut load, "").ok();
    let used = used().saturating_sub(before);
    let count = out
        .split_whitespace()
        .find_map(|w| w.strip_prefix("count="))
        .context("the load prints its count")?;
    let each = used.as_secs_f64() * 1e6 / count.parse::<f64>()?;
    print(format!(
        "requests server={name} round={round} clients={clients} {} server_cpu_us_each={each:.1}",
        out.trim()
    ));
    Ok(())
}

/// Sends requests from `clients` connections for `seconds`.
pub(crate) async fn load(address: SocketAddr, clients: usize, seconds: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(client(address, end));
    }
    let mut all = Durations::default();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    print(format!("count={} rate_per_s={rate:.0} {}", all.len(), all.summary()));
    Ok(())
}

async fn client(address: SocketAddr, end: Instant) -> anyhow::Result<Durations> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut durations = Durations::default();
    while Instant::now() < end {
        let request = Request::get("/").header("host", "hello").body(Empty::<Bytes>::new())?;
        let start = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        durations.push(start.elapsed());
        if !status.is_success() {
            bail!("the server answers {status}");
        }
    }
    Ok(durations)
}
