//! `wherry`: command line to configuration to the `run` of one or more components. Nothing else lives here.

mod cli;
mod datadir;
mod down;
mod image;
mod logging;
mod machine;
mod up;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        // These two run unprivileged and must start before any thread exists.
        Command::SandboxHost { arguments } => wasm::host::main(arguments),
        Command::Compile => wasm::compile::main(),
        command => run(command, cli.log_format),
    }
}

fn run(command: Command, format: cli::LogFormat) -> ExitCode {
    logging::start(format);
    let result = match command {
        Command::Up(options) => with_runtime(up::run(options)),
        Command::Down(options) => with_runtime(down::run(options)),
        Command::Image(command) => with_runtime(image::run(command)),
        Command::Version => {
            cli::say(&format!("wherry {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Command::SandboxHost { .. } | Command::Compile => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&format!("wherry: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // One provider for every TLS connection of this process; a second call would only say that it is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}
