//! The agent's side of the Wasm runtime: [`cri::Runtime`] over sandbox hosts.
//!
//! The hosts hold the truth about sandboxes and containers (`hosts`, `link`); the agent keeps a copy (`model`) that lists
//! are answered from, and opens for them what they may not open (`descriptors`). It outlives nothing: a new process
//! finds the hosts of the one before and goes on.
//!
//! A sandbox may live in the network of another runtime's (`SandboxConfig::join`): it then has a host of its own, in that
//! pod's network namespace.
//!
//! Deliberately absent: the `wasm-isolated` handler.

mod addresses;
mod containers;
mod descriptors;
mod directory;
mod errors;
mod hosts;
mod images;
mod link;
mod model;
mod mounts;
mod process;
mod program;
mod pulls;
mod sandboxes;
mod shared;
mod streams;
mod tenants;
mod views;

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use cri::{
    Condition, Connection, Container, ContainerConfig, ContainerId, ContainerStats, Error, Event, ExecOutput,
    ExecRequest, Features, Filesystem, FilesystemUsage, Handler, HostPorts, Image, ImportContent, Imported, PullImage,
    PulledImage, Resources, RuntimeConfig, Sandbox, SandboxConfig, SandboxId, SandboxStats, Session, Streams, Version,
    WasmProgram,
};
use futures::stream::BoxStream;
use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    hosts::{AdoptError, Hosts, LaterHost, Purpose},
    pulls::Pulls,
    shared::Shared,
};
use crate::{
    aot::{Cache, Target},
    engine,
    images::{Images, StoreError},
    registry::Settings,
    spawn::{
        compiler::Compiler,
        program::{Program, ProgramError},
    },
};

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds `images/`, `aot/`, `sandbox-hosts/` and the kubelet's `pods/`; and, where the administrator put it there,
    /// `certs.d/<registry>/hosts.toml`, how registries are reached.
    pub data_dir: PathBuf,
    /// The node's pod range, of which Wasm pods take the lower half; `None`: told later by `update_config`.
    pub pod_range: Option<Ipv4Net>,
    /// The pods' network namespace, a bind-mounted file; `None`: pods live in the agent's namespace.
    pub netns: Option<PathBuf>,
    /// The parts of 127.0.0.0/8 that guests may dial beside the pods' own: where Services are in a cluster without root.
    pub dialable_loopback: Vec<Ipv4Net>,
    /// The program of a sandbox host and its first words: `[<path of wherry>, "sandbox-host"]`.
    pub host_command: Vec<OsString>,
    /// The program of a compile child and its words: `[<path of wherry>, "compile"]`.
    pub compile_command: Vec<OsString>,
    /// The first of 65,536 users that hosts run as, one for each namespace; `None`: the agent's user. Needs root.
    pub host_uid_base: Option<u32>,
    /// Where, from the root of every cgroup hierarchy, hosts get cgroups of their own; `None`: they stay in the agent's.
    pub cgroup_parent: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`, without the line end.
    pub boot_id: String,
    /// How long a host without pods is kept.
    pub host_idle: Duration,
}

/// The runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("data directory {path} cannot be used", path = path.display())]
    DataDir { path: PathBuf, source: io::Error },
    #[error("the image store cannot be used")]
    Images(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the program of sandbox hosts and compile children cannot be used")]
    Program(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the Wasm engine cannot be set up: {detail}")]
    Engine { detail: String },
    #[error(
        "wherry {version} runs the pods of namespace \"{tenant}\", and this is an earlier one that cannot talk to it: \
         run that version or a later one, or end the pods with wherry down"
    )]
    LaterHost { tenant: String, version: String },
}

impl StartError {
    fn in_directory(config: &Config, name: &str) -> impl Fn(io::Error) -> Self + use<> {
        let path = config.data_dir.join(name);
        move |source| Self::DataDir {
            path: path.clone(),
            source,
        }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Images(error.into())
    }
}

impl From<ProgramError> for StartError {
    fn from(error: ProgramError) -> Self {
        Self::Program(error.into())
    }
}

/// The Wasm runtime of a node.
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    hosts: Arc<Hosts>,
    images: Arc<Images>,
    pulls: Arc<Pulls>,
    code: Cache,
    compiler: Compiler,
}

impl Runtime {
    /// Starts the runtime and adopts what runs already. Its tasks end with `shutdown`; hosts and their pods go on.
    pub async fn start(
        config: Config,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let aot_failed = StartError::in_directory(&config, "aot");
        let runtime = Self::adopting(config, tasks, shutdown, Purpose::Run).await?;
        runtime.shared.tasks.spawn(Arc::clone(&runtime.hosts).end_idle());
        runtime.evict_code().map_err(aot_failed)?;
        Ok(runtime)
    }

    /// Adopts what runs in order to end it, by [`Self::down`] or pod by pod. Writes nothing, so that it works on a full
    /// disk; no other process may run this node meanwhile.
    pub async fn start_to_end(
        config: Config,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        Self::adopting(config, tasks, shutdown, Purpose::End).await
    }

    async fn adopting(
        config: Config,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        purpose: Purpose,
    ) -> Result<Arc<Self>, StartError> {
        let key = engine::key().map_err(|error| StartError::Engine {
            detail: format!("{error:#}"),
        })?;
        let target = Target {
            engine_key: key,
            wherry_version: crate::version().to_owned(),
        };
        let compiler = Compiler(Program::open(&config.compile_command)?);
        let program = Program::open(&config.host_command)?;
        let images = Arc::new(Images::open(&config.data_dir.join("images"))?);
        let code = Cache::open(&config.data_dir.join("aot"), tasks.clone(), shutdown.clone())
            .map_err(StartError::in_directory(&config, "aot"))?;
        let hosts_failed = StartError::in_directory(&config, "sandbox-hosts");
        let shared = Shared::new(config, target, tasks.clone(), shutdown);
        let opened = Hosts::open(Arc::clone(&shared), program, purpose);
        let hosts = opened.map_err(&hosts_failed)?;
        hosts.adopt_all().await.map_err(|error| match error {
            AdoptError::Io(source) => hosts_failed(source),
            AdoptError::Later(LaterHost { tenant, version }) => StartError::LaterHost { tenant, version },
        })?;
        Ok(Arc::new(Self {
            pulls: pulls(&shared, &images),
            shared,
            hosts,
            images,
            code,
            compiler,
        }))
    }

    /// What of the pods answers at ports of the node, now and from now on. To lead there is the caller's: nothing here may.
    pub fn host_ports(&self) -> watch::Receiver<BTreeMap<SandboxId, HostPorts>> {
        self.shared.model.lock().host_ports()
    }

    /// Ends all pods and their hosts, as `wherry down` does; images stay.
    pub async fn down(&self) -> Result<(), Error> {
        let sandboxes: Vec<_> = self.shared.model.lock().sandbox_ids().cloned().collect();
        let removals = sandboxes.iter().map(|id| self.remove(id));
        let results = futures::future::join_all(removals).await;
        self.hosts.end_all().await;
        results.into_iter().collect()
    }
}

fn pulls(shared: &Arc<Shared>, images: &Arc<Images>) -> Arc<Pulls> {
    let settings = Settings {
        hosts: Some(shared.config.data_dir.join("certs.d")),
        ..Settings::default()
    };
    let (tasks, shutdown, told) = (shared.tasks.clone(), shared.shutdown.clone(), Arc::clone(shared));
    Pulls::new(Arc::clone(images), settings, tasks, shutdown, move |event| {
        told.tell(event)
    })
}

/// Sums what the containers of each sandbox use.
fn by_sandbox(containers: &[ContainerStats]) -> Vec<SandboxStats> {
    let mut out: BTreeMap<&SandboxId, SandboxStats> = BTreeMap::new();
    for stats in containers {
        let sum = out.entry(&stats.sandbox).or_insert_with(|| SandboxStats {
            id: stats.sandbox.to_string(),
            pod_uid: stats.pod_uid.clone(),
            ..SandboxStats::default()
        });
        sum.timestamp = sum.timestamp.max(stats.timestamp);
        sum.cpu_usage_core_nanoseconds += stats.cpu_usage_core_nanoseconds;
        sum.memory_working_set_bytes += stats.memory_working_set_bytes;
    }
    out.into_values().collect()
}

#[async_trait]
impl cri::Runtime for Runtime {
    fn version(&self) -> Version {
        Version {
            name: "wherry-wasm".to_owned(),
            version: crate::version().to_owned(),
        }
    }

    async fn status(&self) -> Vec<Condition> {
        let has_range = self.shared.model.lock().has_pod_range();
        let condition = |kind: &str, status, reason: &str, message: &str| Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        vec![
            condition("RuntimeReady", true, "", ""),
            match has_range {
                true => condition("NetworkReady", true, "", ""),
                false => condition("NetworkReady", false, "NoPodRange", "the node has no pod range yet"),
            },
        ]
    }

    async fn features(&self) -> Features {
        let handler = |name: &str| Handler {
            name: name.to_owned(),
            // What a guest is given read-only is so throughout.
            recursive_readonly_mounts: true,
            user_namespaces: false,
        };
        Features {
            handlers: sandboxes::HANDLERS.map(handler).to_vec(),
            ..Features::default()
        }
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        if config.pod_cidr.is_empty() {
            return Ok(());
        }
        let range: Ipv4Net = config.pod_cidr.parse().map_err(|_| Error::InvalidConfig {
            message: format!("pod range \"{}\" is not an IPv4 range", config.pod_cidr),
        })?;
        self.shared.model.lock().set_node_range(range);
        Ok(())
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        self.run(config, handler).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.stop(id).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.remove(id).await
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        Ok(self.shared.model.lock().sandboxes().collect())
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<Option<Sandbox>, Error> {
        let model = self.shared.model.lock();
        Ok(model.sandbox(id).map(|held| held.record.sandbox))
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        self.create(sandbox, config).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.start_created(id).await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.stop_running(id, grace).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.remove_stopped(id).await
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        Ok(self.shared.model.lock().containers().collect())
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        let model = self.shared.model.lock();
        Ok(model.container(id).map(|held| held.record.container))
    }

    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.reopen_log(id).await
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        self.update_resources(id, resources).await
    }

    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        self.command_output(id, command, timeout).await
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<Session, Error> {
        self.command(id, request)
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
        self.attachment(id, streams)
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Connection, Error> {
        self.connection(id, port).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.shared.events()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        Ok(self.all_stats().await)
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        Ok(by_sandbox(&self.all_stats().await))
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.images.list())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        self.find_image(reference)
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        self.pull(pull).await
    }

    async fn import_image(&self, name: &str, content: ImportContent) -> Result<Imported, Error> {
        self.import(name, content).await
    }

    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error> {
        self.program_of(reference)
    }

    async fn wasm_program(&self, id: &ContainerId) -> Result<Option<WasmProgram>, Error> {
        self.program_of_container(id)
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        self.remove_by_reference(reference).await
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        self.usage().await
    }

    async fn image_filesystems(&self) -> Result<Vec<Filesystem>, Error> {
        Ok(vec![Filesystem {
            mountpoint: self.shared.config.data_dir.join("images"),
            timestamp: self.shared.now(),
            usage: self.usage().await?,
        }])
    }
}
