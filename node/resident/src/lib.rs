//! Processes that outlive the agent: how they are started, found again, and spoken to.
//!
//! Services and names of the cluster must be served while there is no agent, so each is served by a process of its own.
//! Here is what these have in common: a directory ([`Place`]) with a unix socket by which the next agent finds the process
//! that the one before has left; [`spawn`], which makes it independent of who starts it; and [`Channel`], the frames of the
//! conversation. What is said in it is each process's own, and its own to keep compatible.

mod channel;
mod place;
mod spawn;

pub use channel::{Channel, MOST_DESCRIPTORS};
pub use place::Place;
pub use spawn::{LISTENER, Program, confine, end_process, spawn};
