//! Getting hold of a host: one that was just started, one that an earlier agent left, one whose connection broke.
//!
//! The agent introduces itself with its generation, which fences earlier agents; follows the changes; and reads
//! everything the host holds. A host that answers wrongly is no use to anybody: it is ended, and its pods start anew.

use std::{io, os::unix::net::UnixStream as StdStream, sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::{Host, Hosts, Purpose, START};
use crate::{
    protocol::{AgentHello, Answer, Call, Change, Cursor, Failure, FromHost, HostHello, OLDEST_VERSION, Page, VERSION},
    runtime::{
        directory::{Directory, HostFile},
        link::{CallError, Link, Listener, PATIENCE},
        model::{HostId, Origin, Seen},
        process::{PeerError, Process},
        shared::Shared,
    },
};

/// How long a process may take to vanish after its connection broke.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// A host cannot be got hold of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("it is not reachable")]
    Connect(#[from] io::Error),
    #[error("it is not who it should be")]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it introduces itself as {found}, not {wanted}")]
    OtherHost { wanted: String, found: String },
    #[error("it lives in a network namespace that is no more")]
    OtherNetwork,
    #[error("it did not answer within {after:?}")]
    Timeout { after: Duration },
}

impl AttachError {
    /// A newer agent has the host: it is fine, and none of ours any more.
    fn is_fenced(&self) -> bool {
        matches!(self, Self::Call(CallError::Refused(Failure::Fenced { .. })))
    }

    /// The host is of a later wherry, which no longer speaks as we do.
    fn is_later(&self) -> bool {
        matches!(self, Self::Call(CallError::Refused(Failure::Version { oldest, .. })) if *oldest > VERSION)
    }
}

/// What earlier agents left cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error("the directory of sandbox hosts cannot be read")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Later(#[from] LaterHost),
}

/// Pods run in a host of a later wherry, which an earlier one cannot talk to.
#[derive(Debug, thiserror::Error)]
#[error("a later wherry, {version}, runs the pods of namespace \"{tenant}\"")]
pub(crate) struct LaterHost {
    pub(crate) tenant: String,
    pub(crate) version: String,
}

impl LaterHost {
    fn of(file: HostFile) -> Self {
        Self {
            tenant: file.tenant,
            version: file.wherry_version,
        }
    }
}

/// Applies what a host says to the model, as it says it.
struct Copying {
    shared: Arc<Shared>,
    origin: Origin,
    /// What was told since a snapshot was asked for; `None`: no snapshot is under way.
    seen: Arc<Mutex<Option<Seen>>>,
}

impl Listener for Copying {
    fn heard(&mut self, message: &FromHost) {
        let changes = match message {
            FromHost::Event(event) => {
                if let Some(seen) = self.seen.lock().as_mut() {
                    seen.note(&event.change);
                }
                vec![event.change.clone()]
            }
            FromHost::Reply {
                result: Ok(Answer::Page(page)),
                ..
            } => self.news(page),
            // What a call changed has been told by events.
            FromHost::Reply { .. } => return,
        };
        self.shared.apply(&self.origin, changes);
    }
}

impl Copying {
    /// What of a page no event has told already, which may be newer.
    fn news(&self, page: &Page) -> Vec<Change> {
        let sandboxes = page
            .sandboxes
            .iter()
            .cloned()
            .map(|record| Change::Sandbox(Box::new(record)));
        let containers = page
            .containers
            .iter()
            .cloned()
            .map(|record| Change::Container(Box::new(record)));
        let mut seen = self.seen.lock();
        let Some(seen) = seen.as_mut() else { return Vec::new() };
        sandboxes.chain(containers).filter(|change| seen.note(change)).collect()
    }
}

impl Hosts {
    /// Introduces the agent on a fresh connection and takes the host among the running ones; ends it if that fails.
    pub(super) async fn attach(
        self: &Arc<Self>,
        directory: Directory,
        file: HostFile,
        process: Process,
        stream: StdStream,
    ) -> Result<Arc<Host>, AttachError> {
        let introduced = tokio::time::timeout(START, self.introduce(&file, stream)).await;
        let (link, hello) = match introduced.unwrap_or(Err(AttachError::Timeout { after: START })) {
            Ok(introduced) => introduced,
            Err(error) if self.lets_live(&error) => return Err(error),
            Err(error) => {
                process.kill()?;
                // Its records are read once it cannot change them any more.
                process.ended().await?;
                return Err(error);
            }
        };
        let id: HostId = file.id.as_str().into();
        let (link, buried, leases) = (Mutex::new(link), CancellationToken::new(), Default::default());
        let host = Arc::new(Host {
            id: id.clone(),
            file,
            hello,
            directory,
            process,
            link,
            buried,
            leases,
        });
        self.live.lock().insert(id, Arc::clone(&host));
        self.shared.tasks.spawn(Arc::clone(self).watch(Arc::clone(&host)));
        Ok(host)
    }

    /// Hello, subscription and snapshot on a fresh connection.
    async fn introduce(&self, file: &HostFile, stream: StdStream) -> Result<(Link, HostHello), AttachError> {
        let origin = Origin {
            host: file.id.as_str().into(),
            tenant: file.tenant.clone(),
        };
        let seen = Arc::new(Mutex::new(Some(Seen::default())));
        let copying = Copying {
            shared: Arc::clone(&self.shared),
            origin: origin.clone(),
            seen: Arc::clone(&seen),
        };
        let stream = UnixStream::from_std(stream)?;
        let link = Link::serve(stream, copying, &self.shared.tasks, &self.shared.shutdown);
        let closing = CloseUnless(Some(link.clone()));
        let hello = self.hello(file, &link).await?;
        match link.call(Call::Subscribe { after: None }, Vec::new(), PATIENCE).await? {
            Answer::Subscribed { .. } => {}
            _ => return Err(CallError::Unfitting.into()),
        }
        read_all(&link).await?;
        let seen = seen.lock().take();
        self.shared.sweep(&origin, &seen.unwrap_or_default());
        closing.keep();
        Ok((link, hello))
    }

    async fn hello(&self, file: &HostFile, link: &Link) -> Result<HostHello, AttachError> {
        let hello = AgentHello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            wherry_version: crate::version().to_owned(),
            generation: self.generation,
        };
        let Answer::Hello(hello) = link.call(Call::Hello(hello), Vec::new(), START).await? else {
            return Err(CallError::Unfitting.into());
        };
        if hello.host_id != file.id {
            return Err(AttachError::OtherHost {
                wanted: file.id.clone(),
                found: hello.host_id,
            });
        }
        if hello.netns_inode != self.netns_inode(&file.place)? {
            return Err(AttachError::OtherNetwork);
        }
        Ok(hello)
    }

    /// Waits for a host's end, and connects again when only the connection ends.
    async fn watch(self: Arc<Self>, host: Arc<Host>) {
        loop {
            let link = host.link();
            tokio::select! {
                biased;
                ended = host.process.ended() => return self.lose(&host, ended).await,
                () = link.closed() => {}
            }
            tokio::select! {
                biased;
                () = self.shared.shutdown.cancelled() => return,
                ended = host.process.ended() => return self.lose(&host, ended).await,
                () = tokio::time::sleep(LAST_BREATH) => {}
            }
            if let Err(error) = self.reconnect(&host).await {
                if self.lets_live(&error) {
                    return;
                }
                tracing::error!(host = %host.id, error = &error as &dyn std::error::Error, "sandbox host is ended");
                if let Err(error) = host.process.kill() {
                    tracing::error!(host = %host.id, error = &error as &dyn std::error::Error, "it cannot be ended");
                    return;
                }
            }
        }
    }

    /// Whether a host that could not be got hold of is to live: it is ours no more or not yet, or we are about to end.
    pub(super) fn lets_live(&self, error: &AttachError) -> bool {
        if error.is_fenced() {
            tracing::error!("another agent has taken over this node's sandbox hosts");
        }
        error.is_fenced() || self.leaves_to_later(error) || self.shared.shutdown.is_cancelled()
    }

    /// Who wants the pods to end does not need to talk to their host.
    fn leaves_to_later(&self, error: &AttachError) -> bool {
        error.is_later() && self.purpose == Purpose::Run
    }

    async fn reconnect(&self, host: &Host) -> Result<(), AttachError> {
        let stream = host.directory.connect()?;
        let introduced = tokio::time::timeout(START, self.introduce(&host.file, stream)).await;
        let (link, _) = introduced.unwrap_or(Err(AttachError::Timeout { after: START }))?;
        *host.link.lock() = link;
        tracing::warn!(host = %host.id, "connected to the sandbox host again");
        Ok(())
    }

    /// Takes over what earlier agents left: hosts that run, and the records of those that have ended.
    pub(crate) async fn adopt_all(self: &Arc<Self>) -> Result<(), AdoptError> {
        let directories = Directory::list(&self.root)?;
        let adopted = join_all(directories.into_iter().map(|directory| self.adopt(directory))).await;
        Ok(adopted.into_iter().collect::<Result<(), LaterHost>>()?)
    }

    async fn adopt(self: &Arc<Self>, directory: Directory) -> Result<(), LaterHost> {
        let file = match directory.read() {
            Ok(Some(file)) if file.boot_id == self.shared.config.boot_id => file,
            // Half made, or of an earlier boot: whatever it held does not run any more.
            Ok(_) => {
                remove(&directory);
                return Ok(());
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a sandbox host's directory is unreadable"
                );
                return Ok(());
            }
        };
        if file.lost.is_none() {
            match self.adopt_running(&directory, &file).await {
                Ok(host) => {
                    self.prefer(host).await;
                    return Ok(());
                }
                Err(error) if self.leaves_to_later(&error) => return Err(LaterHost::of(file)),
                Err(error) if self.lets_live(&error) => return Ok(()),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(host = file.id, tenant = file.tenant, error, "sandbox host not adopted");
                }
            }
        }
        self.bury(&directory, file, "it ended while the agent was away").await;
        Ok(())
    }

    async fn adopt_running(self: &Arc<Self>, directory: &Directory, file: &HostFile) -> Result<Arc<Host>, AttachError> {
        let stream = directory.connect()?;
        let user = file.user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let process = Process::of_peer(&stream, user)?;
        let host = self.attach(directory.clone(), file.clone(), process, stream).await?;
        let (sandboxes, containers) = self.shared.model.lock().held_by(&host.id);
        let (sandboxes, containers) = (sandboxes.len(), containers.len());
        tracing::info!(host = %host.id, tenant = host.file.tenant, sandboxes, containers, "sandbox host adopted");
        Ok(host)
    }

    /// New pods may go to an adopted host, if it is as one started now would be.
    async fn prefer(&self, host: Arc<Host>) {
        if host.target() == self.shared.target {
            let mut slot = self.slot(&host.file.tenant, &host.file.place).lock_owned().await;
            slot.get_or_insert(host);
        }
    }
}

fn remove(directory: &Directory) {
    if let Err(error) = directory.remove() {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a stale sandbox host's directory stays"
        );
    }
}

async fn read_all(link: &Link) -> Result<(), CallError> {
    let mut after = Cursor::Start;
    loop {
        match link.call(Call::Snapshot { after }, Vec::new(), PATIENCE).await? {
            Answer::Page(page) => match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            },
            _ => return Err(CallError::Unfitting),
        }
    }
}

/// Closes a connection that is not kept.
struct CloseUnless(Option<Link>);

impl CloseUnless {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseUnless {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close();
        }
    }
}
