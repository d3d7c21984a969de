//! Benchmarks: each prints one line of `key=value` figures for SPECIFICATION.md. They start the release binary on a
//! network namespace of their own (root), and the load comes from this program inside that namespace.
//!
//! Not tests: nothing here passes or fails. Compare ratios of one run; machines are noisy.

mod connection;
mod creates;
mod figures;
mod pods;
mod processes;
mod requests;
mod start;

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
    /// One Wasm pod after another, from create to Ready as a watch sees it.
    Pods {
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// HTTP requests through a Service address, and to another server of the same component for comparison.
    Requests {
        #[arg(long, default_value_t = 32)]
        clients: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// A `wasmtime` binary: `wasmtime serve` runs side by side.
        #[arg(long)]
        wasmtime: Option<std::path::PathBuf>,
    },
    /// The load of `creates`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadCreates {
        kubeconfig: std::path::PathBuf,
        clients: usize,
        count: usize,
    },
    /// The load of `pods`, inside the cluster's network namespace.
    #[command(hide = true)]
    LoadPods {
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
        What::Pods { count } => pods::measure(count),
        What::Requests {
            clients,
            seconds,
            wasmtime,
        } => requests::measure(clients, seconds, wasmtime.as_deref()),
        What::LoadCreates {
            kubeconfig,
            clients,
            count,
        } => on_runtime(creates::load(&kubeconfig, clients, count)),
        What::LoadPods { kubeconfig, count } => on_runtime(pods::load(&kubeconfig, count)),
        What::LoadRequests {
            address,
            clients,
            seconds,
        } => on_runtime(requests::load(address, clients, seconds)),
    }
}

fn on_runtime(load: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(load)
}
