//! The Container Storage Interface v1 as it travels, how a driver on this machine makes itself known, and the connection to
//! one: over its unix socket, every call with a deadline, every failure in gRPC's words as Kubernetes' users know them.
//!
//! Knows no object of Kubernetes and decides nothing: who calls what, and when, is the kubelet's.

mod link;
pub mod registration;
pub mod v1;

pub use link::{Code, Error, Link};
