//! The sandbox host: one process that runs all Wasm pods of a tenant.
//!
//! It is started by the agent ([`crate::protocol::launch`]) as an unprivileged user, in the pods' network namespace and a
//! session of its own, and needs nobody from then on: it writes its containers' logs and state files itself, and serves
//! its pods whether an agent is connected or not. It holds no keys and opens no path the agent did not hand it, but for
//! the certificate authorities that the machine has for everyone.
//!
//! - `server` speaks the protocol, `table` holds the records behind it, `containers` starts and ends what they describe;
//! - `code` and `linker` turn compiled code into something to instantiate, `guest` is what an instance has;
//! - `http` and `command` run the two kinds of guests, `cpu` and `memory` bound them, `exit` tells how they ended;
//! - `exec` leads into containers, `applets` are the commands there are;
//! - `sockets`, `resolver`, `dns`, `outgoing` and `trust` are a pod's network; `logs` its output.
//!
//! Deliberately absent: a way to run code that was not compiled beforehand, and any child process.

mod applets;
mod code;
mod command;
mod containers;
mod counts;
pub(crate) mod cpu;
mod dns;
mod exec;
mod exit;
mod guest;
mod http;
pub(crate) mod linker;
mod logs;
mod memory;
mod outgoing;
mod resolver;
mod response;
mod server;
mod sockets;
mod table;
mod trust;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    fs::File,
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        linux::fs::MetadataExt,
    },
    pin::Pin,
    process::ExitCode,
    thread::available_parallelism,
};

use tokio_util::sync::CancellationToken;

use self::{code::Library, containers::Containers, cpu::Ticker, logs::Writer, server::Identity, table::Table};
use crate::{
    confine, engine,
    protocol::launch::{Arguments, LISTENER},
};

/// Threads that run guests; more than two even on large machines only as far as one tenant will use them.
const MOST_WORKERS: usize = 8;
/// A worker's own stack: guests have theirs from the pool.
const WORKER_STACK: usize = 512 << 10;
/// Threads for a guest's file access.
const FILE_THREADS: usize = 16;

/// Why the host could not start or go on.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error(transparent)]
    Usage(#[from] crate::protocol::launch::UsageError),
    #[error("{doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the engine cannot be set up")]
    Engine(#[source] wasmtime::Error),
}

fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::Io { doing, source }
}

/// What a host does beside its work, for as long as it lives.
pub type Background = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// The body of `wherry sandbox-host`. Must be called before any other thread is started.
pub fn main(arguments: impl IntoIterator<Item = String>, background: Background) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    match run(arguments, background) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the sandbox host ends");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = String>, background: Background) -> Result<(), HostError> {
    let arguments = Arguments::parse(arguments)?;
    // SAFETY: the agent leaves its socket at this number for us alone.
    let listener = unsafe { OwnedFd::from_raw_fd(LISTENER) };
    // First: the pool asks the kernel which pages are dirty by a file that is closed to processes that cannot be traced.
    let engine = engine::for_running().map_err(HostError::Engine)?;
    confine::host().map_err(while_doing("giving up privileges"))?;
    let ticker = Ticker::start(&engine).map_err(while_doing("starting the ticker"))?;
    let logs = Writer::start().map_err(while_doing("starting the log writer"))?;
    let identity = identity(&arguments, &engine)?;
    let library = Library::new(engine).map_err(HostError::Engine)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(available_parallelism().map_or(2, usize::from).clamp(2, MOST_WORKERS))
        .max_blocking_threads(FILE_THREADS)
        .thread_stack_size(WORKER_STACK)
        .thread_name("guests")
        .enable_all()
        .build()
        .map_err(while_doing("starting the runtime"))?;
    runtime.block_on(async {
        let table = Table::new(".".into());
        let containers = Containers::new(table, library, ticker, logs);
        let serving = server::serve(
            listener,
            arguments.agent_uid,
            identity,
            containers,
            CancellationToken::new(),
        );
        tokio::select! {
            served = serving => served.map_err(while_doing("serving the agent")),
            never = background => match never {},
        }
    })
}

fn identity(arguments: &Arguments, engine: &wasmtime::Engine) -> Result<Identity, HostError> {
    let boot_id =
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(while_doing("reading the boot id"))?;
    let netns = File::open("/proc/self/ns/net").and_then(|file| file.metadata());
    Ok(Identity {
        host_id: arguments.id.clone(),
        engine_key: engine::key_of(engine),
        boot_id: boot_id.trim().to_owned(),
        netns_inode: netns.map_err(while_doing("looking at the network namespace"))?.st_ino(),
    })
}
