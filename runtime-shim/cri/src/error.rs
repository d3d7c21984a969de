//! What a runtime can fail with, so that a kubelet can choose the container's waiting reason without reading text.

use std::time::Duration;

/// An error of a [`crate::Runtime`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox, container or image does not exist.
    #[error("{what} \"{id}\" not found")]
    NotFound { what: &'static str, id: String },
    /// The configuration cannot be run; a retry with the same configuration fails again. Kubelet: `CreateContainerConfigError`.
    #[error("{message}")]
    InvalidConfig { message: String },
    /// The image reference does not parse. Kubelet: `InvalidImageName`.
    #[error("couldn't parse image name \"{reference}\": {reason}")]
    InvalidImageName { reference: String, reason: String },
    /// The image could not be brought onto the node. Kubelet: `ErrImagePull`, then `ImagePullBackOff`.
    #[error("failed to pull image \"{reference}\": {reason}")]
    ImagePull { reference: String, reason: String },
    /// The image is on the node but cannot be run: not Wasm, truncated, or importing what the host does not offer
    /// (the message names it). Kubelet: `CreateContainerError`.
    #[error("image \"{reference}\" cannot run: {reason}")]
    UnrunnableImage { reference: String, reason: String },
    /// The container could not be started. Kubelet: `RunContainerError`, reason in the container's state.
    #[error("failed to start container: {reason}")]
    Start { reason: String },
    /// Another container of the pod already listens there.
    #[error("port {port} of the pod is already taken by container \"{holder}\"")]
    PortTaken { port: u16, holder: String },
    /// No address, memory or file descriptor is left on this node.
    #[error("node is out of {resource}: {detail}")]
    Exhausted { resource: &'static str, detail: String },
    /// The operation is not offered by this runtime.
    #[error("{what} is not supported: {reason}")]
    Unsupported { what: &'static str, reason: String },
    /// The runtime did not answer in time.
    #[error("{what} did not finish within {after:?}")]
    Timeout { what: &'static str, after: Duration },
    /// The runtime itself failed.
    #[error("{doing}")]
    Failed {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Wraps a cause with what was being attempted.
    pub fn failed(doing: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// The message with its causes, joined as people expect it in a pod's status.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        text
    }
}
