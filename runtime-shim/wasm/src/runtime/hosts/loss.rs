//! A host has ended: what its containers came to, and what is left to remove.
//!
//! The host wrote an exit to its state file before anything else could tell of it. What has no exit there is lost
//! (`Unknown`); its pod's sandbox is not ready, so that the kubelet makes a new one.

use std::{collections::HashMap, io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc};

use cri::SandboxState;

use super::{Host, Hosts};
use crate::{
    protocol::{Change, ContainerRecord, SandboxRecord},
    runtime::{
        directory::{Directory, HostFile, Lost, StateFiles},
        model::{HostId, Origin, after_loss},
    },
};

impl Hosts {
    /// A host that ran has ended.
    pub(super) async fn lose(&self, host: &Arc<Host>, ended: io::Result<Option<ExitStatus>>) {
        let cause = cause(&ended);
        self.live.lock().remove(&host.id);
        host.link().close();
        let mut slot = self.slot(&host.file.tenant, &host.file.place).lock_owned().await;
        slot.take_if(|current| current.id == host.id);
        drop(slot);
        self.forget_slot(&host.file);
        self.bury(&host.directory, host.file.clone(), &cause).await;
        host.buried.cancel();
    }

    /// Shows what is left of a host that has ended, and keeps it until it is removed.
    pub(super) async fn bury(&self, directory: &Directory, file: HostFile, cause: &str) {
        let origin = Origin {
            host: file.id.as_str().into(),
            tenant: file.tenant.clone(),
        };
        let lost = file.lost.clone().unwrap_or_else(|| Lost {
            at: self.shared.now(),
            cause: cause.to_owned(),
        });
        if let Some(cgroups) = &self.cgroups
            && let Err(error) = cgroups.remove(&origin.host)
        {
            tracing::debug!(host = %origin.host, error = &error as &dyn std::error::Error, "its cgroup stays");
        }
        let files = self
            .read_remains(
                directory,
                HostFile {
                    lost: Some(lost.clone()),
                    ..file
                },
            )
            .await;
        let files = files.unwrap_or_else(|error| {
            tracing::error!(host = %origin.host, error = &error as &dyn std::error::Error, "its records are unreadable");
            StateFiles::default()
        });
        self.gone.lock().insert(origin.host.clone(), directory.clone());
        let changes = self.remains(&origin.host, files, &lost);
        if !changes.is_empty() {
            let (host, records) = (&origin.host, changes.len());
            tracing::warn!(%host, tenant = origin.tenant, records, cause = lost.cause, "a sandbox host's pods are lost");
        }
        self.shared.apply(&origin, changes);
        self.forget_if_empty(&origin.host);
    }

    async fn read_remains(&self, directory: &Directory, file: HostFile) -> io::Result<StateFiles> {
        let directory = directory.clone();
        let work = self.shared.tasks.spawn_blocking(move || {
            // On a full disk the next agent finds out by itself.
            if let Err(error) = directory.write(&file) {
                tracing::warn!(host = file.id, %error, "the end of a sandbox host cannot be written down");
            }
            directory.read_state()
        });
        work.await.map_err(io::Error::other)?
    }

    /// The last state of everything the host held: as it wrote it, else as we knew it.
    fn remains(&self, host: &HostId, files: StateFiles, lost: &Lost) -> Vec<Change> {
        let mut sandboxes: HashMap<_, SandboxRecord> = HashMap::new();
        let mut containers: HashMap<_, ContainerRecord> = HashMap::new();
        {
            let model = self.shared.model.lock();
            let (known_sandboxes, known_containers) = model.held_by(host);
            let known = known_sandboxes.iter().filter_map(|id| model.sandbox(id));
            sandboxes.extend(known.map(|held| (held.record.sandbox.id.clone(), held.record)));
            let known = known_containers.iter().filter_map(|id| model.container(id));
            containers.extend(known.map(|held| (held.record.container.id.clone(), held.record)));
        }
        sandboxes.extend(
            files
                .sandboxes
                .into_iter()
                .map(|record| (record.sandbox.id.clone(), record)),
        );
        containers.extend(
            files
                .containers
                .into_iter()
                .map(|record| (record.container.id.clone(), record)),
        );
        let sandboxes = sandboxes.into_values().map(|mut record| {
            record.sandbox.state = SandboxState::NotReady;
            Change::Sandbox(Box::new(record))
        });
        let containers = containers.into_values().map(|record| {
            let record = after_loss(record, lost.at, &lost.cause);
            Change::Container(Box::new(record))
        });
        // A container is taken over only where its sandbox is known.
        sandboxes.chain(containers).collect()
    }

    /// Removes the record of a sandbox, with its containers', of a host that has ended.
    pub(crate) fn forget_sandbox(&self, host: &HostId, id: &cri::SandboxId) -> io::Result<()> {
        let Some(directory) = self.gone(host) else {
            return Ok(());
        };
        let containers = self.shared.model.lock().containers_of(id);
        for container in containers {
            directory.forget_container(&container)?;
            self.shared.forget(Change::ContainerRemoved(container));
        }
        directory.forget_sandbox(id)?;
        self.shared.forget(Change::SandboxRemoved(id.clone()));
        self.forget_if_empty(host);
        Ok(())
    }

    /// Removes the record of a container of a host that has ended.
    pub(crate) fn forget_container(&self, host: &HostId, id: &cri::ContainerId) -> io::Result<()> {
        let Some(directory) = self.gone(host) else {
            return Ok(());
        };
        directory.forget_container(id)?;
        self.shared.forget(Change::ContainerRemoved(id.clone()));
        self.forget_if_empty(host);
        Ok(())
    }

    fn forget_if_empty(&self, host: &HostId) {
        if !self.shared.model.lock().is_empty(host) {
            return;
        }
        let Some(directory) = self.gone.lock().remove(host) else {
            return;
        };
        if let Err(error) = directory.remove() {
            tracing::error!(host = %host, error = &error as &dyn std::error::Error, "its directory stays");
        }
    }
}

fn cause(ended: &io::Result<Option<ExitStatus>>) -> String {
    match ended {
        Ok(Some(status)) => match status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => format!("exited with code {}", status.code().unwrap_or_default()),
        },
        // Only who started a process learns how it ended.
        Ok(None) | Err(_) => "it ended".to_owned(),
    }
}
