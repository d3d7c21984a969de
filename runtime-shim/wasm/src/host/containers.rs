//! The life of sandboxes and containers: what each call of the agent does.
//!
//! Calls of one host run side by side, those on one sandbox one after the other ([`Containers::sandbox_lock`]), except
//! that a stop waits for its container outside the lock.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use cri::{ContainerId, ContainerState, SandboxId, SandboxState};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, filesystem::WasiFilesystemCtx};

use super::{
    code::{Code, Library},
    command,
    cpu::{self, Ticker},
    exit::Exit,
    guest::Prepared,
    http::{self, Service},
    logs::{Log, Writer},
    memory,
    outgoing::Outgoing,
    resolver::Resolver,
    sockets::Addresses,
    table::Table,
};
use crate::protocol::{
    Change, ContainerRecord, CreateContainer, Failure, FdIndex, MountedFd, Network, RunSandbox, SandboxRecord,
    http_port,
};

/// Where kubelets mount a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Bytes of the cluster's authorities that are read.
const AUTHORITIES: u64 = 256 << 10;

/// Everything that runs in this host.
pub(crate) struct Containers {
    pub(crate) table: Arc<Table>,
    library: Library,
    ticker: Arc<Ticker>,
    logs: Writer,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    addresses: HashMap<SandboxId, Arc<Addresses>>,
    containers: HashMap<ContainerId, Container>,
    locks: HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>,
}

/// A container that is created or running.
#[derive(Clone)]
struct Container {
    name: String,
    sandbox: SandboxId,
    prepared: Arc<Prepared>,
    code: Arc<Code>,
    running: Option<Running>,
}

#[derive(Clone)]
struct Running {
    /// Asked to end.
    stop: CancellationToken,
    /// Told to end.
    kill: CancellationToken,
    /// Has ended.
    done: CancellationToken,
    /// The port of a service.
    port: Option<u16>,
    service: Option<Arc<Service>>,
}

type Done = Result<(), Failure>;

impl Containers {
    pub(crate) fn new(table: Arc<Table>, library: Library, ticker: Arc<Ticker>, logs: Writer) -> Arc<Self> {
        Arc::new(Self {
            table,
            library,
            ticker,
            logs,
            live: Mutex::default(),
        })
    }

    fn sandbox_lock(&self, sandbox: &SandboxId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.live.lock().locks.entry(sandbox.clone()).or_default())
    }

    pub(crate) async fn run_sandbox(&self, run: RunSandbox) -> Result<SandboxRecord, Failure> {
        let lock = self.sandbox_lock(&run.id);
        let _locked = lock.lock().await;
        if let Some(record) = self.table.sandbox(&run.id) {
            let same = record.sandbox.config == run.config && record.network == run.network;
            let message = format!("sandbox \"{}\" exists with another configuration", run.id);
            return if same {
                Ok(record)
            } else {
                Err(Failure::InvalidConfig { message })
            };
        }
        let (own, ips) = match &run.network {
            Network::Pod { address, .. } => (*address, vec![(*address).into()]),
            Network::Node => (std::net::Ipv4Addr::UNSPECIFIED, Vec::new()),
        };
        let resolver = Resolver::new(&run.config.dns, &run.config.hostname, own);
        let record = SandboxRecord {
            sandbox: cri::Sandbox {
                id: run.id.clone(),
                config: run.config,
                state: SandboxState::Ready,
                ips,
                created_at: run.created_at,
                handler: run.handler,
            },
            network: run.network.clone(),
        };
        self.table
            .change(Change::Sandbox(Box::new(record.clone())))
            .map_err(internal)?;
        self.live
            .lock()
            .addresses
            .insert(run.id, Addresses::new(run.network, resolver));
        Ok(record)
    }

    pub(crate) async fn stop_sandbox(&self, id: &SandboxId) -> Done {
        let lock = self.sandbox_lock(id);
        let _locked = lock.lock().await;
        let Some(mut record) = self.table.sandbox(id) else {
            self.live.lock().locks.remove(id);
            return Ok(());
        };
        for container in self.table.containers_of(id) {
            self.end(&container.container.id, Duration::ZERO).await;
        }
        if record.sandbox.state == SandboxState::Ready {
            record.sandbox.state = SandboxState::NotReady;
            self.table.change(Change::Sandbox(Box::new(record))).map_err(internal)?;
        }
        self.live.lock().addresses.remove(id);
        Ok(())
    }

    pub(crate) async fn remove_sandbox(&self, id: &SandboxId) -> Done {
        self.stop_sandbox(id).await?;
        for container in self.table.containers_of(id) {
            self.remove_container(&container.container.id).await?;
        }
        if self.table.sandbox(id).is_some() {
            self.table
                .change(Change::SandboxRemoved(id.clone()))
                .map_err(internal)?;
        }
        self.live.lock().locks.remove(id);
        Ok(())
    }

    pub(crate) async fn create_container(
        &self,
        create: CreateContainer,
        fds: Vec<OwnedFd>,
    ) -> Result<ContainerRecord, Failure> {
        let lock = self.sandbox_lock(&create.sandbox);
        let _locked = lock.lock().await;
        if let Some(record) = self.table.container(&create.id) {
            return Ok(record);
        }
        let sandbox = self
            .table
            .sandbox(&create.sandbox)
            .ok_or_else(|| not_found("sandbox", &create.sandbox))?;
        let addresses = self.live.lock().addresses.get(&create.sandbox).cloned();
        let addresses = addresses.ok_or_else(|| Failure::InvalidConfig {
            message: format!("sandbox \"{}\" is not ready", create.sandbox),
        })?;
        let fds = Descriptors(fds);
        let code = tokio::task::block_in_place(|| {
            self.library
                .load(&create.code_key, create.program.guest, fds.get(create.code)?)
                .map_err(unrunnable)
        })?;
        let prepared = self.prepare(&create, &fds, addresses)?;
        let record = record_of(&create, sandbox.sandbox.config.uid);
        self.table
            .change(Change::Container(Box::new(record.clone())))
            .map_err(internal)?;
        let container = Container {
            name: create.config.name,
            sandbox: create.sandbox,
            prepared: Arc::new(prepared),
            code,
            running: None,
        };
        self.live.lock().containers.insert(create.id, container);
        Ok(record)
    }

    fn prepare(
        &self,
        create: &CreateContainer,
        fds: &Descriptors,
        addresses: Arc<Addresses>,
    ) -> Result<Prepared, Failure> {
        let log = Log::new(fds.file(create.log)?, self.logs.clone());
        let outgoing = Outgoing::new(Arc::clone(&addresses), cluster_authorities(&create.mounts, fds));
        Ok(Prepared {
            args: create.program.args.clone().into(),
            env: create.program.env.clone().into(),
            working_dir: create.program.working_dir.clone(),
            filesystem: filesystem(&create.mounts, fds, &log)?,
            addresses,
            log,
            cpu: Arc::new(cpu::Account::new(&create.config.resources, Instant::now())),
            memory: memory::Account::new(&create.config.resources),
            outgoing,
        })
    }

    pub(crate) async fn start_container(self: &Arc<Self>, id: &ContainerId) -> Done {
        let record = self.table.container(id).ok_or_else(|| not_found("container", id))?;
        let lock = self.sandbox_lock(&record.container.sandbox);
        let _locked = lock.lock().await;
        let Some(container) = self.live.lock().containers.get(id).cloned() else {
            return Err(Failure::Start {
                reason: format!("container \"{id}\" has ended"),
            });
        };
        if container.running.is_some() {
            return Ok(());
        }
        let listener = match &*container.code {
            Code::Http(_) => Some(self.listen(&container, http_port(&record.container.config.ports))?),
            Code::Command(_) | Code::Preview1(_) => None,
        };
        self.table
            .update_container(id, |container| {
                container.state = ContainerState::Running;
                container.started_at = now();
            })
            .map_err(internal)?;
        self.launch(id.clone(), container, listener);
        Ok(())
    }

    fn listen(&self, container: &Container, port: u16) -> Result<(u16, TcpListener), Failure> {
        let holder = {
            let live = self.live.lock();
            let others = live
                .containers
                .values()
                .filter(|other| other.sandbox == container.sandbox);
            let mut holders = others.filter(|other| other.running.as_ref().is_some_and(|run| run.port == Some(port)));
            holders.next().map(|other| other.name.clone())
        };
        if let Some(holder) = holder {
            return Err(Failure::PortTaken { port, holder });
        }
        let address = container.prepared.addresses.listen();
        let listener = http::listen(address, port).and_then(TcpListener::from_std);
        Ok((port, listener.map_err(|error| cannot_listen(&error, address, port))?))
    }

    /// Starts what has been decided to start.
    fn launch(self: &Arc<Self>, id: ContainerId, mut container: Container, listener: Option<(u16, TcpListener)>) {
        let (fatal, failed) = mpsc::channel(1);
        let service = match &*container.code {
            Code::Http(component) => {
                let (prepared, ticker) = (Arc::clone(&container.prepared), Arc::clone(&self.ticker));
                Some(Service::new(component.clone(), prepared, ticker, fatal))
            }
            _ => None,
        };
        let running = Running {
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            done: CancellationToken::new(),
            port: listener.as_ref().map(|(port, _)| *port),
            service,
        };
        container.running = Some(running.clone());
        self.live.lock().containers.insert(id.clone(), container.clone());
        let containers = Arc::clone(self);
        tokio::spawn(async move {
            let exit = match (listener, &running.service) {
                (Some((_, listener)), Some(service)) => serve(Arc::clone(service), listener, &running, failed).await,
                _ => containers.execute(&container, &running).await,
            };
            containers.ended(&id, &container, exit);
            running.done.cancel();
        });
    }

    async fn execute(&self, container: &Container, running: &Running) -> Exit {
        let program = match &*container.code {
            Code::Command(program) => command::Program::Component(program.clone()),
            Code::Preview1(program) => command::Program::Module(program.clone()),
            Code::Http(_) => return Exit::failed("a service was started without a listener".to_owned()),
        };
        let (prepared, ticker) = (Arc::clone(&container.prepared), Arc::clone(&self.ticker));
        command::run(program, prepared, ticker, running.stop.clone()).await
    }

    fn ended(&self, id: &ContainerId, container: &Container, exit: Exit) {
        let log = &container.prepared.log;
        if !exit.message.is_empty() {
            log.host(&exit.message);
        }
        log.flush();
        self.live.lock().containers.remove(id);
        let recorded = self.table.update_container(id, |container| {
            container.state = ContainerState::Exited;
            container.finished_at = now();
            container.exit_code = exit.code;
            container.reason = exit.reason.to_owned();
            container.message = exit.message;
        });
        if let Err(error) = recorded {
            tracing::error!(container = %id, %error, "the end of a container cannot be recorded");
        }
    }

    pub(crate) async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Done {
        self.end(id, grace).await;
        Ok(())
    }

    /// Ends a container that runs; answers when it has ended.
    async fn end(&self, id: &ContainerId, grace: Duration) {
        let running = self
            .live
            .lock()
            .containers
            .get(id)
            .and_then(|container| container.running.clone());
        let Some(running) = running else { return };
        running.stop.cancel();
        if timeout(grace, running.done.cancelled()).await.is_err() {
            running.kill.cancel();
            running.done.cancelled().await;
        }
    }

    pub(crate) async fn remove_container(&self, id: &ContainerId) -> Done {
        let Some(record) = self.table.container(id) else {
            return Ok(());
        };
        let lock = self.sandbox_lock(&record.container.sandbox);
        let _locked = lock.lock().await;
        self.end(id, Duration::ZERO).await;
        self.live.lock().containers.remove(id);
        self.table
            .change(Change::ContainerRemoved(id.clone()))
            .map_err(internal)
    }

    pub(crate) fn reopen_log(&self, id: &ContainerId, fds: Vec<OwnedFd>) -> Done {
        if self.table.container(id).is_none() {
            return Err(not_found("container", id));
        }
        let file = Descriptors(fds).file(0)?;
        if let Some(container) = self.live.lock().containers.get(id) {
            container.prepared.log.reopen(file);
        }
        Ok(())
    }

    pub(crate) fn update_resources(&self, id: &ContainerId, resources: cri::Resources) -> Done {
        if self.table.container(id).is_none() {
            return Err(not_found("container", id));
        }
        if let Some(container) = self.live.lock().containers.get(id) {
            container.prepared.cpu.update(&resources);
            container.prepared.memory.update(&resources);
        }
        self.table
            .update_container(id, |container| container.config.resources = resources)
            .map_err(internal)
    }

    pub(crate) fn stats(&self) -> Vec<cri::ContainerStats> {
        let running: Vec<_> = {
            let live = self.live.lock();
            let running = live
                .containers
                .iter()
                .filter(|(_, container)| container.running.is_some());
            running.map(|(id, container)| (id.clone(), container.clone())).collect()
        };
        let stats = running.into_iter().filter_map(|(id, container)| {
            let pod_uid = self.table.container(&id)?.container.pod_uid;
            let service = container.running.as_ref().and_then(|running| running.service.as_ref());
            Some(cri::ContainerStats {
                sandbox: container.sandbox,
                name: container.name,
                pod_uid,
                timestamp: now(),
                cpu_usage_core_nanoseconds: container.prepared.cpu.used(),
                memory_working_set_bytes: container.prepared.memory.used(),
                requests: service.map_or(0, |service| service.requests.load(Relaxed)),
                instances: service.map_or(1, |service| service.instances.load(Relaxed)),
                id,
            })
        });
        stats.collect()
    }
}

/// A service's life from its start to its end.
async fn serve(
    service: Arc<Service>,
    listener: TcpListener,
    running: &Running,
    mut failed: mpsc::Receiver<Exit>,
) -> Exit {
    let serving = async {
        match service.try_out().await {
            Ok(()) => {
                Arc::clone(&service).serve(listener, running.stop.clone()).await;
                Exit::drained()
            }
            Err(exit) => exit,
        }
    };
    let exit = tokio::select! {
        exit = serving => exit,
        Some(exit) = failed.recv() => exit,
        () = running.kill.cancelled() => Exit::killed(),
    };
    service.end();
    exit
}

/// The descriptors that came with a message.
pub(super) struct Descriptors(pub(super) Vec<OwnedFd>);

impl Descriptors {
    fn get(&self, index: FdIndex) -> Result<&OwnedFd, Failure> {
        let message = || format!("descriptor {index} was not sent");
        self.0
            .get(usize::from(index))
            .ok_or_else(|| Failure::InvalidConfig { message: message() })
    }

    fn file(&self, index: FdIndex) -> Result<File, Failure> {
        Ok(self.get(index)?.try_clone().map_err(internal)?.into())
    }
}

/// Opens what the container sees of the node's files.
pub(super) fn filesystem(
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

fn record_of(create: &CreateContainer, pod_uid: String) -> ContainerRecord {
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
    };
    ContainerRecord {
        container,
        code_key: create.code_key.clone(),
    }
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn internal(error: io::Error) -> Failure {
    if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
        return Failure::Exhausted {
            resource: "disk space".to_owned(),
            detail: error.to_string(),
        };
    }
    Failure::Internal {
        reason: error.to_string(),
    }
}

fn unrunnable(error: super::code::LoadError) -> Failure {
    Failure::Unrunnable {
        reason: error.to_string(),
    }
}

fn not_found(what: &str, id: &impl ToString) -> Failure {
    Failure::NotFound {
        what: what.to_owned(),
        id: id.to_string(),
    }
}

fn cannot_listen(error: &io::Error, address: std::net::Ipv4Addr, port: u16) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is already in use on {address}"),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} needs a privilege that the pod does not have: choose one from 1024 on, or lower \
             net.ipv4.ip_unprivileged_port_start"
        ),
        io::ErrorKind::AddrNotAvailable => format!("the pod's address {address} is not on this node"),
        _ if error.raw_os_error() == Some(libc::EMFILE) => {
            let (resource, detail) = ("file descriptors".to_owned(), format!("listening on port {port}"));
            return Failure::Exhausted { resource, detail };
        }
        _ => format!("cannot listen on {address}:{port}: {error}"),
    };
    Failure::Start { reason }
}
