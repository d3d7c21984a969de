//! The life of sandboxes and containers: what each call of the agent does.
//!
//! Calls of one host run side by side, those on one sandbox one after the other ([`Containers::sandbox_lock`]), except
//! that a stop waits for its container outside the lock.

mod failures;
mod life;
mod prepare;

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use cri::{ContainerId, ContainerState, SandboxId, SandboxState};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::failures::{internal, not_found, unrunnable};
pub(crate) use self::prepare::Descriptors;
#[cfg(test)]
pub(crate) use self::prepare::filesystem;
use super::{
    code::{Code, Library},
    counts::Counts,
    cpu::Ticker,
    guest::Prepared,
    http::Service,
    logs::Writer,
    resolver::Resolver,
    sockets::Addresses,
    table::Table,
};
use crate::protocol::{
    Change, ContainerRecord, CreateContainer, Failure, Network, RunSandbox, SandboxRecord, http_port,
};

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
    /// Of the code as it was compiled.
    code_bytes: u64,
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
            Network::Node => (Ipv4Addr::UNSPECIFIED, Vec::new()),
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
                network_namespace: None,
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
            self.table.record_end(Change::Sandbox(Box::new(record)));
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
        let (code, code_bytes) = tokio::task::block_in_place(|| {
            let file = fds.get(create.code)?;
            let code = self.library.load(&create.code_key, create.program.guest, file);
            Ok((code.map_err(unrunnable)?, length(file)))
        })?;
        let prepared = prepare::prepare(&create, &fds, addresses, &sandbox.sandbox.config, &self.logs)?;
        let record = prepare::record_of(&create, sandbox.sandbox.config.uid);
        self.table
            .change(Change::Container(Box::new(record.clone())))
            .map_err(internal)?;
        let container = Container {
            name: create.config.name,
            sandbox: create.sandbox,
            prepared: Arc::new(prepared),
            code,
            code_bytes,
            running: None,
        };
        self.live.lock().containers.insert(create.id, container);
        Ok(record)
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

    pub(crate) async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Done {
        self.end(id, grace).await;
        Ok(())
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

    /// What a running container's instances share.
    pub(super) fn running_guest(&self, id: &ContainerId) -> Option<Arc<Prepared>> {
        let live = self.live.lock();
        let container = live
            .containers
            .get(id)
            .filter(|container| container.running.is_some())?;
        Some(Arc::clone(&container.prepared))
    }

    /// Cancelled when the container has ended, as it is now if it does not run.
    pub(super) fn done(&self, id: &ContainerId) -> CancellationToken {
        let live = self.live.lock();
        let running = live.containers.get(id).and_then(|container| container.running.as_ref());
        running.map_or_else(
            || {
                let ended = CancellationToken::new();
                ended.cancel();
                ended
            },
            |running| running.done.clone(),
        )
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
                wasm: Some(Box::new(wasm(
                    container.code_bytes,
                    service.map(|service| &*service.counts),
                ))),
                id,
                linux: None,
            })
        });
        stats.collect()
    }
}

/// What is counted of a container; a program that is no service has one instance for its whole run.
fn wasm(code_bytes: u64, counts: Option<&Counts>) -> cri::WasmStats {
    cri::WasmStats {
        cold_starts: counts.map_or(1, |counts| counts.instances.load(Relaxed)),
        traps: counts.map_or(0, |counts| counts.traps.load(Relaxed)),
        code_bytes,
        latency: counts.map(Counts::latencies).unwrap_or_default(),
    }
}

/// Bytes of a file; 0 of what is none.
fn length(file: &OwnedFd) -> u64 {
    rustix::fs::fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or_default())
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
