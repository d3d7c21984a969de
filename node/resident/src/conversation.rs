//! The agent's side of a conversation: who answers at a place, what they are asked, and how they are ended.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::{Channel, Place, end_process};

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the processes of one kind are greeted and ended.
#[derive(Clone, Copy, Debug)]
pub struct Manners<C, A, H> {
    /// The word on their command line.
    pub command: &'static str,
    /// What they are greeted with.
    pub greeting: C,
    /// What ends them.
    pub end: C,
    /// What an answer to the greeting says of a process; `None` of one that is not to be spoken to.
    pub hello: fn(A) -> Option<H>,
}

/// A conversation with a process that said `hello` of itself.
#[derive(Debug)]
pub struct Conversation<H> {
    pub place: Place,
    pub hello: H,
    pub pid: Pid,
    channel: Channel,
}

/// What is found at a place.
#[derive(Debug)]
pub enum Found<H> {
    Process(Box<Conversation<H>>),
    /// It does not speak, or no version of ours.
    Stranger(Pid),
    Nobody,
}

impl<H> Conversation<H> {
    /// Asks, and waits for the answer with the descriptors beside it.
    pub async fn ask<A: DeserializeOwned>(
        &mut self,
        call: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<(A, Vec<OwnedFd>)> {
        ask(&mut self.channel, call, descriptors).await
    }

    /// Whether the process is gone, as far as the system has said so.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Raises `lost` when the process is gone.
    pub fn watch(&self, lost: watch::Sender<u64>) -> io::Result<AbortHandle> {
        let other = self.channel.watcher()?;
        let watching = tokio::spawn(async move {
            while let Ok(ready) = other.ready(Interest::READABLE).await {
                if ready.is_read_closed() {
                    break;
                }
                // An answer, which is for somebody else to read.
                let _: io::Result<()> = other.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
            }
            lost.send_modify(|times| *times += 1);
        });
        Ok(watching.abort_handle())
    }
}

impl<C: Serialize, A: DeserializeOwned, H> Manners<C, A, H> {
    /// Greets whoever is at a place; `started` is the process that was just started there, if it was.
    pub async fn find(&self, place: Place, started: Option<Pid>) -> io::Result<Found<H>> {
        let Ok(stream) = place.connect() else {
            return Ok(Found::Nobody);
        };
        stream.set_nonblocking(true)?;
        // A process that has not taken its socket over yet is not the peer: the agent that made the socket is.
        let pid = started.unwrap_or(Pid::from_raw(getsockopt(&stream, PeerCredentials)?.pid()));
        let mut channel = Channel::new(UnixStream::from_std(stream)?);
        match ask(&mut channel, &self.greeting, &[]).await {
            Ok((answer, _)) => Ok((self.hello)(answer).map_or(Found::Stranger(pid), |hello| {
                Found::Process(Box::new(Conversation {
                    place,
                    hello,
                    pid,
                    channel,
                }))
            })),
            Err(error) if is_gone(&error) => Ok(Found::Nobody),
            Err(_) => Ok(Found::Stranger(pid)),
        }
    }

    /// Starts a process in a place of its own.
    ///
    /// # Errors
    /// What it said last, and why it is not there.
    pub async fn start(
        &self,
        directory: &Path,
        launch: impl FnOnce(&Place, OwnedFd) -> io::Result<Option<Pid>>,
    ) -> Result<Conversation<H>, (String, io::Error)> {
        let (place, pid) = Place::start(directory, launch).map_err(|error| (String::new(), error))?;
        match self.find(place.clone(), pid).await {
            Ok(Found::Process(process)) => {
                tracing::info!(pid = %process.pid, command = self.command, "process started");
                Ok(*process)
            }
            Ok(_) => Err((place.last_words(), io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err((place.last_words(), error)),
        }
    }

    /// Ends a process, by force if it does not heed, and removes its place.
    pub async fn end(&self, mut process: Conversation<H>) {
        let ended = async {
            let _: (IgnoredAny, _) = process.ask(&self.end, &[]).await?;
            match process.channel.receive::<IgnoredAny>().await {
                Ok(Some(_)) => Err(io::Error::from(io::ErrorKind::InvalidData)),
                // Its end of the socket is closed with it.
                _ => Ok(()),
            }
        };
        if !matches!(tokio::time::timeout(PATIENCE, ended).await, Ok(Ok(()))) {
            self.end_stranger(process.pid);
        }
        if let Err(error) = process.place.remove() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the directory of a process that ended stays"
            );
        }
    }

    /// Ends a process that cannot be asked to.
    pub fn end_stranger(&self, pid: Pid) {
        tracing::warn!(%pid, command = self.command, "a process does not answer as it should; ending it");
        end_process(pid, self.command);
    }

    /// Ends every process of a directory, and removes it.
    pub async fn end_all(&self, directory: &Path) -> io::Result<()> {
        for place in Place::list(directory)? {
            match self.find(place.clone(), None).await? {
                Found::Process(process) => self.end(*process).await,
                Found::Stranger(pid) => self.end_stranger(pid),
                Found::Nobody => {}
            }
            place.remove()?;
        }
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

async fn ask<A: DeserializeOwned>(
    channel: &mut Channel,
    call: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<(A, Vec<OwnedFd>)> {
    let asked = async {
        channel.send(call, descriptors).await?;
        channel
            .receive()
            .await?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
