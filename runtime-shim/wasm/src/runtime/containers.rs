//! Making, starting, stopping and removing containers.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cri::{ContainerConfig, ContainerId, ContainerState, ContainerStats, Error, Resources, SandboxConfig, SandboxId};
use futures::future::join_all;

use super::{
    Runtime,
    descriptors::{DescriptorError, log_path, open_log},
    errors::{from_call, from_image_call},
    hosts::Host,
    link::{CallError, PATIENCE},
    model::{Creation, HostId},
    mounts::Opener,
    program::program,
    views,
};
use crate::{
    aot::Code,
    images::Entry,
    protocol::{Answer, Call, CreateContainer, MountedFd},
};

/// How long a guest may take until its program runs.
const START: Duration = Duration::from_secs(60);

/// The files of a container, opened, in the order they travel.
struct Files {
    log: OwnedFd,
    log_path: PathBuf,
    mounts: Vec<(MountedFd, OwnedFd)>,
}

/// What is left is left until the host ends.
pub(super) fn remove_views(path: &Path) {
    if let Err(error) = views::remove(path) {
        tracing::warn!(path = %path.display(), %error, "a view stays");
    }
}

impl Runtime {
    pub(super) async fn create(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let (host, pod) = self.ready_host(sandbox)?;
        let fresh = || ContainerId(format!("wasm-{}", uuid::Uuid::new_v4().simple()));
        let creation = self.shared.model.lock().begin_container(sandbox, &config, fresh);
        let id = match creation {
            Creation::Exists(id) => return Ok(id),
            Creation::Make(id) => id,
        };
        let result = self.create_pending(&host, &pod, sandbox, config.clone(), id).await;
        if result.is_err() {
            // Unless the record has arrived all the same.
            self.shared.model.lock().abandon_container(sandbox, &config);
        }
        result
    }

    async fn create_pending(
        &self,
        host: &Arc<Host>,
        pod: &SandboxConfig,
        sandbox: &SandboxId,
        config: ContainerConfig,
        id: ContainerId,
    ) -> Result<ContainerId, Error> {
        let image = self.image_of(&config)?;
        let reference = config.image.clone();
        let code = self.code_for(&image, &reference, host).await?;
        let views = host.views(sandbox, &id);
        let files = self.open_files(host, pod, &config, views.clone()).await?;
        let (call, fds) = self.message(sandbox, config, id.clone(), &image, code, files);
        let doing = format!("creating container \"{id}\"");
        match host.link().call(call, fds, PATIENCE).await {
            Ok(Answer::Container(_)) => return Ok(id),
            Ok(_) => Err(from_call(doing, CallError::Unfitting)),
            Err(error) => Err(from_image_call(&reference, doing, error)),
        }
        .inspect_err(|_| remove_views(&views))
    }

    /// The call, with its descriptors: the log, the code, and the mounts.
    fn message(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
        id: ContainerId,
        image: &Entry,
        code: Code,
        files: Files,
    ) -> (Call, Vec<OwnedFd>) {
        let (mounts, mount_fds): (Vec<_>, Vec<_>) = files.mounts.into_iter().unzip();
        let mut fds = vec![files.log, code.file.into()];
        fds.extend(mount_fds);
        let create = CreateContainer {
            id,
            sandbox: sandbox.clone(),
            program: program(code.guest, image, &config),
            config,
            log: 0,
            log_path: files.log_path.display().to_string(),
            code: 1,
            code_key: code.key.to_string(),
            mounts,
            created_at: self.shared.now(),
        };
        (Call::CreateContainer(Box::new(create)), fds)
    }

    async fn open_files(
        &self,
        host: &Host,
        pod: &SandboxConfig,
        config: &ContainerConfig,
        views: PathBuf,
    ) -> Result<Files, Error> {
        let log_path = log_path(&pod.log_directory, &config.log_path)?;
        let (mounts, user) = (config.mounts.clone(), host.file.user);
        let pods = self.shared.config.data_dir.join("pods");
        let work = self
            .shared
            .tasks
            .spawn_blocking(move || -> Result<Files, DescriptorError> {
                let opener = Opener {
                    user,
                    pods: &pods,
                    views: &views,
                };
                let mounts = opener.open(&mounts)?;
                Ok(Files {
                    log: open_log(&log_path)?,
                    log_path,
                    mounts,
                })
            });
        Ok(work
            .await
            .map_err(|error| Error::failed("opening its files", error))??)
    }

    pub(super) async fn start_created(&self, id: &ContainerId) -> Result<(), Error> {
        let (host, state) = self.find(id)?;
        if state == ContainerState::Running {
            return Ok(());
        }
        let Some(host) = self.hosts.get(&host) else {
            return Err(Error::Start {
                reason: "the sandbox host that held it is gone".to_owned(),
            });
        };
        let image = self
            .shared
            .model
            .lock()
            .container(id)
            .map(|held| held.record.container.config.image);
        let result = host
            .link()
            .order(Call::StartContainer { container: id.clone() }, Vec::new(), START)
            .await;
        let doing = format!("starting container \"{id}\"");
        result.map_err(|error| from_image_call(&image.unwrap_or_default(), doing, error))
    }

    pub(super) async fn stop_running(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let Ok((host, state)) = self.find(id) else {
            return Ok(());
        };
        if state >= ContainerState::Exited {
            return Ok(());
        }
        let grace_milliseconds = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let call = Call::StopContainer {
            container: id.clone(),
            grace_milliseconds,
        };
        self.order(&host, id, "stopping", call, Vec::new(), grace.saturating_add(PATIENCE))
            .await
    }

    pub(super) async fn remove_stopped(&self, id: &ContainerId) -> Result<(), Error> {
        let Ok((host, _)) = self.find(id) else { return Ok(()) };
        let views = self.views_of(&host, id);
        let call = Call::RemoveContainer { container: id.clone() };
        self.order(&host, id, "removing", call, Vec::new(), PATIENCE).await?;
        if let Some(views) = views {
            remove_views(&views);
        }
        let forgotten = self.hosts.forget_container(&host, id);
        forgotten.map_err(|error| Error::failed(format!("removing container \"{id}\""), error))
    }

    pub(super) async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        let (host, _) = self.find(id)?;
        let path = self
            .shared
            .model
            .lock()
            .container(id)
            .map(|held| held.record.container.log_path);
        let path = PathBuf::from(path.unwrap_or_default());
        let work = self.shared.tasks.spawn_blocking(move || open_log(&path));
        let log = work.await.map_err(|error| Error::failed("opening its log", error))??;
        let call = Call::ReopenLog { container: id.clone() };
        self.order(&host, id, "reopening the log of", call, vec![log], PATIENCE)
            .await
    }

    pub(super) async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        let (host, _) = self.find(id)?;
        let call = Call::UpdateResources {
            container: id.clone(),
            resources,
        };
        self.order(&host, id, "updating the resources of", call, Vec::new(), PATIENCE)
            .await
    }

    /// Usage of every running container. A host that does not answer is left out.
    pub(super) async fn all_stats(&self) -> Vec<ContainerStats> {
        let hosts = self.hosts.all();
        let answers = hosts.iter().map(|host| async move {
            match host.link().call(Call::Stats, Vec::new(), PATIENCE).await {
                Ok(Answer::Stats(stats)) => stats,
                other => {
                    tracing::warn!(host = %host.id, ?other, "a sandbox host does not tell its usage");
                    Vec::new()
                }
            }
        });
        let stats: Vec<_> = join_all(answers).await.into_iter().flatten().collect();
        let model = self.shared.model.lock();
        stats
            .into_iter()
            .filter(|usage| model.has_container(&usage.id))
            .collect()
    }

    /// Where the views of a container of a running host are; those of other hosts go with the host's directory.
    fn views_of(&self, host: &HostId, id: &ContainerId) -> Option<PathBuf> {
        let model = self.shared.model.lock();
        let sandbox = model.sandbox_of(id)?;
        Some(self.hosts.get(host)?.views(sandbox, id))
    }

    pub(super) fn find(&self, id: &ContainerId) -> Result<(HostId, ContainerState), Error> {
        let model = self.shared.model.lock();
        let held = model.container(id).ok_or_else(|| Error::NotFound {
            what: "container",
            id: id.to_string(),
        })?;
        Ok((held.host, held.record.container.state))
    }

    /// Orders it of the host that holds the container; of a host that has ended there is nothing to order.
    async fn order(
        &self,
        host: &HostId,
        id: &ContainerId,
        doing: &str,
        call: Call,
        fds: Vec<OwnedFd>,
        patience: Duration,
    ) -> Result<(), Error> {
        let Some(host) = self.hosts.get(host) else {
            return Ok(());
        };
        let result = host.link().order(call, fds, patience).await;
        result.map_err(|error| from_call(format!("{doing} container \"{id}\""), error))
    }
}
