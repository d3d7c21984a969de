//! The agent's side of the process that answers: found or started, told what there is, replaced when it is of another
//! version, ended.
//!
//! What the process knows is known only as far as this agent has told it: whatever goes wrong, the next pass begins with
//! all of it. A process that is replaced answers until the next one does.

use std::io;
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

use crate::counts::Metrics;
use crate::launch::{Launcher, Process};
use crate::model::Entries;
use crate::protocol::{Answer, Call, Hello, Settings, Update, VERSION};

/// The word on the process's command line.
const COMMAND: &str = "cluster-dns";
/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why names are not answered as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot be started.
    #[error("cannot start the process that answers for the cluster's names{}", said(.log))]
    Start {
        /// What it said last.
        log: String,
        #[source]
        source: io::Error,
    },
    /// It does not speak as it should; it is asked again from the beginning.
    #[error("cannot {doing} the process that answers for the cluster's names")]
    Talk {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// Something is in the way of its address.
    #[error("cluster DNS cannot listen on {at}: {reason}")]
    Listen {
        /// Where it should be.
        at: std::net::SocketAddr,
        /// In the system's words.
        reason: String,
    },
}

fn said(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(": {log}")
    }
}

fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Talk { doing, source }
}

/// Everything that the process is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) namespaces: Vec<Box<str>>,
    pub(crate) entries: Entries,
}

/// What leads from what it knows to what it is to know, if it differs; `None` knows nothing.
pub(crate) fn update(before: Option<&World>, now: &World) -> Option<Update> {
    if before == Some(now) {
        return None;
    }
    let known = before.map(|before| &before.entries);
    let gone = known
        .into_iter()
        .flat_map(|known| known.keys())
        .filter(|key| !now.entries.contains_key(key));
    let changed = now
        .entries
        .iter()
        .filter(|(key, entry)| known.and_then(|known| known.get(key)) != Some(entry));
    Some(Update {
        settings: now.settings.clone(),
        whole: before.is_none(),
        namespaces: (before.map(|before| &before.namespaces) != Some(&now.namespaces)).then(|| now.namespaces.clone()),
        remove: gone.cloned().collect(),
        set: changed.map(|(key, entry)| (key.clone(), entry.clone())).collect(),
    })
}

/// A conversation with a process.
struct Conversation {
    place: Place,
    channel: Channel,
    hello: Hello,
    pid: Pid,
}

impl Conversation {
    async fn call(&mut self, call: &Call) -> io::Result<Answer> {
        ask(&mut self.channel, call).await
    }
}

async fn ask(channel: &mut Channel, call: &Call) -> io::Result<Answer> {
    let asked = async {
        channel.send(call, &[]).await?;
        channel
            .receive()
            .await?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map(|(answer, _)| answer),
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
        oldest_version: VERSION,
        newest_version: VERSION,
    };
    match ask(&mut channel, &hello).await {
        Ok(Answer::Hello(hello)) => Ok(Found::Process(Box::new(Conversation {
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

/// Keeps the process and what it knows.
pub(crate) struct Holder {
    process: Process,
    launcher: Launcher,
    netns: u64,
    current: Option<Conversation>,
    /// Former processes, until the current one answers.
    former: Vec<Conversation>,
    /// What the process knows, if that is known.
    told: Option<World>,
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

    /// Makes a process know `world`.
    pub(crate) async fn sync(&mut self, world: World) -> Result<(), Error> {
        let result = self.try_sync(world).await;
        if result.is_err() {
            self.forget();
        }
        result
    }

    /// The numbers of the process, if there is one.
    pub(crate) async fn count(&mut self) -> Option<Metrics> {
        let counted = self.current.as_mut()?.call(&Call::Count).await;
        match counted {
            Ok(Answer::Counted(metrics)) => Some(metrics),
            _ => {
                self.forget();
                None
            }
        }
    }

    async fn try_sync(&mut self, world: World) -> Result<(), Error> {
        if self.current.as_ref().is_some_and(|current| current.channel.is_closed()) {
            tracing::warn!("the process that answers for the cluster's names is gone");
            self.forget();
        }
        if self.current.is_none() {
            self.attach().await?;
        }
        if let Some(update) = update(self.told.as_ref(), &world) {
            self.tell(update).await?;
            self.told = Some(world);
        }
        for former in std::mem::take(&mut self.former) {
            tracing::info!(from = %former.hello.wherry_version, "another version answered; it is replaced");
            end(former).await;
        }
        if let Some(Err(error)) = self.current.as_ref().map(|current| current.place.bound_log()) {
            tracing::debug!(error = &error as &dyn std::error::Error, "log not bounded");
        }
        Ok(())
    }

    async fn tell(&mut self, update: Update) -> Result<(), Error> {
        let failed = while_doing("tell");
        let Some(current) = &mut self.current else {
            return Err(failed(io::ErrorKind::NotConnected.into()));
        };
        let at = update.settings.listen;
        match current.call(&Call::Update(Box::new(update))).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::NotListening(reason)) => Err(Error::Listen { at, reason }),
            Ok(_) => Err(failed(io::ErrorKind::InvalidData.into())),
            Err(error) => Err(failed(error)),
        }
    }

    fn forget(&mut self) {
        (self.current, self.told) = (None, None);
        self.former.clear();
        self.watching.take().inspect(AbortHandle::abort);
    }

    /// Finds the process, or starts one.
    async fn attach(&mut self) -> Result<(), Error> {
        let places = Place::list(&self.process.directory).map_err(while_doing("find"))?;
        for place in places {
            match find(place.clone(), None).await.map_err(while_doing("greet"))? {
                Found::Nobody => place.remove().map_err(while_doing("clean up after"))?,
                Found::Stranger(pid) => end_stranger(pid),
                Found::Process(process) if process.hello.netns != self.netns => end(*process).await,
                Found::Process(process) if self.is_ours(&process) && self.current.is_none() => {
                    self.current = Some(*process);
                }
                Found::Process(process) => self.former.push(*process),
            }
        }
        if self.current.is_none() {
            self.current = Some(self.start().await?);
        }
        self.watch().map_err(while_doing("watch"))
    }

    fn is_ours(&self, found: &Conversation) -> bool {
        found.hello.wherry_version == self.process.version
    }

    async fn start(&self) -> Result<Conversation, Error> {
        let failed = |log, source| Error::Start { log, source };
        let launch = |place: &Place, listener| (self.launcher)(&self.process, place, listener);
        let (place, pid) =
            Place::start(&self.process.directory, launch).map_err(|source| failed(String::new(), source))?;
        match find(place.clone(), pid).await {
            Ok(Found::Process(process)) => {
                tracing::info!(pid = %process.pid, "started the process that answers for the cluster's names");
                Ok(*process)
            }
            Ok(_) => Err(failed(place.last_words(), io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(failed(place.last_words(), error)),
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

fn end_stranger(pid: Pid) {
    tracing::warn!(%pid, "a process that answers for the cluster's names does not speak as it should; ending it");
    resident::end_process(pid, COMMAND);
}

/// Ends a process and removes its place.
async fn end(mut process: Conversation) {
    let ended = async {
        process.call(&Call::End).await?;
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

/// Ends every process of a directory, and removes it.
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
