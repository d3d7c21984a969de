//! The runtime: each call of the interface as one of CRI's, with the time it may take.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use cri::{
    Accounting, Condition, Connection, Container, ContainerConfig, ContainerId, ContainerStats, Error, Event,
    ExecOutput, ExecRequest, Features, Filesystem, FilesystemUsage, Image, ImportContent, Imported, LinuxResources,
    PullImage, PulledImage, Resources, RuntimeConfig, Sandbox, SandboxConfig, SandboxId, SandboxState, SandboxStats,
    Session, Streams, Version,
};
use futures::stream::BoxStream;
use parking_lot::Mutex;
use proto::{
    Attempt,
    v1::{self, RunPodSandboxRequest},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    events::{self, Events},
    link::{Health, Link, PATIENCE},
    listing::{self, Listing},
    network::{self, Conflist},
    records::{self, container_id, own_id},
};

/// Network and all.
const RUN_SANDBOX: Duration = Duration::from_secs(240);
/// What `exec_sync` may take beyond the command's own time.
const EXEC_MARGIN: Duration = Duration::from_secs(30);

/// Until containerd has read the network's configuration.
const READS: Duration = Duration::from_secs(10);
const READS_LOOK: Duration = Duration::from_millis(50);

/// Makes the containers' network configuration for the node's pod range, in CIDR notation.
pub(crate) type MakeConflist = Arc<dyn Fn(&str) -> Result<Conflist, String> + Send + Sync>;

/// How the runtime is set up.
#[derive(Clone)]
pub struct Config {
    /// containerd's socket.
    pub socket: PathBuf,
    /// Whose sandboxes and containers are ours; at most 63 of `[a-z0-9-]`.
    pub owner: String,
    /// The name of the containers' network.
    pub network_name: String,
    /// `None`: the network is somebody else's matter.
    pub network: Option<MakeConflist>,
}

/// Why a containerd cannot be used, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unusable {
    reason: String,
}

/// What the parts share.
pub(crate) struct Shared {
    pub(crate) link: Arc<Link>,
    pub(crate) listing: Listing,
    pub(crate) events: Events,
    owner: String,
    network_name: String,
    make_network: Option<MakeConflist>,
    network: Mutex<Network>,
}

/// What is known of the containers' network.
#[derive(Debug, Default)]
struct Network {
    pod_cidr: String,
    /// What is wrong with it; `None`: nothing, or nothing is known yet.
    wrong: Option<String>,
    stands: bool,
}

/// The containers of a node.
pub struct Runtime {
    shared: Arc<Shared>,
    streams: streaming::Client,
}

impl Runtime {
    /// Whether a containerd can be used now: it answers, and its network directory is free for ours.
    pub async fn check(config: &Config) -> Result<(), Unusable> {
        let link = Link::new(&config.socket);
        if let Health::Away(reason) = link.look().await {
            return Err(Unusable {
                reason: format!("containerd at {} cannot be used: {reason}", config.socket.display()),
            });
        }
        let Some(directory) = link.settings().network_directory.filter(|_| config.network.is_some()) else {
            return Ok(());
        };
        let others = listing::has_pods_of_others(&link, &config.owner).await;
        let others = others.map_err(|error| Unusable {
            reason: in_full(&error),
        })?;
        let name = config.network_name.clone();
        let checked = tokio::task::spawn_blocking(move || network::check(&directory, &name, others)).await;
        match checked {
            Ok(Err(error)) => Err(Unusable {
                reason: in_full(&error),
            }),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Starts the runtime; its tasks end with `shutdown`, and the containers go on. containerd need not be there yet.
    pub async fn start(config: Config, tasks: &TaskTracker, shutdown: CancellationToken) -> Arc<Self> {
        let shared = Arc::new(Shared {
            link: Arc::new(Link::new(&config.socket)),
            listing: Listing::default(),
            events: Events::new(),
            owner: config.owner,
            network_name: config.network_name,
            make_network: config.network,
            network: Mutex::default(),
        });
        shared.link.look().await;
        tasks.spawn(Arc::clone(&shared.link).watch(shutdown.clone()));
        tasks.spawn(events::follow(Arc::clone(&shared), shutdown.clone()));
        tasks.spawn(keep_network(Arc::clone(&shared), shutdown));
        let streams = streaming::Client::new(tasks.clone(), streaming::Patience::default());
        Arc::new(Self { shared, streams })
    }

    /// Removes the network's configuration, when all pods have ended.
    pub async fn remove_network(&self) {
        let Some(directory) = self.shared.link.settings().network_directory else {
            return;
        };
        let name = self.shared.network_name.clone();
        let removed = tokio::task::spawn_blocking(move || network::remove(&directory, &name)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "the containers' network configuration stays");
        }
    }
}

impl Shared {
    pub(crate) async fn sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        self.listing.sandboxes(&self.link, &self.owner).await
    }

    pub(crate) async fn containers(&self) -> Result<Vec<Container>, Error> {
        self.listing.containers(&self.link, &self.owner).await
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// A sandbox, listed anew if it is not known.
    async fn sandbox(&self, id: &SandboxId) -> Result<Sandbox, Error> {
        if let Some(known) = self.listing.known_sandbox(&id.0) {
            return Ok(known);
        }
        let listed = self.sandboxes().await?;
        let found = listed.into_iter().find(|sandbox| sandbox.id == *id);
        found.ok_or_else(|| Error::NotFound {
            what: "sandbox",
            id: id.to_string(),
        })
    }

    /// Writes the network's configuration where that is to be done, and waits until containerd has read it.
    async fn ensure_network(&self) {
        let pod_cidr = self.network.lock().pod_cidr.clone();
        let Some(make) = self.make_network.as_ref().filter(|_| !pod_cidr.is_empty()) else {
            return;
        };
        let Some(directory) = self.link.settings().network_directory else {
            return; // asked again when containerd answers
        };
        let others = match listing::has_pods_of_others(&self.link, &self.owner).await {
            Ok(others) => others,
            Err(error) => return self.network.lock().wrong = Some(in_full(&error)),
        };
        let made = match make(&pod_cidr) {
            Ok(conflist) => tokio::task::spawn_blocking(move || network::ensure(&directory, &conflist, others)).await,
            Err(why) => return self.network.lock().wrong = Some(why),
        };
        match made {
            Ok(Ok(changed)) => {
                if changed {
                    tracing::info!(pod_cidr, "wrote the containers' network configuration");
                    self.network_is_read().await;
                }
                let mut network = self.network.lock();
                (network.stands, network.wrong) = (true, None);
            }
            Ok(Err(error)) => {
                let mut network = self.network.lock();
                (network.stands, network.wrong) = (false, Some(in_full(&error)));
            }
            Err(_) => {}
        }
    }

    /// Waits until containerd has read the network's configuration; not for ever, as it may never do so.
    async fn network_is_read(&self) {
        let is_read = |health: Health| match health {
            Health::Up(told) => told
                .iter()
                .any(|condition| condition.kind == "NetworkReady" && condition.status),
            Health::Unknown | Health::Away(_) => false,
        };
        let reading = async {
            while !is_read(self.link.look().await) {
                tokio::time::sleep(READS_LOOK).await;
            }
        };
        if tokio::time::timeout(READS, reading).await.is_err() {
            tracing::warn!("containerd does not read the containers' network configuration");
        }
    }

    /// Why no sandbox can be made, if that is known.
    fn without_network(&self) -> Option<String> {
        let network = self.network.lock();
        match (&self.make_network, network.stands) {
            (None, _) | (Some(_), true) => None,
            (Some(_), false) => Some(
                network
                    .wrong
                    .clone()
                    .unwrap_or_else(|| "the network of containers is not set up yet".to_owned()),
            ),
        }
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Sees to the network whenever containerd has come (back).
async fn keep_network(shared: Arc<Shared>, quit: CancellationToken) {
    let mut health = shared.link.health_changes();
    loop {
        if matches!(*health.borrow_and_update(), Health::Up(_)) {
            shared.ensure_network().await;
        }
        match quit.run_until_cancelled(health.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

fn attempt<'a>(doing: &'static str, what: &'static str, id: &'a str) -> Attempt<'a> {
    Attempt {
        doing,
        what,
        id,
        patience: PATIENCE,
    }
}

fn sandbox_attempt<'a>(doing: &'static str, id: &'a SandboxId) -> Attempt<'a> {
    attempt(doing, "sandbox", &id.0)
}

fn container_attempt<'a>(doing: &'static str, id: &'a ContainerId) -> Attempt<'a> {
    attempt(doing, "container", &id.0)
}

/// Whole seconds, and more rather than less: CRI knows no others, and 0 means for ever.
fn seconds(duration: Duration) -> i64 {
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(up).unwrap_or(i64::MAX)
}

/// That what was to go is not there is as well.
fn gone_is_well(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound { .. }) => Ok(()),
        result => result,
    }
}

impl Runtime {
    async fn run(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        if let Some(reason) = self.shared.without_network().filter(|_| !config.host_network) {
            return Err(Error::failed("setting up the pod's network", reason));
        }
        let link = &self.shared.link;
        let name = format!("{}/{}", config.namespace, config.name);
        let request = RunPodSandboxRequest {
            config: Some(records::sandbox_config(&config, &self.shared.owner)?),
            runtime_handler: handler.to_owned(),
        };
        let run = Attempt {
            patience: RUN_SANDBOX,
            ..attempt("creating", "sandbox", &name)
        };
        let made = link
            .call(run, Box::pin(async { link.runtime().run_pod_sandbox(request).await }))
            .await;
        let same = |sandbox: &Sandbox| {
            let other = &sandbox.config;
            (&other.namespace, &other.name, &other.uid, other.attempt)
                == (&config.namespace, &config.name, &config.uid, config.attempt)
        };
        match made {
            Ok(made) => self.shared.sandbox(&records::sandbox_id(&made.pod_sandbox_id)).await,
            // Its name is taken: by the same one, made by a call that was given up.
            Err(error) => {
                let listed = self.shared.sandboxes().await.unwrap_or_default();
                let found = listed.into_iter().find(|s| same(s) && s.state == SandboxState::Ready);
                found.ok_or(error)
            }
        }
    }

    async fn create(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let link = &self.shared.link;
        let pod = self.shared.sandbox(sandbox).await?;
        let (name, number, image) = (config.name.clone(), config.attempt, config.image.clone());
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: own_id(&sandbox.0).to_owned(),
            config: Some(records::container_config(config, &self.shared.owner)),
            sandbox_config: Some(records::sandbox_config(&pod.config, &self.shared.owner)?),
        };
        let made = link
            .call(
                attempt("creating", "container", &name),
                Box::pin(async { link.runtime().create_container(request).await }),
            )
            .await;
        match made {
            Ok(made) => Ok(container_id(&made.container_id)),
            Err(Error::NotFound { .. }) => Err(Error::UnrunnableImage {
                reference: image,
                reason: "containerd does not have it (any more)".to_owned(),
            }),
            Err(error) => {
                let listed = self.shared.containers().await.unwrap_or_default();
                let found = listed.into_iter().find(|container| {
                    container.sandbox == *sandbox
                        && (&container.config.name, container.config.attempt) == (&name, number)
                });
                found.map(|container| container.id).ok_or(error)
            }
        }
    }

    async fn start_created(&self, id: &ContainerId) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::StartContainerRequest {
            container_id: own_id(&id.0).to_owned(),
        };
        let started = link.call(container_attempt("starting", id), async {
            link.runtime().start_container(request).await
        });
        match started.await {
            Ok(_) => Ok(()),
            Err(Error::Failed { doing, source }) if matches!(link.health(), Health::Up(_)) => {
                let listed = self.shared.containers().await.unwrap_or_default();
                let runs =
                    |container: &Container| container.id == *id && container.state == cri::ContainerState::Running;
                if listed.iter().any(runs) {
                    return Ok(());
                }
                let error = Error::Failed { doing, source };
                Err(Error::Start { reason: cause(&error) })
            }
            Err(error) => Err(error),
        }
    }

    async fn run_command(&self, id: &ContainerId, command: Vec<String>, limit: Duration) -> Result<ExecOutput, Error> {
        let link = &self.shared.link;
        let (timeout, patience) = match limit {
            Duration::MAX => (0, Duration::from_secs(u64::from(u32::MAX))),
            limit => (seconds(limit), limit + EXEC_MARGIN),
        };
        let request = v1::ExecSyncRequest {
            container_id: own_id(&id.0).to_owned(),
            cmd: command,
            timeout,
        };
        let attempt = Attempt {
            patience,
            ..container_attempt("exec in", id)
        };
        let ran = link
            .call(attempt, async { link.runtime().exec_sync(request).await })
            .await;
        match ran {
            Ok(output) => Ok(output.into()),
            // containerd says so in words.
            Err(Error::Timeout { .. }) => Err(Error::Timeout {
                what: "the command",
                after: limit,
            }),
            Err(error) if error.chain().contains("timeout") && error.chain().contains("exceeded") => {
                Err(Error::Timeout {
                    what: "the command",
                    after: limit,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn update(&self, id: &ContainerId, resources: v1::LinuxContainerResources) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::UpdateContainerResourcesRequest {
            container_id: own_id(&id.0).to_owned(),
            linux: Some(resources),
            ..v1::UpdateContainerResourcesRequest::default()
        };
        let updated = link.call(container_attempt("updating", id), async {
            link.runtime().update_container_resources(request).await
        });
        updated.await?;
        self.shared.listing.changed(&id.0);
        Ok(())
    }
}

/// What lies behind an error.
fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[async_trait]
impl cri::Runtime for Runtime {
    fn version(&self) -> Version {
        self.shared.link.version().unwrap_or_else(|| Version {
            name: "containerd".to_owned(),
            version: "unknown".to_owned(),
        })
    }

    async fn status(&self) -> Vec<Condition> {
        crate::status::conditions(
            &self.shared.link.health(),
            self.shared.link.socket(),
            self.shared.without_network(),
        )
    }

    async fn features(&self) -> Features {
        crate::status::features(&self.shared.link).await.unwrap_or_default()
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        if !config.pod_cidr.is_empty() {
            self.shared.network.lock().pod_cidr = config.pod_cidr;
            self.shared.ensure_network().await;
        }
        Ok(())
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        self.run(config, handler).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: own_id(&id.0).to_owned(),
        };
        let stopped = link.call(sandbox_attempt("stopping", id), async {
            link.runtime().stop_pod_sandbox(request).await
        });
        gone_is_well(stopped.await.map(drop))
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        // containerd does not remove what still has a network.
        self.stop_sandbox(id).await?;
        let link = &self.shared.link;
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: own_id(&id.0).to_owned(),
        };
        let removed = link.call(sandbox_attempt("removing", id), async {
            link.runtime().remove_pod_sandbox(request).await
        });
        gone_is_well(removed.await.map(drop))
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        self.shared.sandboxes().await
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        if config.mounts.iter().any(|mount| mount.image.is_some()) {
            crate::status::check_image_volumes(&self.version().version)?;
        }
        self.create(sandbox, config).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.start_created(id).await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::StopContainerRequest {
            container_id: own_id(&id.0).to_owned(),
            timeout: seconds(grace),
        };
        let attempt = Attempt {
            patience: grace.saturating_add(PATIENCE),
            ..container_attempt("stopping", id)
        };
        let stopped = link.call(attempt, async { link.runtime().stop_container(request).await });
        gone_is_well(stopped.await.map(drop))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::RemoveContainerRequest {
            container_id: own_id(&id.0).to_owned(),
        };
        let removed = link.call(container_attempt("removing", id), async {
            link.runtime().remove_container(request).await
        });
        gone_is_well(removed.await.map(drop))
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        self.shared.containers().await
    }

    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::ReopenContainerLogRequest {
            container_id: own_id(&id.0).to_owned(),
        };
        let reopened = link.call(container_attempt("reopening the log of", id), async {
            link.runtime().reopen_container_log(request).await
        });
        reopened.await.map(drop)
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        self.update(id, resources.into()).await
    }

    async fn update_linux_resources(
        &self,
        id: &ContainerId,
        resources: Resources,
        linux: LinuxResources,
    ) -> Result<(), Error> {
        self.update(id, (resources, linux).into()).await
    }

    async fn update_sandbox_resources(
        &self,
        id: &SandboxId,
        overhead: Resources,
        resources: Resources,
    ) -> Result<(), Error> {
        let link = &self.shared.link;
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: own_id(&id.0).to_owned(),
            overhead: Some(overhead.into()),
            resources: Some(resources.into()),
        };
        let updated = link.call(sandbox_attempt("updating", id), async {
            link.runtime().update_pod_sandbox_resources(request).await
        });
        updated.await.map(drop)
    }

    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        self.run_command(id, command, timeout).await
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<Session, Error> {
        crate::streams::exec(&self.shared.link, &self.streams, id, request).await
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
        crate::streams::attach(&self.shared.link, &self.streams, id, streams).await
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Connection, Error> {
        crate::streams::port_forward(&self.shared.link, &self.streams, id, port).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.shared.events.subscribe()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        crate::stats::containers(&self.shared).await
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        crate::stats::sandboxes(&self.shared).await
    }

    async fn accounting(&self) -> Result<Vec<Accounting>, Error> {
        crate::accounting::of_all(&self.shared).await
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        crate::images::list(&self.shared).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        crate::images::find(&self.shared.link, reference).await
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        crate::images::pull(&self.shared.link, pull).await
    }

    async fn import_image(&self, name: &str, content: ImportContent) -> Result<Imported, Error> {
        crate::images::import(&self.shared.link, name, content).await
    }

    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error> {
        Err(Error::Unsupported {
            what: "looking into an OCI container image",
            reason: format!("image \"{reference}\" holds no Wasm program"),
        })
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        crate::images::remove(&self.shared.link, reference).await
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        let all = crate::images::filesystems(&self.shared.link).await?;
        Ok(all
            .iter()
            .fold(FilesystemUsage::default(), |sum, filesystem| FilesystemUsage {
                used_bytes: sum.used_bytes + filesystem.usage.used_bytes,
                inodes_used: sum.inodes_used + filesystem.usage.inodes_used,
            }))
    }

    async fn image_filesystems(&self) -> Result<Vec<Filesystem>, Error> {
        crate::images::filesystems(&self.shared.link).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_has_begun_counts() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(30)), 30);
        assert_eq!(seconds(Duration::ZERO), 0);
    }
}
