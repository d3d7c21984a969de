//! Errors of a runtime as gRPC statuses, and back.

use std::time::Duration;

use cri::Error;
use tonic::{Code, Status};

/// The status by which kubelet and crictl know an error. Its text is the error with its causes, since that is what a
/// kubelet writes into events.
pub fn status(error: &Error) -> Status {
    let code = match error {
        Error::NotFound { .. } => Code::NotFound,
        Error::InvalidConfig { .. } | Error::InvalidImageName { .. } => Code::InvalidArgument,
        Error::UnrunnableImage { .. } | Error::PortTaken { .. } => Code::FailedPrecondition,
        Error::Exhausted { .. } => Code::ResourceExhausted,
        Error::Unsupported { .. } => Code::Unimplemented,
        Error::Timeout { .. } => Code::DeadlineExceeded,
        Error::ImagePull { .. } | Error::Start { .. } | Error::Failed { .. } => Code::Unknown,
    };
    Status::new(code, error.chain())
}

/// A call that was made, to word the error it ended in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// `starting`, …
    pub doing: &'static str,
    /// `sandbox`, `container` or `image`.
    pub what: &'static str,
    pub id: &'a str,
    /// What the call was given.
    pub patience: Duration,
}

impl Attempt<'_> {
    /// The error that a status means.
    pub fn error(&self, status: &Status) -> Error {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Error::NotFound {
                what: self.what,
                id: self.id.to_owned(),
            },
            Code::InvalidArgument => Error::InvalidConfig { message },
            Code::Unimplemented => Error::Unsupported {
                what: self.doing,
                reason: message,
            },
            Code::DeadlineExceeded => Error::Timeout {
                what: self.doing,
                after: self.patience,
            },
            code => {
                let cause = match message.is_empty() {
                    true => code.description().to_owned(),
                    false => message,
                };
                Error::failed(format!("{} {} \"{}\"", self.doing, self.what, self.id), cause)
            }
        }
    }
}
