//! Services by listeners of our own, in a process that outlives the agent.
//!
//! As root it serves node ports on 127.0.0.1: the kernel translates no packet to a loopback address unless
//! `route_localnet` is set, which would open the host's own loopback services to its neighbours. Without root it serves
//! every address of every Service.
//!
//! - `table` says what to listen for, `choose` which endpoint a client is led to: both pure;
//! - `process` is the process, with `listeners`, `tcp` and `udp`; `launch` how it is started;
//! - `holder` is the agent's side of it, `protocol` what they speak; `refused` tells users what cannot be had;
//! - `claim` keeps clusters without root from each other's addresses.

mod choose;
mod claim;
mod holder;
mod launch;
mod listeners;
mod process;
mod protocol;
mod refused;
mod table;
mod tcp;
mod udp;

#[cfg(test)]
pub(crate) mod tests;

pub use claim::{Claim, ClaimError, Held};
pub use holder::HolderError;
pub(crate) use holder::{Holder, end_all};
pub use launch::Process;
pub(crate) use launch::{Launcher, spawn};
pub use process::main;
pub(crate) use refused::Refused;
pub(crate) use table::{Scope, is_needed, table};
