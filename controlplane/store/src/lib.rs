//! The store: keys, bytes and revisions, and what every store has in common.
//!
//! [`Backend`] is the seam between the API server and whatever keeps its data: five methods over bytes, one change per
//! revision. Around it stand the parts that do not depend on the medium: the in-memory model ([`memory`]), encryption
//! at rest ([`encrypt`]), the watch cache ([`cache`]), the conformance suite ([`suite`]) that every backend passes, and what
//! backups are written through ([`summed`]).
//!
//! This crate knows nothing of Kubernetes. Keys are paths, values are bytes, and what a value means is told to the
//! cache by its [`cache::Index`].

mod backend;
pub mod cache;
pub mod encrypt;
pub mod follow;
pub mod memory;
pub mod rewind;
pub mod ring;
pub mod suite;
pub mod summed;
mod watch;

pub use backend::{Backend, Change, Error, Expect, Key, Kv, Outcome, Page, Range, Read, Revision, Write};
pub use watch::{Asker, Signal, Watch};
