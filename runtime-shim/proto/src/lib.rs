//! CRI v1 as it travels, and how it becomes the structs of [`cri`] and they it.
//!
//! [`v1`] is generated. The rest are pure conversions both ways, by `From`, by `TryFrom` where the wire can say what
//! `cri` cannot, and by functions where one side knows more than the message: what CRI and `cri` both have survives
//! there and back. Only one side has the `join` of a sandbox, a container's declared ports, an image's content, requests
//! and instances in stats; and what Windows nodes have.
//!
//! A Linux part is always written, since in CRI a missing one means the pod's processes where in `cri` it means the
//! container's own; reading it back yields `Some`.

mod container;
mod error;
mod image;
mod linux;
mod runtime;
mod sandbox;
mod stats;
#[cfg(test)]
mod tests;
pub mod v1;

pub use container::{listed_container, reported_container};
pub use error::{Attempt, status};
pub use runtime::{event_state, features};
pub use stats::{container_stats, read_container_stats, read_sandbox_stats, sandbox_stats};

/// A configuration that cannot be.
fn invalid(message: impl Into<String>) -> cri::Error {
    cri::Error::InvalidConfig {
        message: message.into(),
    }
}

/// The value of an enumeration, which newer peers may have extended.
fn known<T: TryFrom<i32>>(what: &str, value: i32) -> Result<T, cri::Error> {
    T::try_from(value).map_err(|_| invalid(format!("{what} {value} is not known")))
}
