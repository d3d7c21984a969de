//! The Wasm container runtime: pods whose containers are Wasm components and modules, run by wasmtime.
//!
//! Three kinds of process share this crate and meet only through [`protocol`]:
//! - the **agent** holds [`Runtime`]: it keeps images, has them compiled, gives out pod addresses, starts sandbox hosts
//!   and talks to them. It never compiles or runs a guest itself, because it holds the node's keys.
//! - a **compile child** ([`compile::main`]) turns one Wasm binary into machine code, confined, and ends.
//! - a **sandbox host** ([`host::main`]) runs the guests of one tenant, unprivileged, and outlives the agent.
//!
//! The agent's side: `runtime` (the model, adoption, the calls), `spawn` (starting children), `images` (content store,
//! import), `registry` and `pull` (bringing images from elsewhere), `aot` (the cache of compiled code). The other side:
//! `host`, `compile`, and what both need: `engine` (one wasmtime configuration for all), `world` (what a guest may import).
//! The command line uses [`registry::push`] and [`inspect()`], without a node; the control plane has programs looked into by
//! [`look`].

mod aot;
pub mod compile;
mod confine;
mod durable;
mod engine;
pub mod host;
mod identity;
mod images;
mod inspect;
pub mod look;
pub mod protocol;
mod pull;
pub mod registry;
mod runtime;
mod seccomp;
mod spawn;
mod world;

pub use cri::Producer;
pub use identity::version;
pub use inspect::{Inspection, inspect};
pub use runtime::{Config, Runtime, StartError};
