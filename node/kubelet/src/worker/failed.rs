//! How an action failed, in the terms a container's status and events need.

use crate::{events::PodEvents, plan::Reason};

/// A failed action: the waiting reason it means, and the words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Failed {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Tells that a container could not be started.
    pub(crate) fn tell(&self, events: &PodEvents<'_>, container: &str) {
        let note = match self.reason {
            Reason::ErrImagePull | Reason::ErrImageNeverPull | Reason::InvalidImageName | Reason::ImageInspectError => {
                format!("Error: {}", self.reason.as_str())
            }
            _ => format!("Error: {}", self.message),
        };
        if self.reason != Reason::PostStartHookError {
            events.warning(Some(container), "Failed", note);
        }
    }

    /// Of everything that is not a container's start.
    pub(crate) fn sync(message: impl Into<String>) -> Self {
        Self::new(Reason::Sync, message)
    }

    /// Of bringing an image.
    pub(crate) fn image(error: &cri::Error) -> Self {
        let reason = match error {
            cri::Error::InvalidImageName { .. } => Reason::InvalidImageName,
            _ => Reason::ErrImagePull,
        };
        Self::new(reason, error.chain())
    }

    /// Of creating a container.
    pub(crate) fn create(error: &cri::Error) -> Self {
        let reason = match error {
            cri::Error::InvalidConfig { .. } => Reason::CreateContainerConfigError,
            cri::Error::InvalidImageName { .. } => Reason::InvalidImageName,
            _ => Reason::CreateContainerError,
        };
        Self::new(reason, error.chain())
    }
}
