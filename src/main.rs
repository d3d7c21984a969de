//! `wherry`: command line to configuration to the `run` of one or more components. Nothing else lives here.

mod claim;
mod cli;
mod containers;
mod control_plane;
mod datadir;
mod down;
mod footprint;
mod image;
mod kept_images;
mod logging;
mod machine;
mod notify;
mod ports;
mod rootless;
mod runtime_shim;
mod service;
mod up;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use cli::{Cli, Command};

/// Half of the work of an API server is making and dropping small strings, which this does in half of the time that the C
/// library takes; and what was dropped it gives back to the system within a second.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        // These run unprivileged and must start before any thread exists.
        Command::SandboxHost { arguments } => wasm::host::main(arguments, Box::pin(footprint::stay_small())),
        Command::ServiceProxy { arguments } => agent::service_proxy(arguments, Box::pin(footprint::stay_small())),
        Command::ClusterDns { arguments } => agent::cluster_dns(arguments, Box::pin(footprint::stay_small())),
        Command::Compile => wasm::compile::main(),
        Command::Look { title, created } => wasm::look::main(&title, &created),
        command => run(command, cli.log_format, &matches),
    }
}

fn run(command: Command, format: cli::LogFormat, matches: &ArgMatches) -> ExitCode {
    logging::start(format);
    let result = match command {
        Command::Up(options) if options.install => install(&options, matches),
        Command::Up(options) => with_runtime(up::run(options)),
        Command::Controlplane(options) => with_runtime(control_plane::run(options)),
        Command::Backup(options) => control_plane::backup(&options),
        Command::Restore(options) => control_plane::restore(&options),
        Command::RotateEncryptionKey(options) => control_plane::rotate_encryption_key(&options),
        Command::RuntimeShim(options) => with_runtime(runtime_shim::run(options)),
        Command::Down(options) => with_runtime(down::run(options)),
        Command::Image(command) => with_runtime(image::run(command)),
        Command::Version => {
            cli::say(&format!("wherry {}", env!("CARGO_PKG_VERSION")));
            cli::say(&format!("kubernetes {}", server::VERSION));
            cli::say(&format!("build {}", wasm::version()));
            Ok(())
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wherry", &mut script);
            cli::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::SandboxHost { .. }
        | Command::ServiceProxy { .. }
        | Command::ClusterDns { .. }
        | Command::Compile
        | Command::Look { .. } => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&format!("wherry: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn install(options: &cli::Up, matches: &ArgMatches) -> anyhow::Result<()> {
    let words = cli::service_words(&Cli::command(), matches)?;
    service::install(&options.data.path()?, options.install_root.as_deref(), &words)
}

/// Takes as many open files as may be had. Shells give 1,024, and every connection of a client is one.
fn take_descriptors() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    let taken = getrlimit(RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(RLIMIT_NOFILE, most, most));
    if let Err(error) = taken {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn with_runtime(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    take_descriptors();
    // One provider for every TLS connection of this process; a second call would only say that it is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}
