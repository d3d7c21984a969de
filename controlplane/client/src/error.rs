//! What can go wrong with a request.

use std::{path::PathBuf, time::Duration};

use api::status::Status;

/// Failure of a request to the API server, or of making a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with an error.
    #[error("{0}")]
    Api(Box<Status>),
    /// No answer came.
    #[error("{method} {path}: the API server did not answer")]
    Transport {
        method: http::Method,
        path: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer came in time.
    #[error("{method} {path}: no answer within {after:?}")]
    Timeout {
        method: http::Method,
        path: String,
        after: Duration,
    },
    /// The answer is not what was asked for.
    #[error("{path}: the answer is not a valid {expected}")]
    Decode {
        path: String,
        expected: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The body to send cannot be written as JSON.
    #[error("{path}: cannot encode the request body")]
    Encode {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    /// The path or a header is not valid HTTP.
    #[error("{path}: not a valid request")]
    Request {
        path: String,
        #[source]
        source: http::Error,
    },
    /// The kubeconfig file cannot be used.
    #[error("cannot use kubeconfig {path:?}")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The `Status` that the API server answered with, if it answered.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP status code of the answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    fn reason_is(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason_is("NotFound")
    }

    /// The object changed since it was read, or a precondition failed.
    pub fn is_conflict(&self) -> bool {
        self.reason_is("Conflict")
    }

    /// An object of that name exists.
    pub fn is_already_exists(&self) -> bool {
        self.reason_is("AlreadyExists")
    }

    /// RBAC or admission refused.
    pub fn is_forbidden(&self) -> bool {
        self.reason_is("Forbidden")
    }

    /// The object is not valid; repeating the request will not help.
    pub fn is_invalid(&self) -> bool {
        self.reason_is("Invalid")
    }

    /// The resource version asked for is gone: list again.
    pub fn is_expired(&self) -> bool {
        self.reason_is("Expired") || self.reason_is("Gone") || self.code() == Some(410)
    }

    /// The namespace is being deleted, so that nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.is_forbidden() && self.to_string().contains("because it is being terminated")
    }
}

/// `Ok(None)` in place of a "not found".
pub trait OptionalExt<T> {
    /// Turns a "not found" into `None`.
    fn optional(self) -> Result<Option<T>, Error>;
}

impl<T> OptionalExt<T> for Result<T, Error> {
    fn optional(self) -> Result<Option<T>, Error> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
