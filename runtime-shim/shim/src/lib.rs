//! One runtime made of several: the kubelet's view of whatever runs containers on this node.
//!
//! `dispatch` chooses the runtime: for a sandbox by its handler, for an image by what it holds, for the rest by whose id it
//! is. Lists are the union (`union`). A pod may have containers of both kinds (`mixed`).
//!
//! Deliberately absent: the CRI server on a unix socket.

mod dispatch;
mod last;
mod mixed;
mod union;

pub use dispatch::{Containers, Dispatch};
