//! SPDY/3.1, as much of it as Kubernetes uses: streams with headers and half-closes, pings, and a farewell.

mod connection;
mod decode;
mod encode;
mod frame;
mod headers;
#[cfg(test)]
mod tests;

pub(crate) use connection::{Incoming, Opener, client, server};
pub use decode::{Decoder, Event};
pub use encode::Encoder;
pub use frame::{Error, Frame, Headers, Setting};
