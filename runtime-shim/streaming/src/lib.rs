//! How streams of a container travel between a client and a node: Kubernetes' remote command and port-forward protocols,
//! by SPDY/3.1, by WebSocket, and by SPDY inside a WebSocket; the server's side and the client's.
//!
//! The server side is [`Offer::accept`], which answers an upgrade request, and [`Accepted`], which serves the connection
//! with what a runtime gives: [`cri::Session`]s and [`cri::Connection`]s. The client side is [`Client`].
//!
//! Every buffer is bounded: a peer that does not read slows its source down. SPDY's flow control windows are not among
//! the bounds: the SPDY of Kubernetes' own clients and servers never sends a WINDOW_UPDATE, so that whoever heeded windows
//! would stall. What bounds a connection is TCP; a stream that nobody reads therefore holds up the others of its
//! connection, as it does with Kubernetes. Deliberately absent: compression of data, server push, SPDY before 3.1.

mod accept;
mod client;
mod mux;
mod port_forward;
mod remote_command;
pub mod spdy;
#[cfg(test)]
mod tests;
mod websocket;

use std::time::Duration;

pub use accept::{Accepted, Offer, Refused};
pub use client::{Client, ClientError};
pub use port_forward::Target;
pub use remote_command::Kind;

/// How long a connection may wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without a byte in either direction (`streamingConnectionIdleTimeout`).
    pub idle: Duration,
    /// For the streams that a client has still to open.
    pub streams: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(4 * 60 * 60),
            streams: Duration::from_secs(30),
        }
    }
}
