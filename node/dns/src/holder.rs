//! The agent's side of the process that answers: found or started, told what there is, replaced when it is of another
//! version, ended.
//!
//! What the process knows is known only as far as this agent has told it: whatever goes wrong, the next pass begins with
//! all of it. A process that is replaced answers until the next one does.

use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use resident::{Found, Manners, Place};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::counts::Metrics;
use crate::launch::{Launcher, Process};
use crate::model::Entries;
use crate::protocol::{Answer, Call, Hello, Settings, Update, VERSION};

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

type Conversation = resident::Conversation<Hello>;

fn manners() -> Manners<Call, Answer, Hello> {
    Manners {
        command: "cluster-dns",
        greeting: Call::Hello {
            oldest_version: VERSION,
            newest_version: VERSION,
        },
        end: Call::End,
        hello: |answer| match answer {
            Answer::Hello(hello) => Some(hello),
            _ => None,
        },
    }
}

async fn call(process: &mut Conversation, call: &Call) -> io::Result<Answer> {
    process.ask(call, &[]).await.map(|(answer, _)| answer)
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
        let counted = call(self.current.as_mut()?, &Call::Count).await;
        match counted {
            Ok(Answer::Counted(metrics)) => Some(metrics),
            _ => {
                self.forget();
                None
            }
        }
    }

    async fn try_sync(&mut self, world: World) -> Result<(), Error> {
        if self.current.as_ref().is_some_and(|current| current.is_closed()) {
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
            manners().end(former).await;
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
        match call(current, &Call::Update(Box::new(update))).await {
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
        let manners = manners();
        let places = Place::list(&self.process.directory).map_err(while_doing("find"))?;
        for place in places {
            match manners.find(place.clone(), None).await.map_err(while_doing("greet"))? {
                Found::Nobody => place.remove().map_err(while_doing("clean up after"))?,
                Found::Stranger(pid) => manners.end_stranger(pid),
                Found::Process(process) if process.hello.netns != self.netns => manners.end(*process).await,
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
        let launch = |place: &Place, listener| (self.launcher)(&self.process, place, listener);
        let started = manners().start(&self.process.directory, launch).await;
        started.map_err(|(log, source)| Error::Start { log, source })
    }

    /// Tells when the process is gone.
    fn watch(&mut self) -> io::Result<()> {
        if let Some(current) = &self.current {
            self.watching = Some(current.watch(self.lost.clone())?);
        }
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.watching.take().inspect(AbortHandle::abort);
    }
}

/// Ends every process of a directory, and removes it.
pub(crate) async fn end_all(directory: &Path) -> io::Result<()> {
    manners().end_all(directory).await
}
