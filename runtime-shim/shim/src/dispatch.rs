//! Choosing the runtime: for a sandbox by its handler, for an image by what it holds, for the rest by whose id it is.
//!
//! An id begins with the name of its runtime and a dash, so that it says whose it is in logs and after a restart. A runtime
//! that does not answer takes nothing from the other: what it listed last goes on standing (`last`), and only what concerns
//! it fails.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cri::{
    Accounting, Condition, Connection, Container, ContainerConfig, ContainerId, ContainerStats, Error, Event,
    ExecOutput, ExecRequest, Features, Filesystem, FilesystemUsage, Image, ImportContent, Imported, LinuxResources,
    PullImage, PulledImage, Resources, Runtime, RuntimeConfig, Sandbox, SandboxConfig, SandboxId, SandboxState,
    SandboxStats, Session, SharedRuntime, Streams, Version, WasmProgram,
};
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;

use crate::{
    last::Last,
    mixed::{self, Companion, Companions},
    union,
};

/// The handlers that mean the Wasm runtime.
const WASM_HANDLERS: [&str; 2] = ["wasm", "wasm-isolated"];
/// What ids of each runtime begin with.
const WASM_IDS: &str = "wasm-";
const CONTAINER_IDS: &str = cri::CONTAINERD_IDS;

/// What runs OCI containers on this node.
pub enum Containers {
    /// A runtime whose ids begin with `containerd-`.
    Runtime(SharedRuntime),
    /// Nothing, and why.
    None { reason: String },
}

/// The node's runtimes behind one face.
pub struct Dispatch {
    wasm: SharedRuntime,
    containers: Containers,
    last_sandboxes: Last<Sandbox>,
    last_containers: Last<Container>,
    /// As of the last list, for events.
    companions: Arc<Mutex<Companions>>,
}

/// Whose an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Wasm,
    Containers,
    /// Of a runtime that there never was.
    Nobody,
}

fn owner(id: &str) -> Owner {
    if id.starts_with(WASM_IDS) {
        Owner::Wasm
    } else if id.starts_with(CONTAINER_IDS) {
        Owner::Containers
    } else {
        Owner::Nobody
    }
}

impl Dispatch {
    /// Dispatches to the Wasm runtime and what runs containers.
    pub fn new(wasm: SharedRuntime, containers: Containers) -> Self {
        Self {
            wasm,
            containers,
            last_sandboxes: Last::default(),
            last_containers: Last::default(),
            companions: Arc::default(),
        }
    }

    /// What runs OCI containers, if anything does.
    fn oci(&self) -> Option<&SharedRuntime> {
        match &self.containers {
            Containers::Runtime(runtime) => Some(runtime),
            Containers::None { .. } => None,
        }
    }

    fn by_handler(&self, handler: &str) -> Result<&SharedRuntime, Error> {
        match (handler, &self.containers) {
            (handler, _) if WASM_HANDLERS.contains(&handler) => Ok(&self.wasm),
            (_, Containers::Runtime(runtime)) => Ok(runtime),
            ("", Containers::None { .. }) => Ok(&self.wasm),
            (handler, Containers::None { .. }) => Err(Error::InvalidConfig {
                message: format!("no runtime for \"{handler}\" is configured"),
            }),
        }
    }

    /// The runtime of an id; absent where there is none.
    fn by_id(&self, id: &str) -> Option<&SharedRuntime> {
        match owner(id) {
            Owner::Wasm => Some(&self.wasm),
            Owner::Containers => self.oci(),
            Owner::Nobody => None,
        }
    }

    fn of_sandbox(&self, id: &SandboxId) -> Result<&SharedRuntime, Error> {
        self.by_id(&id.0).ok_or_else(|| Error::NotFound {
            what: "sandbox",
            id: id.to_string(),
        })
    }

    fn of_container(&self, id: &ContainerId) -> Result<&SharedRuntime, Error> {
        self.by_id(&id.0).ok_or_else(|| Error::NotFound {
            what: "container",
            id: id.to_string(),
        })
    }

    /// An image that only a runtime of containers could run, on a node without one.
    fn without_containers(&self, error: Error) -> Error {
        match (error, &self.containers) {
            (Error::Unsupported { what, reason }, Containers::None { reason: absent }) => Error::Unsupported {
                what,
                reason: format!("{reason}; {absent}"),
            },
            (error, _) => error,
        }
    }

    async fn companions(&self) -> Result<Companions, Error> {
        let companions = Companions::among(&self.wasm.list_sandboxes().await?);
        self.companions.lock().clone_from(&companions);
        Ok(companions)
    }

    /// The companions of a pod's sandbox.
    async fn companions_of(&self, id: &SandboxId) -> Result<Vec<SandboxId>, Error> {
        match owner(&id.0) {
            Owner::Containers => Ok(self.companions().await?.of(id)),
            Owner::Wasm | Owner::Nobody => Ok(Vec::new()),
        }
    }

    /// Whether the image of a container is a Wasm program of this node.
    async fn is_wasm(&self, config: &ContainerConfig) -> Result<bool, Error> {
        let reference = match config.image_id.is_empty() {
            true => &config.image,
            false => &config.image_id,
        };
        Ok(self.wasm.image(reference).await?.is_some())
    }

    /// The Wasm sandbox for a Wasm container of a pod whose sandbox is containerd's.
    async fn companion(&self, runtime: &SharedRuntime, id: &SandboxId) -> Result<SandboxId, Error> {
        let listed = runtime.list_sandboxes().await?;
        let pod = listed.into_iter().find(|sandbox| sandbox.id == *id);
        let pod = pod.ok_or_else(|| Error::NotFound {
            what: "sandbox",
            id: id.to_string(),
        })?;
        if pod.state != SandboxState::Ready {
            return Err(Error::Start {
                reason: format!("sandbox \"{id}\" is not ready"),
            });
        }
        match mixed::companion(&pod, &self.wasm.list_sandboxes().await?) {
            Companion::Use(companion) => Ok(companion),
            Companion::Make(config) => {
                let made = self.wasm.run_sandbox(*config, "wasm").await?;
                self.companions().await?;
                Ok(made.id)
            }
        }
    }

    /// Why a container cannot be in a Wasm sandbox, if what it is made of is known to be no program for it.
    async fn refuse_in_wasm(&self, config: &ContainerConfig) -> Result<(), Error> {
        if self.is_wasm(config).await? {
            return Ok(());
        }
        let Some(runtime) = self.oci() else { return Ok(()) };
        match runtime.image(&config.image).await {
            Ok(Some(_)) => Err(Error::InvalidConfig {
                message: format!(
                    "image \"{}\" is an OCI container image, and this pod has only Wasm containers: its sandbox cannot \
                     take others",
                    config.image
                ),
            }),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Runtime for Dispatch {
    fn version(&self) -> Version {
        self.wasm.version()
    }

    async fn status(&self) -> Vec<Condition> {
        let mut all = self.wasm.status().await;
        if let Some(runtime) = self.oci() {
            all.extend(runtime.status().await);
        }
        union::conditions(all)
    }

    async fn features(&self) -> Features {
        let wasm = self.wasm.features().await;
        let Some(runtime) = self.oci() else { return wasm };
        let mut all = runtime.features().await;
        // The default is not its when there are containers.
        let own = wasm.handlers.into_iter();
        all.handlers
            .extend(own.filter(|handler| WASM_HANDLERS.contains(&&*handler.name)));
        all
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        if let Some(runtime) = self.oci() {
            runtime.update_config(config.clone()).await?;
        }
        self.wasm.update_config(config).await
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        self.by_handler(handler)?.run_sandbox(config, handler).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(());
        };
        for companion in self.companions_of(id).await? {
            self.wasm.stop_sandbox(&companion).await?;
        }
        runtime.stop_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(());
        };
        for companion in self.companions_of(id).await? {
            self.wasm.remove_sandbox(&companion).await?;
        }
        runtime.remove_sandbox(id).await
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<Option<Sandbox>, Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(None);
        };
        match runtime.sandbox(id).await? {
            // How companions are shown depends on what else there is.
            Some(companion) if companion.config.join.is_some() => {
                let all = self.list_sandboxes().await?;
                Ok(all.into_iter().find(|sandbox| sandbox.id == *id))
            }
            found => Ok(found),
        }
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        let wasm = self.wasm.list_sandboxes().await?;
        let Some(runtime) = self.oci() else { return Ok(wasm) };
        self.companions.lock().clone_from(&Companions::among(&wasm));
        let containers = self.last_sandboxes.or_last(runtime.list_sandboxes().await)?;
        Ok(mixed::sandboxes(wasm, containers))
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let runtime = self.of_sandbox(sandbox)?;
        if owner(&sandbox.0) == Owner::Wasm {
            self.refuse_in_wasm(&config).await?;
            return runtime.create_container(sandbox, config).await;
        }
        if self.is_wasm(&config).await? {
            let companion = self.companion(runtime, sandbox).await?;
            return self.wasm.create_container(&companion, config).await;
        }
        runtime.create_container(sandbox, config).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.of_container(id)?.start_container(id).await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(());
        };
        runtime.stop_container(id, grace).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(());
        };
        runtime.remove_container(id).await
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(None);
        };
        let Some(mut container) = runtime.container(id).await? else {
            return Ok(None);
        };
        if owner(&id.0) == Owner::Wasm && self.oci().is_some() {
            container.sandbox = self.companions().await?.shown(&container.sandbox).clone();
        }
        Ok(Some(container))
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        let wasm = self.wasm.list_containers().await?;
        let Some(runtime) = self.oci() else { return Ok(wasm) };
        let containers = self.last_containers.or_last(runtime.list_containers().await)?;
        let mut all = self.companions().await?.containers(wasm);
        all.extend(containers);
        Ok(all)
    }

    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.of_container(id)?.reopen_container_log(id).await
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        self.of_container(id)?.update_container_resources(id, resources).await
    }

    async fn update_linux_resources(
        &self,
        id: &ContainerId,
        resources: Resources,
        linux: LinuxResources,
    ) -> Result<(), Error> {
        self.of_container(id)?
            .update_linux_resources(id, resources, linux)
            .await
    }

    async fn update_sandbox_resources(
        &self,
        id: &SandboxId,
        overhead: Resources,
        resources: Resources,
    ) -> Result<(), Error> {
        self.of_sandbox(id)?
            .update_sandbox_resources(id, overhead, resources)
            .await
    }

    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        self.of_container(id)?.exec_sync(id, command, timeout).await
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<Session, Error> {
        self.of_container(id)?.exec(id, request).await
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
        self.of_container(id)?.attach(id, streams).await
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Connection, Error> {
        self.of_sandbox(id)?.port_forward(id, port).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let Some(runtime) = self.oci() else {
            return self.wasm.events();
        };
        let companions = Arc::clone(&self.companions);
        let wasm = self.wasm.events().map(move |event| companions.lock().event(event));
        futures::stream::select(wasm, runtime.events()).boxed()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        let wasm = self.wasm.stats().await?;
        let Some(runtime) = self.oci() else { return Ok(wasm) };
        let mut all = self.companions().await?.stats(wasm);
        all.extend(union::or_none("usage of containers", runtime.stats().await));
        Ok(all)
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        let wasm = self.wasm.sandbox_stats().await?;
        let Some(runtime) = self.oci() else { return Ok(wasm) };
        let containers = union::or_none("usage of sandboxes", runtime.sandbox_stats().await);
        Ok(mixed::sandbox_stats(&self.companions().await?, wasm, containers))
    }

    async fn accounting(&self) -> Result<Vec<Accounting>, Error> {
        match self.oci() {
            Some(runtime) => runtime.accounting().await,
            None => Ok(Vec::new()),
        }
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        let mut all = self.wasm.list_images().await?;
        if let Some(runtime) = self.oci() {
            all.extend(union::or_none("images", runtime.list_images().await));
        }
        Ok(all)
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        if let Some(found) = self.wasm.image(reference).await? {
            return Ok(Some(found));
        }
        match self.oci() {
            // What is not known to be there is pulled, and a pull says why it cannot be.
            Some(runtime) => Ok(runtime.image(reference).await.unwrap_or_default()),
            None => Ok(None),
        }
    }

    /// The Wasm runtime looks at the manifest first, and takes what is its. What it cannot reach, containerd may: mirrors
    /// and certificates are set up for each.
    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        let refusal = match self.wasm.pull_image(pull.clone()).await {
            Err(error @ (Error::Unsupported { .. } | Error::ImagePull { .. })) => error,
            result => return result,
        };
        let Some(runtime) = self.oci() else {
            return Err(self.without_containers(refusal));
        };
        match (runtime.pull_image(pull).await, refusal) {
            (Err(_), refusal @ Error::ImagePull { .. }) => Err(refusal),
            (result, _) => result,
        }
    }

    async fn import_image(&self, name: &str, content: ImportContent) -> Result<Imported, Error> {
        let refusal = match self.wasm.import_image(name, content.clone()).await {
            Err(error @ (Error::Unsupported { .. } | Error::Failed { .. })) => error,
            result => return result,
        };
        let Some(runtime) = self.oci() else {
            return Err(self.without_containers(refusal));
        };
        match (runtime.import_image(name, content).await, refusal) {
            (Err(_), refusal @ Error::Failed { .. }) => Err(refusal),
            (result, _) => result,
        }
    }

    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error> {
        let missing = match self.wasm.image_program(reference).await {
            Err(error @ Error::NotFound { .. }) => error,
            result => return result,
        };
        match self.oci() {
            Some(runtime) if runtime.image(reference).await?.is_some() => runtime.image_program(reference).await,
            _ => Err(missing),
        }
    }

    async fn wasm_program(&self, id: &ContainerId) -> Result<Option<WasmProgram>, Error> {
        self.of_container(id)?.wasm_program(id).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        match self.oci() {
            Some(runtime) if self.wasm.image(reference).await?.is_none() => runtime.remove_image(reference).await,
            _ => self.wasm.remove_image(reference).await,
        }
    }

    async fn image_filesystems(&self) -> Result<Vec<Filesystem>, Error> {
        let mut all = self.wasm.image_filesystems().await?;
        if let Some(runtime) = self.oci() {
            all.extend(union::or_none(
                "filesystems of images",
                runtime.image_filesystems().await,
            ));
        }
        Ok(all)
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        let wasm = self.wasm.image_filesystem().await?;
        match self.oci() {
            Some(runtime) => Ok(union::usage(wasm, runtime.image_filesystem().await.unwrap_or_default())),
            None => Ok(wasm),
        }
    }
}

#[cfg(test)]
mod tests;
