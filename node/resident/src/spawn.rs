//! How the agent starts such a process, what the process gives up, and how it is ended when it does not listen.
//!
//! The process has a session of its own, so that it does not end with the agent. It finds its directory as its working
//! directory, its socket as [`LISTENER`], `/dev/null` as descriptor 1 and its log as 2. The socket is bound and listening.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, fchdir, setgroups, setresgid, setresuid, setsid};

use crate::Place;

/// The process's listening unix stream socket.
pub const LISTENER: RawFd = 0;

/// What is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and all its words.
    pub command: Vec<OsString>,
    /// User and group it runs as; `None`: the agent's.
    pub user: Option<u32>,
}

/// Starts a program at a place, with its socket. Within a tokio runtime, which waits for processes that end. Blocks for a
/// fork and an exec.
pub fn spawn(program: &Program, place: &Place, listener: OwnedFd) -> io::Result<Option<Pid>> {
    let (path, words) = program.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(path);
    command
        .arg0("wherry")
        .args(words)
        .env_clear()
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(place.open_log()?);
    let (directory, user) = (File::open(place.path())?, program.user);
    // SAFETY: between fork and exec the closure only makes system calls; it allocates nothing.
    unsafe {
        command.pre_exec(move || enter(&directory, user));
    }
    let child = tokio::process::Command::from(command).spawn()?;
    Ok(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
}

/// In the child, before the program.
fn enter(directory: &File, user: Option<u32>) -> io::Result<()> {
    setsid()?;
    fchdir(directory)?;
    if let Some(user) = user {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        setgroups(&[])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    Ok(())
}

/// In the process: gives up what serving does not need, and takes as many descriptors as may be had; answers how many.
pub fn confine() -> io::Result<u64> {
    nix::sys::prctl::set_name(c"wherry")?;
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// Kills a process that does not answer, if it still is the one that `word` on its command line says: the number may by now
/// be that of another process.
pub fn end_process(pid: Pid, word: &str) {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !words.split(|byte| *byte == 0).any(|found| found == word.as_bytes()) {
        return;
    }
    // It may have ended meanwhile.
    let _ = kill(pid, Signal::SIGKILL);
}
