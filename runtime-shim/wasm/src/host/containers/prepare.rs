//! From the agent's description of a container to what its instances share.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use cri::ContainerState;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, filesystem::WasiFilesystemCtx};

use super::failures::internal;
use crate::{
    host::{
        applets::{Mount, View},
        cpu,
        guest::{Prepared, Stdin},
        logs::{Log, Writer},
        memory,
        outgoing::Outgoing,
        sockets::Addresses,
    },
    protocol::{ContainerRecord, CreateContainer, Failure, FdIndex, MountedFd},
};

/// Where kubelets mount a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Bytes of the cluster's authorities that are read.
const AUTHORITIES: u64 = 256 << 10;

/// What all instances of a container will share.
pub(super) fn prepare(
    create: &CreateContainer,
    fds: &Descriptors,
    addresses: Arc<Addresses>,
    pod: &cri::SandboxConfig,
    logs: &Writer,
) -> Result<Prepared, Failure> {
    let log = Log::new(fds.file(create.log)?, logs.clone());
    let outgoing = Outgoing::new(Arc::clone(&addresses), cluster_authorities(&create.mounts, fds));
    Ok(Prepared {
        args: create.program.args.clone().into(),
        env: create.program.env.clone().into(),
        working_dir: create.program.working_dir.clone(),
        filesystem: filesystem(&create.mounts, fds, &log)?,
        view: view(create, fds)?,
        hostname: pod.hostname.clone(),
        stdin: create.config.stdin.then(|| Stdin::new(create.config.stdin_once)),
        addresses,
        log,
        cpu: Arc::new(cpu::Account::new(&create.config.resources, Instant::now())),
        memory: memory::Account::new(&create.config.resources),
        outgoing,
    })
}

/// The descriptors that came with a message.
pub(crate) struct Descriptors(pub(crate) Vec<OwnedFd>);

impl Descriptors {
    pub(super) fn get(&self, index: FdIndex) -> Result<&OwnedFd, Failure> {
        let message = || format!("descriptor {index} was not sent");
        self.0
            .get(usize::from(index))
            .ok_or_else(|| Failure::InvalidConfig { message: message() })
    }

    pub(crate) fn owned(&self, index: FdIndex) -> Result<OwnedFd, Failure> {
        self.get(index)?.try_clone().map_err(internal)
    }

    pub(crate) fn file(&self, index: FdIndex) -> Result<File, Failure> {
        Ok(self.owned(index)?.into())
    }
}

/// Opens what the container sees of the node's files.
pub(crate) fn filesystem(
    mounts: &[MountedFd],
    fds: &Descriptors,
    log: &Arc<Log>,
) -> Result<WasiFilesystemCtx, Failure> {
    let mut builder = WasiCtxBuilder::new();
    for mount in mounts {
        if mount.file {
            log.host(&format!(
                "the file {} is not visible: Wasm guests see whole directories only",
                mount.container_path
            ));
            continue;
        }
        let path = format!("/proc/self/fd/{}", fds.get(mount.fd)?.as_raw_fd());
        let permissions = if mount.readonly {
            FsPerms::ReadOnly
        } else {
            FsPerms::ReadWrite
        };
        builder
            .preopened_dir(path, &mount.container_path, permissions)
            .map_err(|error| Failure::InvalidConfig {
                message: format!("the directory for {} cannot be opened: {error}", mount.container_path),
            })?;
    }
    Ok(builder.build().filesystem().clone())
}

/// What commands see of them: the same.
fn view(create: &CreateContainer, fds: &Descriptors) -> Result<View, Failure> {
    let mounts = create.mounts.iter().filter(|mount| !mount.file);
    let mounts: Result<Vec<Mount>, Failure> = mounts
        .map(|mount| Ok(Mount::new(&mount.container_path, fds.owned(mount.fd)?, mount.readonly)))
        .collect();
    Ok(View::new(mounts?.into(), &create.program.working_dir))
}

/// The cluster's certificate authorities, where the pod has a service account.
fn cluster_authorities(mounts: &[MountedFd], fds: &Descriptors) -> Option<Vec<u8>> {
    let mount = mounts
        .iter()
        .find(|mount| mount.container_path == SERVICE_ACCOUNT && !mount.file)?;
    let path = format!("/proc/self/fd/{}/ca.crt", fds.get(mount.fd).ok()?.as_raw_fd());
    let mut pem = Vec::new();
    File::open(path).ok()?.take(AUTHORITIES).read_to_end(&mut pem).ok()?;
    Some(pem)
}

/// The record of a container that has just been made.
pub(super) fn record_of(create: &CreateContainer, pod_uid: String) -> ContainerRecord {
    let container = cri::Container {
        id: create.id.clone(),
        sandbox: create.sandbox.clone(),
        pod_uid,
        config: create.config.clone(),
        state: ContainerState::Created,
        created_at: create.created_at,
        started_at: 0,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        log_path: create.log_path.clone(),
        user: None,
    };
    ContainerRecord {
        container,
        code_key: create.code_key.clone(),
    }
}
