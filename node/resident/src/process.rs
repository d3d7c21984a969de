//! The process's side: its body, the socket that the agent leaves it, and the agents that come.

use std::convert::Infallible;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};
use tokio::net::{UnixListener, UnixStream};

use crate::LISTENER;

/// How long to wait after the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// What a process does beside its work, for as long as it lives.
pub type Background = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// The body of a process called `name`: says on stderr what ends it.
pub fn main(name: &str, run: impl FnOnce() -> Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error as &dyn std::error::Error, "{name} ends");
            ExitCode::FAILURE
        }
    }
}

/// The socket that the agent has left. To be asked for once.
pub fn inherited() -> OwnedFd {
    // SAFETY: the agent leaves its socket at this number for this process alone.
    unsafe { OwnedFd::from_raw_fd(LISTENER) }
}

/// Runs `serving` on a runtime until it ends, with `background` beside it.
pub fn run(
    runtime: &tokio::runtime::Runtime,
    serving: impl Future<Output = io::Result<()>> + Send + 'static,
    background: Background,
) -> Result<(), Box<dyn std::error::Error>> {
    runtime.block_on(async {
        // Away from the thread that runs `main`: the workers have the sockets.
        let served = tokio::spawn(serving);
        tokio::select! {
            ended = served => ended?.map_err(Into::into),
            never = background => match never {},
        }
    })
}

/// Listens for agents on an inherited socket.
pub fn listener(descriptor: OwnedFd) -> io::Result<UnixListener> {
    // Once more: peer credentials are those of the process that listened last.
    listen(&descriptor, Backlog::new(16)?)?;
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Takes agents for ever.
pub async fn accept(listener: &UnixListener, mut each: impl FnMut(UnixStream)) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => each(stream),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an agent cannot be accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}
