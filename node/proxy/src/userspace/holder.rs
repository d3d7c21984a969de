//! The agent's side of the process that holds listeners: found or started, told what to listen for, replaced when it is
//! of another version, ended.
//!
//! What the process has is known only as far as this agent has told it: whatever goes wrong, the next pass begins with
//! all of it. A process that is replaced shares its listeners with the next one before it stops to accept, so that no
//! connection is refused in between.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use resident::{Found, Manners, Place};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::launch::{Launcher, Process};
use super::protocol::{Answer, Call, Hello, Key, OLDEST_VERSION, Refusal, VERSION};
use super::table::{Table, updates};

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

type Conversation = resident::Conversation<Hello>;

fn manners() -> Manners<Call, Answer, Hello> {
    Manners {
        command: "service-proxy",
        greeting: Call::Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
        },
        end: Call::End,
        hello: |answer| match answer {
            Answer::Hello(hello) => Some(hello),
            _ => None,
        },
    }
}

async fn order(process: &mut Conversation, call: &Call, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    match process.ask(call, descriptors).await? {
        (Answer::Done, _) => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
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
        if self.current.as_ref().is_some_and(|current| current.is_closed()) {
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
        match current.ask(call, &[]).await {
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
        let manners = manners();
        let places = Place::list(&self.process.directory).map_err(while_doing("find"))?;
        for place in places {
            match manners.find(place.clone(), None).await.map_err(while_doing("greet"))? {
                Found::Nobody => place.remove().map_err(while_doing("clean up after"))?,
                Found::Stranger(pid) => manners.end_stranger(pid),
                Found::Process(process) if process.hello.retired => {}
                Found::Process(process) if process.hello.netns != self.netns => manners.end(*process).await,
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
        let launch = |place: &Place, listener| (self.launcher)(&self.process, place, listener);
        let started = manners().start(&self.process.directory, launch).await;
        started.map_err(|(log, source)| HolderError::Start { log, source })
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
                let (answer, descriptors) = former.ask(&Call::Share { after }, &[]).await?;
                let Answer::Shared { keys, more: others } = answer else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                (after, more) = (keys.last().copied(), others);
                let shared: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                order(current, &Call::Adopt { keys }, &shared).await?;
            }
        }
        Ok(())
    }

    /// After the current process has everything: the former ones finish what they have begun.
    async fn retire_former(&mut self) {
        for mut former in std::mem::take(&mut self.former) {
            if let Err(error) = order(&mut former, &Call::Retire, &[]).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a former process goes on listening"
                );
            }
        }
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

/// Ends every process of a directory, those that have retired too, and removes it.
pub(crate) async fn end_all(directory: &Path) -> io::Result<()> {
    manners().end_all(directory).await
}
