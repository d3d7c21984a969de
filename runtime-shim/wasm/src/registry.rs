//! Speaking with registries: OCI's distribution specification 1.1, as much of it as pulls and pushes Wasm.
//!
//! A [`Session`] is one conversation about one repository. Nothing that a registry says is believed: digests are checked
//! while content streams, sizes and times are bounded, credentials go only where they belong, and what is wrong is named
//! in words fit for a pod's events. What an image is made of, `images` knows; how a pull goes, `pull`.
//!
//! Deliberately absent: HTTP proxies, referrers, and the catalogue of a registry.

mod auth;
mod challenge;
mod download;
mod error;
mod hosts;
mod limits;
mod push;
mod session;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod transport;

#[cfg(test)]
pub(crate) use self::limits::Limits;
pub(crate) use self::session::{Access, Document, Session, Settings};
pub use self::{
    error::RegistryError,
    push::{Push, PushError, Pushed, push},
};
