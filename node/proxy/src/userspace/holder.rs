//! The agent's side of the process that holds listeners: found or started, told what to listen for, replaced when it is
//! of another version, ended.
//!
//! What the process has is known only as far as this agent has told it: whatever goes wrong, the next pass begins with
//! all of it. A process that is replaced shares its listeners with the next one before it stops to accept, so that no
//! connection is refused in between.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use resident::{Channel, Place};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::launch::{Launcher, Process};
use super::protocol::{Answer, Call, Hello, Key, OLDEST_VERSION, Refusal, VERSION};
use super::table::{Table, updates};

/// The word on the process's command line.
const COMMAND: &str = "service-proxy";
/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why listeners are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The process cannot be started.
    #[error("cannot start the process that listens for Services{}", said(.log))]
    Start {
        /// What it said last.
        log: String,
        #[source]
        source: io::Error,
    },
    /// It does not speak as it should; it is asked again from the beginning.
    #[error("cannot {doing} the process that listens for Services")]
    Talk {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

fn said(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(": {log}")
    }
}

fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> HolderError {
    move |source| HolderError::Talk { doing, source }
}

/// A conversation with a process.
struct Conversation {
    place: Place,
    channel: Channel,
    hello: Hello,
    pid: Pid,
}

impl Conversation {
    async fn call(&mut self, call: &Call, descriptors: &[BorrowedFd<'_>]) -> io::Result<(Answer, Vec<OwnedFd>)> {
        ask(&mut self.channel, call, descriptors).await
    }

    async fn order(&mut self, call: &Call, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.call(call, descriptors).await? {
            (Answer::Done, _) => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

async fn ask(channel: &mut Channel, call: &Call, descriptors: &[BorrowedFd<'_>]) -> io::Result<(Answer, Vec<OwnedFd>)> {
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

/// What is found at a place.
enum Found {
    Process(Box<Conversation>),
    /// It does not speak, or no version of ours.
    Stranger(Pid),
    Nobody,
}

/// `started` is the process that was just started there, if it was.
async fn find(place: Place, started: Option<Pid>) -> io::Result<Found> {
    let Ok(stream) = place.connect() else {
        return Ok(Found::Nobody);
    };
    stream.set_nonblocking(true)?;
    // A process that has not taken its socket over yet is not the peer: the agent that made the socket is.
    let pid = started.unwrap_or(Pid::from_raw(getsockopt(&stream, PeerCredentials)?.pid()));
    let mut channel = Channel::new(UnixStream::from_std(stream)?);
    let hello = Call::Hello {
        oldest_version: OLDEST_VERSION,
        newest_version: VERSION,
    };
    match ask(&mut channel, &hello, &[]).await {
        Ok((Answer::Hello(hello), _)) => Ok(Found::Process(Box::new(Conversation {
            place,
            channel,
            hello,
            pid,
        }))),
        Err(error) if is_gone(&error) => Ok(Found::Nobody),
        Ok(_) | Err(_) => Ok(Found::Stranger(pid)),
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Keeps the process and what it listens for.
pub(crate) struct Holder {
    process: Process,
    launcher: Launcher,
    netns: u64,
    current: Option<Conversation>,
    /// Former processes, until the current one has everything.
    former: Vec<Conversation>,
    /// What the process has, if that is known.
    told: Option<Table>,
    /// Goes up when the process is gone.
    lost: watch::Sender<u64>,
    watching: Option<AbortHandle>,
}

impl Holder {
    /// Finds and starts nothing yet.
    pub(crate) fn new(process: Process, launcher: Launcher) -> io::Result<Self> {
        Ok(Holder {
            process,
            launcher,
            netns: std::fs::metadata("/proc/thread-self/ns/net")?.st_ino(),
            current: None,
            former: Vec::new(),
            told: None,
            lost: watch::Sender::new(0),
            watching: None,
        })
    }

    /// Changes when the process is gone, so that a pass is due.
    pub(crate) fn lost(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    /// Makes the listeners be as `table` says; returns those that cannot be had. They are tried again each time. A process
    /// is started only if it `is_needed`.
    pub(crate) async fn sync(&mut self, table: Table, is_needed: bool) -> Result<BTreeMap<Key, Refusal>, HolderError> {
        let result = self.try_sync(table, is_needed).await;
        if result.is_err() {
            self.forget();
        }
        result
    }

    async fn try_sync(&mut self, table: Table, is_needed: bool) -> Result<BTreeMap<Key, Refusal>, HolderError> {
        if self.current.as_ref().is_some_and(|current| current.channel.is_closed()) {
            tracing::warn!("the process that listens for Services is gone");
            self.forget();
        }
        if self.current.is_none() && !self.attach(is_needed).await? {
            return Ok(BTreeMap::new());
        }
        let mut refused = BTreeMap::new();
        for call in updates(self.told.as_ref(), &table) {
            refused.extend(self.tell(&call).await?);
        }
        let mut told = table;
        told.retain(|key, _| !refused.contains_key(key));
        self.told = Some(told);
        self.retire_former().await;
        if let Some(Err(error)) = self.current.as_ref().map(|current| current.place.bound_log()) {
            tracing::debug!(error = &error as &dyn std::error::Error, "log not bounded");
        }
        Ok(refused)
    }

    async fn tell(&mut self, call: &Call) -> Result<Vec<(Key, Refusal)>, HolderError> {
        let failed = while_doing("tell its listeners to");
        let Some(current) = &mut self.current else {
            return Err(failed(io::ErrorKind::NotConnected.into()));
        };
        match current.call(call, &[]).await {
            Ok((Answer::Updated { refused }, _)) => Ok(refused),
            Ok((Answer::Done, _)) => Ok(Vec::new()),
            Ok(_) => Err(failed(io::ErrorKind::InvalidData.into())),
            Err(error) => Err(failed(error)),
        }
    }

    fn forget(&mut self) {
        (self.current, self.told) = (None, None);
        self.former.clear();
        self.watching.take().inspect(AbortHandle::abort);
    }

    /// Finds the process, or starts one unless there is no need; whether there is one.
    async fn attach(&mut self, is_needed: bool) -> Result<bool, HolderError> {
        let places = Place::list(&self.process.directory).map_err(while_doing("find"))?;
        for place in places {
            match find(place.clone(), None).await.map_err(while_doing("greet"))? {
                Found::Nobody => place.remove().map_err(while_doing("clean up after"))?,
                Found::Stranger(pid) => end_stranger(pid),
                Found::Process(process) if process.hello.retired => {}
                Found::Process(process) if process.hello.netns != self.netns => end(*process).await,
                Found::Process(process) if self.is_ours(&process) && self.current.is_none() => {
                    self.current = Some(*process);
                }
                Found::Process(process) => self.former.push(*process),
            }
        }
        if self.current.is_none() && self.former.is_empty() && !is_needed {
            return Ok(false);
        }
        if self.current.is_none() {
            self.current = Some(self.start().await?);
        }
        self.watch().map_err(while_doing("watch"))?;
        self.take_over().await.map_err(while_doing("hand listeners over to"))?;
        Ok(true)
    }

    fn is_ours(&self, found: &Conversation) -> bool {
        found.hello.wherry_version == self.process.version
    }

    async fn start(&self) -> Result<Conversation, HolderError> {
        let failed = |log, source| HolderError::Start { log, source };
        let launch = |place: &Place, listener| (self.launcher)(&self.process, place, listener);
        let (place, pid) =
            Place::start(&self.process.directory, launch).map_err(|source| failed(String::new(), source))?;
        match find(place.clone(), pid).await {
            Ok(Found::Process(process)) => {
                tracing::info!(pid = %process.pid, "started the process that listens for Services");
                Ok(*process)
            }
            Ok(_) => Err(failed(place.last_words(), io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(failed(place.last_words(), error)),
        }
    }

    /// Brings the listeners of former processes to the current one.
    async fn take_over(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        for former in &mut self.former {
            tracing::info!(from = %former.hello.wherry_version, "another version listens for Services; replacing it");
            let (mut after, mut more) = (None, true);
            while more {
                let (answer, descriptors) = former.call(&Call::Share { after }, &[]).await?;
                let Answer::Shared { keys, more: others } = answer else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                (after, more) = (keys.last().copied(), others);
                let shared: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                current.order(&Call::Adopt { keys }, &shared).await?;
            }
        }
        Ok(())
    }

    /// After the current process has everything: the former ones finish what they have begun.
    async fn retire_former(&mut self) {
        for mut former in std::mem::take(&mut self.former) {
            if let Err(error) = former.order(&Call::Retire, &[]).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a former process goes on listening"
                );
            }
        }
    }

    /// Tells when the process is gone.
    fn watch(&mut self) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let (other, lost) = (current.channel.watcher()?, self.lost.clone());
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
        self.watching = Some(watching.abort_handle());
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.watching.take().inspect(AbortHandle::abort);
    }
}

/// A process that does not answer can neither share its listeners nor be asked to end.
fn end_stranger(pid: Pid) {
    tracing::warn!(%pid, "a process that listens for Services does not answer as it should; ending it");
    resident::end_process(pid, COMMAND);
}

/// Ends a process and removes its place.
async fn end(mut process: Conversation) {
    let ended = async {
        process.order(&Call::End, &[]).await?;
        match process.channel.receive::<Answer>().await {
            Ok(Some(_)) => Err(io::Error::from(io::ErrorKind::InvalidData)),
            // Its end of the socket is closed with it.
            _ => Ok(()),
        }
    };
    if !matches!(tokio::time::timeout(PATIENCE, ended).await, Ok(Ok(()))) {
        end_stranger(process.pid);
    }
    if let Err(error) = process.place.remove() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the directory of a process that ended stays"
        );
    }
}

/// Ends every process of a directory, those that have retired too, and removes it.
pub(crate) async fn end_all(directory: &Path) -> io::Result<()> {
    for place in Place::list(directory)? {
        match find(place.clone(), None).await? {
            Found::Process(process) => end(*process).await,
            Found::Stranger(pid) => end_stranger(pid),
            Found::Nobody => {}
        }
        place.remove()?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
