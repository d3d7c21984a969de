//! What the crate's children give up before they meet a guest.
//!
//! Both give up new privileges, core dumps and being traced, and, when started by root, their user. A compile child gives
//! up nearly everything else too, by limits and by a filter of system calls. Started without root they keep the user's
//! identity: the filter and the limits still hold.

use std::{io, process::ExitCode, time::Duration};

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, Signal},
    thread::{Gid, Uid},
};

use crate::seccomp;

/// `nobody`, and its group.
const NOBODY: u32 = 65_534;

/// How much a compile child lets others go first.
const NICENESS: i32 = 10;

/// The scheduling slice of a host's threads: the shortest there is. Who wakes waits for at most this much of whoever
/// computes, so that a pod that computes or fills memory without end does not make others late by a slice of
/// milliseconds at each of their steps. Nobody's share changes.
const SLICE: Duration = Duration::from_micros(100);

/// Bounds of a compile child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) address_space: u64,
    pub(crate) cpu_seconds: u64,
    /// Bytes of a file it may write.
    pub(crate) output: u64,
}

/// Confines a compile child. Must be called while the process has one thread.
pub(crate) fn compiler(limits: &Limits) -> io::Result<()> {
    // Ends with the agent: its answer would reach nobody.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    close_descriptors_from(3)?;
    // Pods that run, and others that start, come before one that waits for its code.
    rustix::process::nice(NICENESS)?;
    limit(Resource::As, limits.address_space)?;
    limit(Resource::Cpu, limits.cpu_seconds)?;
    // The header stands before the code.
    limit(Resource::Fsize, limits.output + (1 << 20))?;
    limit(Resource::Core, 0)?;
    drop_user()?;
    give_up_privileges()?;
    seccomp::install(seccomp::COMPILER)
}

/// How a compile child ends, by what came of its work; `command` is what it was called with.
#[allow(
    clippy::print_stderr,
    reason = "standard error is the child's log; nothing has set up tracing there"
)]
pub(crate) fn exit(command: &str, ran: &io::Result<()>) -> ExitCode {
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{command}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Confines a sandbox host, which the agent has already started as the user it shall be.
pub(crate) fn host() -> io::Result<()> {
    limit(Resource::Core, 0)?;
    raise_descriptors()?;
    if let Err(error) = take_short_turns() {
        tracing::debug!(%error, "the kernel's slice stays"); // a kernel before 6.12, or one that does not let us
    }
    give_up_privileges()?;
    seccomp::install(seccomp::HOST)
}

/// Asks for slices of [`SLICE`], for this thread and those that it will start.
fn take_short_turns() -> io::Result<()> {
    /// `struct sched_attr` of sched_setattr(2), as far as the ordinary policy reads it.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: 0,
        flags: 0,
        nice: rustix::process::getpriority_process(None)?,
        priority: 0,
        runtime: SLICE.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads as many bytes as the structure says that it has.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn give_up_privileges() -> io::Result<()> {
    // A program that is executed by its descriptor is called by the descriptor's number in `ps` and `top`.
    rustix::thread::set_name(c"wherry")?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Becomes nobody, if this is root.
fn drop_user() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Lowers a limit for good; one that is lower already stays.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let value = Some(value.min(hard));
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: value,
            maximum: value,
        },
    )?;
    Ok(())
}

/// Takes as many descriptors as may be had: each pod's listener and connection is one.
fn raise_descriptors() -> io::Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(())
}

fn close_descriptors_from(first: u32) -> io::Result<()> {
    // SAFETY: closes descriptors by number; nothing in this process owns any of them yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
