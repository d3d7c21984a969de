//! [`cri::Runtime`] over a containerd's CRI socket.
//!
//! containerd holds the truth about sandboxes, containers and images; this crate keeps nothing that it could not ask for
//! again, so a restart finds everything. Ids begin with `containerd-`, and what is not labelled as ours is not seen at all
//! (`records`). While containerd is away calls fail at once and nothing is deleted; when it is back everything goes on
//! (`link`).
//!
//! Beside CRI two services of containerd's own are used, which every version has: its content store, to import images
//! (`import`), and its stream of events (`events`).

mod accounting;
mod events;
mod images;
mod import;
mod link;
mod listing;
mod network;
mod records;
mod reference;
mod runtime;
mod services;
mod stats;
mod status;
mod streams;

pub use network::Conflist;
pub use runtime::{Config, Runtime, Unusable};

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}
