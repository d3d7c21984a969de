//! Starting a host: its directory, its socket, its process, and the first words with it.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, linux::fs::MetadataExt, unix::net::UnixStream},
    path::Path,
    sync::Arc,
    thread,
};

use rustix::thread::LinkNameSpaceType;
use tokio::sync::OwnedMutexGuard;

use super::{Host, HostError, Hosts, Lease, while_doing};
use crate::{
    protocol::launch::Arguments,
    runtime::{
        directory::{Directory, HostFile, Place},
        process::Process,
    },
    spawn::host::{Launch, spawn},
};

impl Hosts {
    /// Starts a host for the slot of its namespace.
    pub(super) async fn start_into(
        self: &Arc<Self>,
        mut slot: OwnedMutexGuard<Option<Arc<Host>>>,
        tenant: &str,
        place: Place,
    ) -> Result<Lease, HostError> {
        let host = self.start(tenant, place).await?;
        let lease = Lease::of(&host);
        *slot = Some(host);
        Ok(lease)
    }

    async fn start(self: &Arc<Self>, tenant: &str, place: Place) -> Result<Arc<Host>, HostError> {
        let hosts = Arc::clone(self);
        let file = self.new_file(tenant, place)?;
        let directory = Directory::of(&self.root, &file.id);
        let launched = {
            let (file, directory) = (file.clone(), directory.clone());
            self.shared
                .tasks
                .spawn_blocking(move || hosts.launch(&file, &directory))
                .await
        };
        let failed = match launched.map_err(|_| HostError::Stopping).flatten() {
            Ok((process, stream)) => match self.attach(directory.clone(), file, process, stream).await {
                Ok(host) => return Ok(host),
                // The next agent finds it.
                Err(error) if self.lets_live(&error) => return Err(HostError::Stopping),
                Err(source) => {
                    let log = directory
                        .last_log_line()
                        .map(|line| format!(": {line}"))
                        .unwrap_or_default();
                    HostError::Attach { log, source }
                }
            },
            Err(error) => error,
        };
        // It answered nothing, so it holds nothing.
        if let Err(error) = directory.remove() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a failed sandbox host's directory stays"
            );
        }
        Err(failed)
    }

    fn new_file(&self, tenant: &str, place: Place) -> Result<HostFile, HostError> {
        let user = self.tenants.as_ref().map(|tenants| tenants.user(tenant)).transpose();
        Ok(HostFile {
            id: format!("{:016x}", rand::random::<u64>()),
            tenant: tenant.to_owned(),
            place,
            wherry_version: crate::version().to_owned(),
            boot_id: self.shared.config.boot_id.clone(),
            user: user.map_err(while_doing("choosing a user for the namespace"))?,
            lost: None,
        })
    }

    /// Starts the process. Blocks.
    fn launch(&self, file: &HostFile, directory: &Directory) -> Result<(Process, UnixStream), HostError> {
        if let (Place::Joined { netns, .. }, Some(_)) = (&file.place, file.user) {
            open_low_ports(netns).map_err(while_doing("preparing the pod's network namespace"))?;
        }
        directory
            .create(file)
            .map_err(while_doing("making the sandbox host's directory"))?;
        let listener = directory
            .listen()
            .map_err(while_doing("making the sandbox host's socket"))?;
        let stream = directory
            .connect()
            .map_err(while_doing("connecting to the sandbox host's socket"))?;
        let launch = Launch {
            program: &self.program,
            arguments: Arguments {
                id: file.id.clone(),
                tenant: file.tenant.clone(),
                agent_uid: rustix::process::geteuid().as_raw(),
            },
            listener,
            state: directory
                .open_state()
                .map_err(while_doing("opening the sandbox host's directory"))?,
            log: directory
                .open_log()
                .map_err(while_doing("opening the sandbox host's log"))?,
            netns: self
                .open_netns(&file.place)
                .map_err(while_doing("opening the pods' network namespace"))?,
            user: file.user,
        };
        let child = spawn(launch).map_err(while_doing("starting the sandbox host"))?;
        if let Some(cgroups) = &self.cgroups
            && let Err(error) = cgroups.place(&file.id, child.id())
        {
            tracing::debug!(
                host = file.id,
                error = &error as &dyn std::error::Error,
                "it stays in the agent's cgroup"
            );
        }
        let process = Process::of_child(child).map_err(while_doing("watching the sandbox host"))?;
        tracing::info!(
            host = file.id,
            tenant = file.tenant,
            pid = process.pid(),
            "sandbox host started"
        );
        Ok((process, stream))
    }

    fn open_netns(&self, place: &Place) -> io::Result<Option<File>> {
        match (place, &self.shared.config.netns) {
            (Place::Joined { netns, .. }, _) => File::open(netns).map(Some),
            (Place::Pods, Some(path)) => File::open(path).map(Some),
            (Place::Pods, None) | (Place::Node, _) => Ok(None),
        }
    }

    /// The inode of the namespace that hosts of a place must live in.
    pub(super) fn netns_inode(&self, place: &Place) -> io::Result<u64> {
        match self.open_netns(place)? {
            Some(netns) => Ok(netns.metadata()?.st_ino()),
            None => Ok(fs::metadata("/proc/self/ns/net")?.st_ino()),
        }
    }
}

/// Hosts have no privilege and yet serve port 80: in a pod's own namespace every port is the pod's. On a thread of its own,
/// which ends with it, since no other may enter a namespace. Blocks.
fn open_low_ports(netns: &Path) -> io::Result<()> {
    let netns = File::open(netns)?;
    let work = move || -> io::Result<()> {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind)?;
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    };
    let worker = thread::Builder::new().name("netns".to_owned()).spawn(work)?;
    worker
        .join()
        .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
}
