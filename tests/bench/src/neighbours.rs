//! How much a pod that misbehaves costs a pod that does not: the 99th percentile of a quiet pod's answers, alone and beside
//! each kind of noise, in rounds that alternate, so that what else the machine does falls on both.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use e2e::{Cluster, Options, repository, run};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    figures::{Durations, print},
    processes,
};

/// Noisy pods at once: more than the machine has processors.
const PODS: usize = 4;
/// Requests a second to the quiet pod: few, since it is quiet.
const RATE: u32 = 200;

/// A way to misbehave.
struct Noise {
    name: &'static str,
    /// What `tests/workloads` calls the guest, and its arguments.
    guest: &'static str,
    arguments: &'static str,
    /// What clients do to it, if it takes something to make it noisy.
    clients: Option<&'static str>,
}

const NOISES: &[Noise] = &[
    Noise {
        name: "loops",
        guest: "spin.wasm",
        arguments: "",
        clients: None,
    },
    Noise {
        name: "loops-per-request",
        guest: "http-spin.wasm",
        arguments: "",
        clients: Some("get"),
    },
    Noise {
        name: "hoards-memory",
        guest: "hog.wasm",
        arguments: "",
        clients: None,
    },
    Noise {
        name: "hoards-memory-per-request",
        guest: "http-hog.wasm",
        arguments: "",
        clients: Some("get"),
    },
    Noise {
        name: "opens-sockets",
        guest: "probe.wasm",
        arguments: "args: [hoard, '10.96.0.1:443'], ",
        clients: None,
    },
    Noise {
        name: "never-reads-bodies",
        guest: "http-spin.wasm",
        arguments: "",
        clients: Some("post"),
    },
];

/// Measures every kind of noise, or the one that `only` names.
pub(crate) fn measure(rounds: usize, seconds: u64, only: Option<&str>) -> anyhow::Result<()> {
    let cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "quiet:1")
        .ok();
    cluster.kubectl(&["create", "namespace", "noisy"]).ok();
    cluster.apply(&deployment("default", "quiet", "quiet:1", "", 1)).ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/quiet", "--timeout=60s"])
        .ok();
    let quiet = address(&cluster, "default", "quiet")?;
    let noises = NOISES.iter().filter(|noise| only.is_none_or(|only| only == noise.name));
    for noise in noises {
        let image = format!("{}:1", noise.name);
        let file = repository().join("tests/workloads").join(noise.guest);
        cluster.load(&file, &image).ok();
        cluster
            .apply(&deployment("noisy", noise.name, &image, noise.arguments, 0))
            .ok();
        let noisy = address(&cluster, "noisy", noise.name)?;
        let mut ratios = Vec::with_capacity(rounds);
        for round in 1..=rounds {
            let alone = p99(&cluster, &quiet, seconds)?;
            let beside = beside(&cluster, noise, &noisy, || p99(&cluster, &quiet, seconds))?;
            ratios.push(beside / alone);
            let load = processes::load_average();
            print(format!(
                "neighbours noise={} round={round} alone_p99_ms={alone:.2} beside_p99_ms={beside:.2} ratio={:.3} load={load}",
                noise.name,
                beside / alone
            ));
        }
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ratios.len() / 2).context("at least one round")?;
        print(format!(
            "neighbours noise={} rounds={rounds} median_ratio={median:.3}",
            noise.name
        ));
    }
    Ok(())
}

/// Measures while the noise is on.
fn beside(
    cluster: &Cluster,
    noise: &Noise,
    noisy: &str,
    measure: impl FnOnce() -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let scale = |replicas: usize| {
        let deployment = format!("deployment/{}", noise.name);
        let replicas = format!("--replicas={replicas}");
        cluster.kubectl(&["scale", "-n", "noisy", &deployment, &replicas]).ok();
        cluster
            .kubectl(&["rollout", "status", "-n", "noisy", &deployment, "--timeout=60s"])
            .success
    };
    scale(PODS); // a guest that ends again and again never becomes available
    let clients = noise.clients.map(|how| clients(cluster, how, noisy)).transpose()?;
    let measured = measure();
    if let Some(mut clients) = clients {
        clients.kill()?;
        clients.wait()?;
    }
    scale(0);
    measured
}

fn clients(cluster: &Cluster, how: &str, noisy: &str) -> anyhow::Result<Child> {
    let mut command = cluster.on_machine(own()?.to_str().context("a path in UTF-8")?);
    command
        .args(["load-noise", how, noisy])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command.spawn()?)
}

fn own() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// The 99th percentile of the quiet pod's answers, in milliseconds.
fn p99(cluster: &Cluster, quiet: &str, seconds: u64) -> anyhow::Result<f64> {
    let mut command = cluster.on_machine(own()?.to_str().context("a path in UTF-8")?);
    command.args(["load-quiet", quiet, &seconds.to_string()]);
    let out = run(&mut command, "").ok();
    let figure = out.split_whitespace().find_map(|word| word.strip_prefix("p99_ms="));
    Ok(figure.context("the load prints its p99")?.parse()?)
}

fn deployment(namespace: &str, name: &str, image: &str, arguments: &str, replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  replicas: \
         {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{image}', {arguments}ports: \
         [{{containerPort: 8080}}]}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

fn address(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<String> {
    let service = cluster.get(&["service", name, "-n", namespace]);
    let address = service["spec"]["clusterIP"].as_str();
    Ok(format!("{}:80", address.context("the Service has an address")?))
}

/// Asks the quiet pod at a steady rate on one connection. Each answer is timed from when its request was due.
pub(crate) async fn quiet(address: SocketAddr, seconds: u64) -> anyhow::Result<()> {
    go_first()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (mut durations, begun) = (Durations::default(), Instant::now());
    let mut due = begun;
    while begun.elapsed() < Duration::from_secs(seconds) {
        sleep_until(due);
        let request = Request::get("/").header("host", "quiet").body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        anyhow::ensure!(
            response.status().is_success(),
            "the quiet pod answers {}",
            response.status()
        );
        response.into_body().collect().await?;
        durations.push(due.elapsed());
        due += Duration::from_secs(1) / RATE;
    }
    print(format!("count={} {}", durations.len(), durations.summary()));
    Ok(())
}

/// Sleeps to the microsecond, which tokio's timers do not; nothing else waits for this thread meanwhile.
#[allow(
    clippy::disallowed_methods,
    reason = "a request that is due has no other event to wait for"
)]
fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Lets this thread run whenever it can: it stands for a client on another machine, whose turns nobody here takes.
fn go_first() -> anyhow::Result<()> {
    let priority = nix::libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads the structure, which lives until the call returns.
    let result = unsafe { nix::libc::sched_setscheduler(0, nix::libc::SCHED_FIFO, &raw const priority) };
    anyhow::ensure!(result == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

/// Makes noise with many clients until it is killed: requests whose answers nobody minds (`get`), or bodies without end
/// (`post`).
pub(crate) async fn noise(how: &str, address: SocketAddr) -> anyhow::Result<()> {
    let post = how == "post";
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 * PODS {
        clients.spawn(async move {
            loop {
                // Whatever the noisy pod makes of it.
                let _ = if post { pour(address).await } else { ask(address).await };
            }
        });
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// One request; what is not answered within a second is given up.
async fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "noisy").body(Empty::<Bytes>::new())?;
        sender.send_request(request).await?.into_body().collect().await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await?
}

/// A body as long as the other side takes it, for a second.
async fn pour(address: SocketAddr) -> anyhow::Result<()> {
    let poured = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: noisy\r\ncontent-length: 1000000000000\r\n\r\n")
            .await?;
        let piece = [0; 1 << 16];
        while stream.write_all(&piece).await.is_ok() {}
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(1), poured).await?
}
