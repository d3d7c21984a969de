//! Starting a sandbox host: a process of its own session and user, in the pods' network namespace, that does not end
//! with the agent.
//!
//! What it gets is exactly what [`launch`](crate::protocol::launch) says. What else it gives up (system calls, core
//! dumps) it gives up itself, before it meets a guest.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Stdio},
};

use rustix::thread::{Gid, LinkNameSpaceType, Uid};

use super::program::Program;
use crate::protocol::launch::Arguments;

/// The kernel ends guests before the agent when memory runs out.
const OOM_SCORE: &str = "600";

/// What a host is started with.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Program,
    pub(crate) arguments: Arguments,
    /// Bound and listening.
    pub(crate) listener: OwnedFd,
    /// Becomes the working directory; belongs to `user`.
    pub(crate) state: File,
    /// Opened for appending.
    pub(crate) log: File,
    /// The network namespace to live in; `None`: the agent's.
    pub(crate) netns: Option<File>,
    /// User and group; `None`: the agent's.
    pub(crate) user: Option<u32>,
}

/// Starts a host. Blocks for a fork and an exec.
pub(crate) fn spawn(launch: Launch<'_>) -> io::Result<Child> {
    let Launch {
        program,
        arguments,
        listener,
        state,
        log,
        netns,
        user,
    } = launch;
    let mut command = program.command(arguments.to_words());
    command.stdin(listener).stdout(Stdio::null()).stderr(log);
    // SAFETY: between fork and exec the closure only makes system calls on descriptors that it owns; it allocates nothing.
    unsafe {
        command.pre_exec(move || enter(&state, netns.as_ref(), user));
    }
    let child = command.spawn()?;
    // Raising it needs no privilege; a sandbox around the agent may forbid it all the same.
    if let Err(error) = fs::write(format!("/proc/{}/oom_score_adj", child.id()), OOM_SCORE) {
        tracing::debug!(
            pid = child.id(),
            error = &error as &dyn std::error::Error,
            "OOM score stays"
        );
    }
    Ok(child)
}

/// In the child, before the program: from the most privileged step to the least.
fn enter(state: &File, netns: Option<&File>, user: Option<u32>) -> io::Result<()> {
    rustix::process::setsid()?;
    if let Some(netns) = netns {
        rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    rustix::process::fchdir(state)?;
    if let Some(user) = user {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}
