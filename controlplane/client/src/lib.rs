//! How every component but the API server itself reaches the API: requests, shared informers, the keyed reconcile loop,
//! the whole-state snapshot loop, leases and events.
//!
//! Reads go through [`Informers`], one shared watch per kind, scope and type, into small structs that hold only the
//! fields a component uses. Writes go through [`Client`] as JSON trees and patches; an object is never decoded into a
//! type, changed, and put back, since that would drop the fields the type does not know.
//!
//! Time is [`tokio::time`] for intervals and [`Clock`] for what stands in objects, so that tests can pause both.

mod backoff;
mod clock;
mod error;
mod kind;
mod meta;
mod options;
mod request;

pub mod events;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod informer;
pub mod kinds;
pub mod lease;
pub mod reconcile;
pub mod snapshot;

pub use crate::{
    clock::Clock,
    error::{Error, OptionalExt},
    informer::{Changes, Delta, Deltas, Informer, Informers, Scope, Snapshot},
    kind::Kind,
    meta::{Labels, Meta, MetaObject, OwnerRef, same_controller},
    options::{DeleteOptions, List, ListMeta, ListOptions, Patch, Propagation},
    request::Client,
};
