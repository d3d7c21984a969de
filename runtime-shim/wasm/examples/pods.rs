//! How long a pod takes at the runtime: `cargo run --release -p wasm --example pods [N]` makes N pods one after the
//! other, each with one HTTP container, waits for its first answer, and prints percentiles.

#![allow(clippy::print_stdout, reason = "what it is for")]

#[path = "../src/host/fixtures.rs"]
mod fixtures;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    ffi::OsString,
    net::Ipv4Addr,
    process::ExitCode,
    time::{Duration, Instant},
};

use cri::{ContainerConfig, ImportContent, Runtime as _, SandboxConfig};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wasm::{Config, Runtime};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    if let Some(code) = support::as_child() {
        return Ok(code);
    }
    let pods = std::env::args().nth(1).map_or(Ok(500), |word| word.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(pods))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(pods: usize) -> Result<(), Failure> {
    let data = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let command = |word: &str| vec![OsString::from(&program), OsString::from(word)];
    let config = Config {
        data_dir: data.path().to_owned(),
        pod_range: Some(ipnet::Ipv4Net::new(Ipv4Addr::new(127, 41, 0, 0), 16)?),
        netns: None,
        dialable_loopback: Vec::new(),
        host_command: command("sandbox-host"),
        compile_command: command("compile"),
        host_uid_base: None,
        cgroup_parent: None,
        boot_id: "bench".to_owned(),
        host_idle: Duration::from_secs(60),
    };
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let runtime = Runtime::start(config, tasks.clone(), shutdown.clone()).await?;
    let binary = fixtures::http("(call $answer (local.get $out))");
    runtime
        .import_image("hello", ImportContent::Bytes(binary.into()))
        .await?;
    let logs = data.path().display().to_string();
    let mut times = [(); 4].map(|()| Vec::with_capacity(pods));
    for number in 0..=pods {
        let spans = pod(&runtime, number, &logs).await?;
        // The first pod starts the host.
        if number == 0 {
            println!("first pod, which starts the host: {:?}", spans.iter().sum::<Duration>());
        } else {
            times.iter_mut().zip(spans).for_each(|(times, span)| times.push(span));
        }
    }
    for (name, times) in ["run sandbox", "create container", "start container", "first connection"]
        .iter()
        .zip(&mut times)
    {
        times.sort();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        println!("{name:17} p50 {:?} p99 {:?}", at(50), at(99));
    }
    runtime.down().await?;
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn pod(runtime: &Runtime, number: usize, logs: &str) -> Result<[Duration; 4], Failure> {
    let name = format!("pod-{number}");
    let sandbox = SandboxConfig {
        uid: name.clone(),
        namespace: "bench".to_owned(),
        log_directory: logs.to_owned(),
        name: name.clone(),
        ..SandboxConfig::default()
    };
    let container = ContainerConfig {
        name: "main".to_owned(),
        image: "hello".to_owned(),
        log_path: format!("{name}.log"),
        ..ContainerConfig::default()
    };
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
    let sandbox = runtime.run_sandbox(sandbox, "").await?;
    let ran = lap();
    let container = runtime.create_container(&sandbox.id, container).await?;
    let created = lap();
    runtime.start_container(&container).await?;
    let started = lap();
    let address = *sandbox.ips.first().ok_or("the sandbox has no address")?;
    TcpStream::connect((address, 8080)).await?;
    Ok([ran, created, started, lap()])
}
