//! Turning our errors into the runtime interface's, by which a kubelet chooses a reason.

use cri::Error;

use super::{descriptors::DescriptorError, hosts::HostError, link::CallError, model::NetworkError};
use crate::{aot::CodeError, images::ReferenceError, protocol::Failure};

/// A call to a host failed while doing something.
pub(super) fn from_call(doing: impl Into<String>, error: CallError) -> Error {
    match error {
        CallError::Refused(failure) => from_failure(doing, failure),
        CallError::Timeout { after } => Error::Timeout {
            what: "the sandbox host",
            after,
        },
        CallError::Lost | CallError::Unfitting => Error::failed(doing, error),
    }
}

fn from_failure(doing: impl Into<String>, failure: Failure) -> Error {
    match failure {
        Failure::NotFound { what, id } => Error::NotFound {
            what: if what == "sandbox" { "sandbox" } else { "container" },
            id,
        },
        Failure::InvalidConfig { message } => Error::InvalidConfig { message },
        Failure::Start { reason } => Error::Start { reason },
        Failure::PortTaken { port, holder } => Error::PortTaken { port, holder },
        Failure::Exhausted { resource, detail } => Error::Exhausted {
            resource: "a resource of the sandbox host",
            detail: format!("{resource}: {detail}"),
        },
        failure @ (Failure::Unrunnable { .. }
        | Failure::Fenced { .. }
        | Failure::Version { .. }
        | Failure::Busy
        | Failure::Internal { .. }) => Error::failed(doing, failure),
    }
}

/// The same for a call that concerns an image's code.
pub(super) fn from_image_call(reference: &str, doing: impl Into<String>, error: CallError) -> Error {
    match error {
        CallError::Refused(Failure::Unrunnable { reason }) => Error::UnrunnableImage {
            reference: reference.to_owned(),
            reason,
        },
        error => from_call(doing, error),
    }
}

/// There is no code for an image.
pub(super) fn from_code(reference: &str, error: CodeError) -> Error {
    let reference = reference.to_owned();
    match error {
        CodeError::Refused(refusal) => Error::UnrunnableImage {
            reference,
            reason: refusal.to_string(),
        },
        error => Error::failed(format!("preparing image \"{reference}\""), error),
    }
}

/// A reference does not parse.
pub(super) fn from_reference(reference: &str, error: ReferenceError) -> Error {
    Error::InvalidImageName {
        reference: reference.to_owned(),
        reason: error.to_string(),
    }
}

impl From<DescriptorError> for Error {
    fn from(error: DescriptorError) -> Self {
        match error {
            DescriptorError::Log { .. } | DescriptorError::Volume { .. } => Self::failed("opening its files", error),
            error => Self::InvalidConfig {
                message: error.to_string(),
            },
        }
    }
}

impl From<NetworkError> for Error {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::NoneLeft(none) => Self::Exhausted {
                resource: "pod addresses",
                detail: none.to_string(),
            },
            NetworkError::NoRange => Self::failed("choosing an address for the pod", error),
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::failed("starting a sandbox host for the namespace", error)
    }
}
