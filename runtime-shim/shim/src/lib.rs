//! One runtime made of several: the kubelet's view of whatever runs containers on this node; and the same served as CRI v1
//! on a unix socket, for stock kubelets and `crictl`.
//!
//! `dispatch` chooses the runtime: for a sandbox by its handler, for an image by what it holds, for the rest by whose id it
//! is. Lists are the union (`union`). A pod may have containers of both kinds (`mixed`). `server` serves CRI.

mod dispatch;
mod last;
mod mixed;
mod server;
mod union;

pub use dispatch::{Containers, Dispatch};
pub use server::{Config, Error, PodNetwork, serve};
