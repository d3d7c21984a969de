//! Processes that outlive the agent: how they are started, found again, and spoken to.
//!
//! Services and names of the cluster must be served while there is no agent, so each is served by a process of its own.
//! Here is what these have in common: a directory ([`Place`]) with a unix socket by which the next agent finds the process
//! that the one before has left; [`spawn`], which makes it independent of who starts it; [`Channel`], the frames of the
//! conversation, with the agent's side of it ([`Manners`], [`Conversation`]) and the process's ([`process`]). What is said in
//! it is each process's own, and its own to keep compatible.

mod channel;
mod conversation;
mod place;
pub mod process;
mod spawn;

pub use channel::{Channel, MOST_DESCRIPTORS};
pub use conversation::{Conversation, Found, Manners};
pub use place::Place;
pub use spawn::{LISTENER, Program, confine, end_process, spawn};
