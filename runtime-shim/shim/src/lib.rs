//! One runtime made of several: the kubelet's view of whatever runs containers on this node.
//!
//! Deliberately absent until there is a second runtime and a stock kubelet to serve: containerd's adapter and the CRI
//! server on a unix socket.

mod dispatch;

pub use dispatch::Dispatch;
