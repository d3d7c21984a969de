//! Benchmarks: each prints one line of `key=value` figures for SPECIFICATION.md. They start the release binary on a
//! network namespace of their own (root), and the load comes from this program inside that namespace.
//!
//! Not tests: nothing here passes or fails. Compare ratios of one run; machines are noisy.

mod api;
mod connection;
mod containers;
mod creates;
mod disk;
mod fan;
mod figures;
mod idle;
mod memory;
mod neighbours;
mod pods;
mod processes;
mod requests;
mod scale;
mod start;
mod watch;
mod wire;
mod workload;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measure wherry; one line of figures a run")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// `wherry up` on an existing data directory: to /readyz ok and to `ready`; then memory of the idle cluster.
    Start {
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Durable ConfigMap creates.
    Creates {
        #[arg(long, default_value_t = 64)]
        clients: usize,
        #[arg(long, default_value_t = 20_000)]
        count: usize,
    },
    /// What the API server takes for each kind of request, and the memory it holds.
    Api {
        /// Pods that are listed and held.
        #[arg(long, default_value_t = 5000)]
        pods: usize,
        /// Only fills the store with the pods and starts on it again.
        #[arg(long)]
        fill: bool,
    },
    /// One Wasm pod after another, from create to Ready as a watch sees it.
    Pods {
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// The component of the pods, in place of the example's.
        #[arg(long)]
        component: Option<std::path::PathBuf>,
    },
    /// Many Wasm pods from one `kubectl scale` to all Ready.
    Scale {
        #[arg(long, default_value_t = 500)]
        count: usize,
    },
    /// Memory of an idle Wasm pod, everything counted.
    Memory {
        #[arg(long, default_value_t = 2000)]
        count: usize,
        /// With a readiness probe every ten seconds.
        #[arg(long)]
        probes: bool,
    },
    /// CPU of a cluster of idle Wasm pods, without and with probes.
    Idle {
        #[arg(long, default_value_t = 500)]
        count: usize,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Pods of OCI containers: one at a time, many at once, the agent's share, commands and logs.
    Containers {
        #[arg(long, default_value_t = 30)]
        count: usize,
        /// Pods at once.
        #[arg(long, default_value_t = 100)]
        many: usize,
        /// For which they are left alone.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// HTTP requests through a Service address, and to another server of the same component for comparison.
    Requests {
        #[arg(long, default_value_t = 32)]
        clients: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// The component to serve, in place of the example's.
        #[arg(long)]
        component: Option<std::path::PathBuf>,
        /// A `wasmtime` binary: `wasmtime serve` runs side by side.
        #[arg(long)]
        wasmtime: Option<std::path::PathBuf>,
    },
    /// The 99th percentile of a quiet pod, alone and beside pods that misbehave.
    Neighbours {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// One kind of noise, in place of all.
        #[arg(long)]
        only: Option<String>,
    },
    /// The quiet requests of `neighbours`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadQuiet {
        address: std::net::SocketAddr,
        seconds: u64,
    },
    /// The noise of `neighbours`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadNoise { how: String, address: std::net::SocketAddr },
    /// The load of `creates`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadCreates {
        kubeconfig: std::path::PathBuf,
        clients: usize,
        count: usize,
    },
    /// A load of `api`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadApi {
        what: api::Load,
        kubeconfig: std::path::PathBuf,
        server: u32,
        clients: usize,
        count: usize,
    },
    /// The load of `containers`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadContainers {
        kubeconfig: std::path::PathBuf,
        count: usize,
        socket: std::path::PathBuf,
    },
    /// The many pods of `containers`.
    #[command(hide = true)]
    LoadContainersMany {
        kubeconfig: std::path::PathBuf,
        count: usize,
        socket: std::path::PathBuf,
    },
    /// The load of `pods`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadPods {
        kubeconfig: std::path::PathBuf,
        count: usize,
    },
    /// The load of `scale`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadScale {
        kubeconfig: std::path::PathBuf,
        count: usize,
    },
    /// The load of `requests`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadRequests {
        address: std::net::SocketAddr,
        clients: usize,
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().what {
        What::Start { runs } => start::measure(runs),
        What::Creates { clients, count } => creates::measure(clients, count),
        What::Api { pods, fill: false } => api::measure(pods),
        What::Api { pods, fill: true } => api::fill(pods),
        What::Pods { count, component } => pods::measure(count, component.as_deref()),
        What::Requests {
            clients,
            seconds,
            component,
            wasmtime,
        } => requests::measure(clients, seconds, component.as_deref(), wasmtime.as_deref()),
        What::Containers { count, many, seconds } => containers::measure(count, many, seconds),
        What::LoadContainers {
            kubeconfig,
            count,
            socket,
        } => on_runtime(containers::load(&kubeconfig, count, &socket)),
        What::LoadContainersMany {
            kubeconfig,
            count,
            socket,
        } => on_runtime(containers::load_many(&kubeconfig, count, &socket)),
        What::Scale { count } => scale::measure(count),
        What::Memory { count, probes } => memory::measure(count, probes),
        What::Idle { count, seconds } => idle::measure(count, seconds),
        What::Neighbours { rounds, seconds, only } => neighbours::measure(rounds, seconds, only.as_deref()),
        What::LoadQuiet { address, seconds } => on_one_thread(neighbours::quiet(address, seconds)),
        What::LoadNoise { how, address } => on_runtime(neighbours::noise(&how, address)),
        What::LoadCreates {
            kubeconfig,
            clients,
            count,
        } => on_runtime(creates::load(&kubeconfig, clients, count)),
        What::LoadApi {
            what,
            kubeconfig,
            server,
            clients,
            count,
        } => on_runtime(api::load(what, &kubeconfig, server, clients, count)),
        What::LoadPods { kubeconfig, count } => on_runtime(pods::load(&kubeconfig, count)),
        What::LoadScale { kubeconfig, count } => on_runtime(workload::load(&kubeconfig, count)),
        What::LoadRequests {
            address,
            clients,
            seconds,
        } => on_one_thread(wire::load(address, clients, seconds)),
    }
}

fn on_runtime(load: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(load)
}

/// For a load that must leave the rest of the machine to what it measures.
fn on_one_thread(load: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(load))
}
