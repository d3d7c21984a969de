//! A sandbox host's process, by a descriptor that cannot come to mean another process.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
};

use parking_lot::Mutex;
use rustix::{
    net::sockopt::socket_peercred,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::unix::AsyncFd;

/// A running or ended process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    /// Only who started it can know how it ended.
    child: Mutex<Option<Child>>,
}

/// The peer of a socket is not who it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("the socket's peer runs as user {found}, not {wanted}")]
    OtherUser { wanted: u32, found: u32 },
    #[error("the socket's peer cannot be identified")]
    Io(#[from] io::Error),
}

impl Process {
    /// A process we started.
    pub(crate) fn of_child(child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        Self::open(pid, Some(child))
    }

    /// The process at the other end of a connection, which must run as `user`.
    pub(crate) fn of_peer(stream: &std::os::unix::net::UnixStream, user: u32) -> Result<Self, PeerError> {
        let peer = socket_peercred(stream).map_err(io::Error::from)?;
        match peer.uid.as_raw() {
            found if found == user => Ok(Self::open(peer.pid, None)?),
            found => Err(PeerError::OtherUser { wanted: user, found }),
        }
    }

    fn open(pid: Pid, child: Option<Child>) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` owns a valid descriptor, and nobody replaces it while the `AsyncFd` has it.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        Ok(Self {
            pid,
            pidfd,
            child: Mutex::new(child),
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the process has ended; tells how, if that can be known.
    pub(crate) async fn ended(&self) -> io::Result<Option<ExitStatus>> {
        let _ready = self.pidfd.readable().await?;
        match self.child.lock().as_mut() {
            Some(child) => child.wait().map(Some),
            None => Ok(None),
        }
    }

    /// Ends the process at once.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
