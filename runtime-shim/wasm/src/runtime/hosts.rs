//! The sandbox hosts of this node: found, started, watched, ended.
//!
//! For each namespace and network there is at most one host that new pods go to, of this version. Hosts of earlier
//! versions keep their pods until those end. A host without pods is ended after a while.

mod attach;
mod loss;
mod start;

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cri::{ContainerId, SandboxId};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use self::attach::{AdoptError, AttachError, LaterHost};
use super::{
    directory::{self, Directory, HostFile, Place},
    link::{CallError, Link, PATIENCE},
    model::HostId,
    process::Process,
    shared::Shared,
    tenants::Tenants,
};
use crate::{
    aot::Target,
    protocol::{Answer, Call, HostHello},
    spawn::{cgroup::Cgroups, program::Program},
};

/// How often idle hosts are looked for.
const ROUND: Duration = Duration::from_secs(10);
/// How long a host may take from its start to its first answer.
const START: Duration = Duration::from_secs(15);

/// A host that runs.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) file: HostFile,
    pub(crate) hello: HostHello,
    directory: Directory,
    process: Process,
    link: Mutex<Link>,
    /// Cancelled when the host has ended and nothing is left to do about it.
    buried: CancellationToken,
    /// Creations under way that no record shows yet.
    leases: AtomicUsize,
}

impl Host {
    /// The connection as it is now.
    pub(crate) fn link(&self) -> Link {
        self.link.lock().clone()
    }

    /// Where directories that show single files to one container are made.
    pub(crate) fn views(&self, sandbox: &SandboxId, container: &ContainerId) -> PathBuf {
        self.directory.views(sandbox).join(&container.0)
    }

    /// Where those of all containers of a sandbox are.
    pub(crate) fn all_views(&self, sandbox: &SandboxId) -> PathBuf {
        self.directory.views(sandbox)
    }

    /// What code must be made for to run here.
    pub(crate) fn target(&self) -> Target {
        Target {
            engine_key: self.hello.engine_key.clone(),
            wherry_version: self.hello.wherry_version.clone(),
        }
    }

    /// The program this host runs, also after an upgrade has replaced its file.
    pub(crate) fn program(&self, words: Vec<OsString>) -> Result<Program, crate::spawn::program::ProgramError> {
        Program::of_process(self.process.pid(), words)
    }
}

/// Keeps a host from being ended for want of pods.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Host>);

impl Lease {
    fn of(host: &Arc<Host>) -> Self {
        host.leases.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(host))
    }
}

impl std::ops::Deref for Lease {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leases.fetch_sub(1, Ordering::SeqCst);
    }
}

/// No host can take a pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("{doing}")]
    Io { doing: &'static str, source: io::Error },
    #[error("the sandbox host did not come up{log}")]
    Attach { log: String, source: AttachError },
    #[error("the node's agent is stopping")]
    Stopping,
}

fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::Io { doing, source }
}

/// Where new pods of a namespace go.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Host>>>>;

/// What an agent is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its generation is written down, and fences every agent before it.
    Run,
    /// To end what runs: nothing is written, as the disk may be full. The caller knows that no other agent runs.
    End,
}

/// All hosts.
#[derive(Debug)]
pub(crate) struct Hosts {
    shared: Arc<Shared>,
    root: PathBuf,
    program: Program,
    purpose: Purpose,
    tenants: Option<Tenants>,
    cgroups: Option<Cgroups>,
    generation: u64,
    live: Mutex<HashMap<HostId, Arc<Host>>>,
    /// Hosts that have ended and whose records are still to be shown.
    gone: Mutex<HashMap<HostId, Directory>>,
    slots: Mutex<HashMap<(String, Place), Slot>>,
}

impl Hosts {
    /// Prepares the directory; adopts nobody yet.
    pub(crate) fn open(shared: Arc<Shared>, program: Program, purpose: Purpose) -> io::Result<Arc<Self>> {
        let root = shared.config.data_dir.join("sandbox-hosts");
        fs::create_dir_all(&root)?;
        let tenants = shared
            .config
            .host_uid_base
            .map(|base| Tenants::open(&root, base))
            .transpose()?;
        let cgroups = shared.config.cgroup_parent.as_deref().map(Cgroups::below).transpose()?;
        let generation = match purpose {
            Purpose::Run => directory::next_generation(&root)?,
            Purpose::End => directory::last_generation(&root)? + 1,
        };
        let (live, gone, slots) = Default::default();
        Ok(Arc::new(Self {
            shared,
            root,
            program,
            purpose,
            tenants,
            cgroups,
            generation,
            live,
            gone,
            slots,
        }))
    }

    /// A running host by its id.
    pub(crate) fn get(&self, id: &HostId) -> Option<Arc<Host>> {
        self.live.lock().get(id).cloned()
    }

    /// All running hosts.
    pub(crate) fn all(&self) -> Vec<Arc<Host>> {
        self.live.lock().values().cloned().collect()
    }

    /// The directory of a host that has ended.
    pub(crate) fn gone(&self, id: &HostId) -> Option<Directory> {
        self.gone.lock().get(id).cloned()
    }

    /// The host that new pods of a namespace go to, started if there is none. A caller that goes away does not undo it.
    pub(crate) async fn for_pod(self: &Arc<Self>, tenant: &str, place: Place) -> Result<Lease, HostError> {
        let slot = self.slot(tenant, &place).lock_owned().await;
        if let Some(host) = slot.as_ref().filter(|host| self.is_usable(host)) {
            return Ok(Lease::of(host));
        }
        let (hosts, tenant) = (Arc::clone(self), tenant.to_owned());
        let started = self
            .shared
            .tasks
            .spawn(async move { hosts.start_into(slot, &tenant, place).await });
        started.await.map_err(|_| HostError::Stopping)?
    }

    fn slot(&self, tenant: &str, place: &Place) -> Slot {
        let key = (tenant.to_owned(), place.clone());
        Arc::clone(self.slots.lock().entry(key).or_default())
    }

    /// Forgets the slot of a place that goes with its host, unless somebody waits for it.
    fn forget_slot(&self, file: &HostFile) {
        let key = (file.tenant.clone(), file.place.clone());
        let mut slots = self.slots.lock();
        if file.place.is_joined() && slots.get(&key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&key);
        }
    }

    fn is_usable(&self, host: &Arc<Host>) -> bool {
        !host.link().is_closed() && self.live.lock().contains_key(&host.id)
    }

    /// Ends hosts that hold nothing, until `shutdown`.
    pub(crate) async fn end_idle(self: Arc<Self>) {
        let mut idle_since: HashMap<HostId, Instant> = HashMap::new();
        let mut rounds = tokio::time::interval(ROUND.min(self.shared.config.host_idle.max(Duration::from_millis(10))));
        loop {
            tokio::select! {
                _ = rounds.tick() => {}
                () = self.shared.shutdown.cancelled() => return,
            }
            let hosts = self.all();
            idle_since.retain(|id, _| hosts.iter().any(|host| host.id == *id));
            for host in hosts {
                if !self.is_idle(&host) {
                    idle_since.remove(&host.id);
                    continue;
                }
                let since = *idle_since.entry(host.id.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= self.shared.config.host_idle {
                    self.retire(&host).await;
                }
                if let Err(error) = host.directory.bound_log() {
                    tracing::debug!(host = %host.id, error = &error as &dyn std::error::Error, "log not bounded");
                }
            }
        }
    }

    fn is_idle(&self, host: &Host) -> bool {
        host.leases.load(Ordering::SeqCst) == 0 && self.shared.model.lock().is_empty(&host.id)
    }

    /// Asks a host to end if it still holds nothing, and lets no pod go there meanwhile.
    pub(crate) async fn retire(&self, host: &Arc<Host>) {
        let mut slot = self.slot(&host.file.tenant, &host.file.place).lock_owned().await;
        if !self.is_idle(host) {
            return;
        }
        if slot.as_ref().is_some_and(|current| current.id == host.id) {
            *slot = None;
        }
        match host.link().call(Call::Shutdown, Vec::new(), PATIENCE).await {
            // A host that ends may not get to say so.
            Ok(Answer::Done) | Err(CallError::Lost) => tracing::info!(host = %host.id, "sandbox host ended: no pods"),
            other => tracing::warn!(host = %host.id, ?other, "a sandbox host without pods does not end"),
        }
    }

    /// Ends every host, whatever it holds, and removes what was made for them.
    pub(crate) async fn end_all(&self) {
        join_all(self.all().iter().map(|host| self.end(host))).await;
        if let Some(cgroups) = &self.cgroups
            && let Err(error) = cgroups.remove_all()
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the cgroup of sandbox hosts stays"
            );
        }
    }

    async fn end(&self, host: &Arc<Host>) {
        self.retire(host).await;
        if timeout(PATIENCE, host.buried.cancelled()).await.is_ok() {
            return;
        }
        let killed = host.process.kill();
        if timeout(PATIENCE, host.buried.cancelled()).await.is_err() {
            tracing::error!(host = %host.id, ?killed, "a sandbox host does not end");
        }
    }
}
