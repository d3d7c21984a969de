//! The seam between a kubelet and a container runtime: the Container Runtime Interface v1 as a Rust trait.
//!
//! A kubelet holds `Arc<dyn Runtime>` and knows nothing else of what runs its containers. The structs are our own and
//! carry what CRI v1 carries (`k8s.io/cri-api/pkg/apis/runtime/v1`), in Rust's terms: times are nanoseconds since the
//! epoch, sizes are bytes, CPU is in CRI's units. This crate does no IO and spawns nothing.

mod container;
mod error;
mod image;
mod linux;
mod program;
mod sandbox;
mod stats;
mod stream;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use container::*;
pub use error::Error;
pub use image::*;
pub use linux::*;
pub use program::*;
pub use sandbox::*;
pub use stats::*;
pub use stream::*;

/// What a kubelet asks of a container runtime.
///
/// Every method is idempotent in CRI's sense: stopping the stopped and removing the absent succeed, and a create that is
/// repeated with the same `(namespace, name, uid, attempt)` answers the id of the first.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Names the runtime, as Node status shows it (`wherry-wasm://0.1.0`).
    fn version(&self) -> Version;

    /// Conditions of the runtime; a kubelet reports its node NotReady while one is false.
    async fn status(&self) -> Vec<Condition>;

    /// What beyond the basics it offers, by handler; fixed while it runs.
    async fn features(&self) -> Features {
        Features::default()
    }

    /// Tells the runtime the node's pod range; sandboxes made afterwards take addresses from it.
    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error>;

    /// Creates a sandbox and makes it ready; its network address is in the record that `list_sandboxes` returns.
    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error>;
    /// Ends every process of the sandbox and frees its network; the record stays until removed.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error>;
    /// Removes a sandbox and its containers, stopping what still runs.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error>;
    /// Changes the limits of a sandbox as a whole: the sum of its containers' and its own overhead.
    async fn update_sandbox_resources(&self, _: &SandboxId, _: Resources, _: Resources) -> Result<(), Error> {
        Err(Error::Unsupported {
            what: "changing a sandbox's resources",
            reason: "this runtime limits containers only".to_owned(),
        })
    }
    /// All sandboxes, of this and of earlier processes of the agent.
    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error>;
    /// One of them.
    async fn sandbox(&self, id: &SandboxId) -> Result<Option<Sandbox>, Error> {
        let all = self.list_sandboxes().await?;
        Ok(all.into_iter().find(|sandbox| sandbox.id == *id))
    }

    /// Creates a container in a sandbox, not yet running.
    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error>;
    /// Starts a created container; returns when its program has been started, not when it serves.
    async fn start_container(&self, id: &ContainerId) -> Result<(), Error>;
    /// Asks the container to end, and ends it by force after `grace`.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error>;
    /// Removes a container's record, stopping it first if it runs. Its log file stays: the kubelet owns that.
    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error>;
    /// All containers with their full state.
    async fn list_containers(&self) -> Result<Vec<Container>, Error>;
    /// One of them.
    async fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        let all = self.list_containers().await?;
        Ok(all.into_iter().find(|container| container.id == *id))
    }
    /// Those of one sandbox.
    async fn containers_of(&self, sandbox: &SandboxId) -> Result<Vec<Container>, Error> {
        let mut all = self.list_containers().await?;
        all.retain(|container| container.sandbox == *sandbox);
        Ok(all)
    }
    /// The kubelet has renamed the log file: open `log_path` anew.
    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error>;
    /// Changes the limits of a running container.
    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error>;

    /// The same with what only Linux containers have, which other runtimes do not look at.
    async fn update_linux_resources(
        &self,
        id: &ContainerId,
        resources: Resources,
        _linux: LinuxResources,
    ) -> Result<(), Error> {
        self.update_container_resources(id, resources).await
    }

    /// Runs a command in a running container and waits for its end; [`Error::Timeout`] kills it. [`Duration::MAX`] is
    /// no limit.
    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error>;
    /// Runs a command in a running container, with streams.
    async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<Session, Error>;
    /// Connects to the streams of a running container's own program. Output from before is not repeated.
    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error>;
    /// Connects to a TCP port on the loopback address of a sandbox.
    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Connection, Error>;

    /// What happens to sandboxes and containers from now on. A subscriber that falls behind gets [`Event::Lost`] and
    /// must list.
    fn events(&self) -> BoxStream<'static, Event>;
    /// Usage of every running container.
    async fn stats(&self) -> Result<Vec<ContainerStats>, Error>;
    /// Usage of every ready sandbox.
    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error>;
    /// What the kernel has counted for every running container that has processes of its own.
    async fn accounting(&self) -> Result<Vec<Accounting>, Error> {
        Ok(Vec::new())
    }

    /// Images on this node.
    async fn list_images(&self) -> Result<Vec<Image>, Error>;
    /// The image a reference names, if it is on this node.
    async fn image(&self, reference: &str) -> Result<Option<Image>, Error>;
    /// Brings an image onto this node. Callers that want the same share the work.
    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error>;
    /// Takes an image from a local file: a `.wasm`, or a tar of an OCI image layout.
    async fn import_image(&self, name: &str, content: ImportContent) -> Result<Imported, Error>;
    /// The program of an image, opened for reading; of an image that has none of its own, [`Error::Unsupported`].
    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error>;
    /// What the program of a container is, where the runtime knows programs as more than bytes; `None`: it does not, or
    /// not of this one.
    async fn wasm_program(&self, _: &ContainerId) -> Result<Option<WasmProgram>, Error> {
        Ok(None)
    }
    /// Removes an image and all its names.
    async fn remove_image(&self, reference: &str) -> Result<(), Error>;
    /// Bytes and inodes that images and compiled code use.
    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error>;
    /// The filesystems that images are on, and what images use of each.
    async fn image_filesystems(&self) -> Result<Vec<Filesystem>, Error> {
        let usage = self.image_filesystem().await?;
        Ok(vec![Filesystem {
            usage,
            ..Filesystem::default()
        }])
    }
}

/// A runtime shared by the parts of a node.
pub type SharedRuntime = Arc<dyn Runtime>;

/// Name and version of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As in `status.nodeInfo.containerRuntimeVersion` before `://`.
    pub name: String,
    /// After `://`.
    pub version: String,
}

/// A condition of the runtime, such as `RuntimeReady` or `NetworkReady`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `RuntimeReady` or `NetworkReady`.
    pub kind: String,
    /// Whether the condition holds.
    pub status: bool,
    /// CamelCase, for programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What a runtime offers beyond the basics: CRI's `RuntimeHandler`, `RuntimeFeatures` and `LinuxRuntimeConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub handlers: Vec<Handler>,
    /// `supplementalGroupsPolicy` is heeded (KEP-3619).
    pub supplemental_groups_policy: bool,
    /// A pod may have a user namespace and the node's network (KEP-5607).
    pub user_namespaces_host_network: bool,
    /// How it keeps cgroups; `None`: it has none that a kubelet would touch.
    pub cgroup_driver: Option<CgroupDriver>,
}

/// A name that a sandbox may be asked for by, and what it offers there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handler {
    /// Empty: the default.
    pub name: String,
    /// Mounts can be read-only also in what is mounted below (KEP-3857).
    pub recursive_readonly_mounts: bool,
    /// Pods can have user namespaces (KEP-127).
    pub user_namespaces: bool,
}

/// Who keeps the tree of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

/// CRI's `UpdateRuntimeConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The node's pod range in CIDR notation.
    pub pod_cidr: String,
}

/// A change of a sandbox or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The sandbox with this id changed.
    Sandbox { id: SandboxId, pod_uid: String },
    /// The container with this id changed state.
    Container {
        id: ContainerId,
        pod_uid: String,
        state: ContainerState,
    },
    /// Progress of preparing an image, in words fit for an Event object.
    Image { reference: String, message: String },
    /// Some events were dropped: list everything.
    Lost,
}
