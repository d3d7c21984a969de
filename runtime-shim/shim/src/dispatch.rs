//! Choosing the runtime: for a sandbox by its handler, for an image by what it holds, for the rest by whose id it is.
//!
//! An id begins with the name of its runtime and a dash, so that it says whose it is in logs and after a restart.

use std::time::Duration;

use async_trait::async_trait;
use cri::{
    Condition, Connection, Container, ContainerConfig, ContainerId, ContainerStats, Error, Event, ExecOutput,
    ExecRequest, FilesystemUsage, Image, ImportContent, Imported, PullImage, PulledImage, Resources, Runtime,
    RuntimeConfig, Sandbox, SandboxConfig, SandboxId, SandboxStats, Session, SharedRuntime, Streams, Version,
};
use futures::stream::BoxStream;

/// The handlers that mean the Wasm runtime; the empty one is the default.
const WASM_HANDLERS: [&str; 2] = ["", "wasm"];
/// What ids of the Wasm runtime begin with.
const WASM_IDS: &str = "wasm-";

/// The node's runtimes behind one face.
pub struct Dispatch {
    wasm: SharedRuntime,
}

/// Whose an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Wasm,
    /// Of a runtime that this node does not have (any more).
    Nobody,
}

fn owner(id: &str) -> Owner {
    if id.starts_with(WASM_IDS) {
        Owner::Wasm
    } else {
        Owner::Nobody
    }
}

impl Dispatch {
    /// Dispatches to the Wasm runtime alone.
    pub fn new(wasm: SharedRuntime) -> Self {
        Self { wasm }
    }

    fn by_handler(&self, handler: &str) -> Result<&SharedRuntime, Error> {
        match WASM_HANDLERS.contains(&handler) {
            true => Ok(&self.wasm),
            false => Err(Error::InvalidConfig {
                message: format!("no runtime for \"{handler}\" is configured"),
            }),
        }
    }

    /// The runtime of an id; absent where there is none.
    fn by_id(&self, id: &str) -> Option<&SharedRuntime> {
        match owner(id) {
            Owner::Wasm => Some(&self.wasm),
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
}

/// An image that only containerd could run, on a node without it.
fn without_containerd(error: Error) -> Error {
    match error {
        Error::Unsupported { what, reason } => Error::Unsupported {
            what,
            reason: format!("{reason}; containerd, which would run it, is not configured on this node"),
        },
        error => error,
    }
}

#[async_trait]
impl Runtime for Dispatch {
    fn version(&self) -> Version {
        self.wasm.version()
    }

    async fn status(&self) -> Vec<Condition> {
        self.wasm.status().await
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        self.wasm.update_config(config).await
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        self.by_handler(handler)?.run_sandbox(config, handler).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(());
        };
        runtime.stop_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(runtime) = self.by_id(&id.0) else {
            return Ok(());
        };
        runtime.remove_sandbox(id).await
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        self.wasm.list_sandboxes().await
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        self.of_sandbox(sandbox)?.create_container(sandbox, config).await
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

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        self.wasm.list_containers().await
    }

    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.of_container(id)?.reopen_container_log(id).await
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        self.of_container(id)?.update_container_resources(id, resources).await
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
        self.wasm.events()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        self.wasm.stats().await
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        self.wasm.sandbox_stats().await
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        self.wasm.list_images().await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        self.wasm.image(reference).await
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        self.wasm.pull_image(pull).await.map_err(without_containerd)
    }

    async fn import_image(&self, name: &str, content: ImportContent) -> Result<Imported, Error> {
        self.wasm.import_image(name, content).await.map_err(without_containerd)
    }

    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error> {
        self.wasm.image_program(reference).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        self.wasm.remove_image(reference).await
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        self.wasm.image_filesystem().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_whose_it_is() {
        assert_eq!(owner("wasm-0123"), Owner::Wasm);
        assert_eq!(owner("containerd-0123"), Owner::Nobody);
        assert_eq!(owner(""), Owner::Nobody);
    }

    #[test]
    fn a_container_image_is_refused_by_naming_what_is_missing() {
        let reason = "image \"nginx\" holds no Wasm program".to_owned();
        let error = without_containerd(Error::Unsupported {
            what: "an OCI container image",
            reason,
        });
        assert_eq!(
            error.to_string(),
            "an OCI container image is not supported: image \"nginx\" holds no Wasm program; \
             containerd, which would run it, is not configured on this node"
        );
    }
}
