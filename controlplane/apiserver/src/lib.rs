//! The API server: the request path from TLS to the store and back, and the registry of kinds it serves.
//!
//! [`ApiServer::start`] takes a store and yields a server; [`ApiServer::serve`] answers on a socket and
//! [`ApiServer::as_user`] in this process. Adding a kind is a file in `resources/`; what is not stored is a
//! [`registry::virtuals::Virtual`].

#![allow(
    clippy::result_large_err,
    reason = "a Status is what every step may refuse with, and refusals are rare"
)]

pub mod admission;
mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod components;
mod extensions;
mod flowcontrol;
pub mod history;
pub mod http;
pub mod images;
mod own;
pub mod pods;
pub mod proxy;
mod quota;
pub mod registry;
pub mod resources;
mod server;
mod sessions;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod usage;
pub mod webhook;

pub use aggregation::ProxyClient;
pub use flowcontrol::MaxInflight;
pub use server::{ApiServer, Clock, Config, Pages, StartError, Virtuals};
pub use sessions::sign_in;

/// A version 4 UUID from the thread's generator: uids and request ids need to be unique, not secret.
pub(crate) fn random_uuid() -> uuid::Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
