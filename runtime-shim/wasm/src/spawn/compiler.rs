//! Running a compile child: a binary in, machine code out, within bounds of time and size.
//!
//! The child confines itself before it reads the binary; the agent believes nothing it says: lengths are bounded, and
//! time is kept here.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio_util::sync::CancellationToken;

use super::program::{Program, ProgramError};
use crate::protocol::compiled::{self, Outcome, ReadError};

/// The longest a compilation may take.
const DEADLINE: Duration = Duration::from_secs(900);
/// How often a waiting thread looks whether the agent stops.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How long a child may live after its last word.
const FAREWELL: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// What is kept of a child's complaints.
const MAX_COMPLAINT: u64 = 4096;

/// Compiles for one version of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Compiler(pub(crate) Program);

/// The compiler did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompilerError {
    #[error("the compiler is not available")]
    Program(#[from] ProgramError),
    #[error("the compiler cannot be started")]
    Spawn(#[source] io::Error),
    #[error("the binary cannot be opened")]
    Binary(#[source] io::Error),
    #[error("the compiler ended with {status}{complaint}")]
    Died { status: ExitStatus, complaint: String },
    /// It was killed by its own limits.
    #[error("compiling it took more {resource} than is allowed")]
    Limit { resource: &'static str },
    #[error("compiling it took longer than {DEADLINE:?}")]
    TooSlow,
    #[error("the node's agent is stopping")]
    Stopping,
    #[error("the compiler answered nonsense")]
    Answer(#[source] ReadError),
}

/// Compiles `binary` into `code`. Blocks.
pub(crate) fn run(
    compiler: &Compiler,
    binary: File,
    code: &mut File,
    shutdown: &CancellationToken,
) -> Result<Outcome, CompilerError> {
    let complaints = tempfile::tempfile().map_err(CompilerError::Spawn)?;
    let stderr = complaints.try_clone().map_err(CompilerError::Spawn)?;
    let mut command = compiler.0.command([]);
    command.stdin(binary).stdout(Stdio::piped()).stderr(stderr);
    let mut child = Ending(command.spawn().map_err(CompilerError::Spawn)?);
    let Some(stdout) = child.0.stdout.take() else {
        return Err(CompilerError::Spawn(io::ErrorKind::BrokenPipe.into()));
    };
    let mut watched = Watched {
        from: stdout,
        until: Instant::now() + DEADLINE,
        shutdown,
        gave_up: None,
    };
    let answer = compiled::read(&mut watched, &mut io::BufWriter::new(code));
    match (watched.gave_up, answer) {
        (Some(why), _) => Err(why),
        (None, Ok(outcome)) => child.succeeded(complaints).map(|()| outcome),
        // How the child died says more than that its answer is cut off.
        (None, Err(error @ ReadError::Truncated)) => {
            child.succeeded(complaints)?;
            Err(CompilerError::Answer(error))
        }
        (None, Err(error)) => Err(CompilerError::Answer(error)),
    }
}

/// A child that does not outlive this value.
struct Ending(Child);

impl Ending {
    /// Waits for the child, which has closed its output, and kills it if it does not end.
    fn succeeded(&mut self, complaints: File) -> Result<(), CompilerError> {
        let pidfd = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).map_err(io::Error::from);
        let pidfd = pidfd.map_err(CompilerError::Spawn)?;
        if !matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&FAREWELL)), Ok(1)) {
            self.0.kill().map_err(CompilerError::Spawn)?;
        }
        let status = self.0.wait().map_err(CompilerError::Spawn)?;
        match status.signal() {
            _ if status.success() => Ok(()),
            Some(libc::SIGXCPU) => Err(CompilerError::Limit {
                resource: "processor time",
            }),
            // Rust's answer to a failed allocation.
            Some(libc::SIGABRT) => Err(CompilerError::Limit { resource: "memory" }),
            _ => Err(CompilerError::Died {
                status,
                complaint: complaint(complaints),
            }),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn complaint(mut file: File) -> String {
    let mut text = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(MAX_COMPLAINT).read_to_end(&mut text));
    match read {
        Ok(length) if length > 0 => format!(": {}", String::from_utf8_lossy(&text).trim().replace('\n', " ")),
        _ => String::new(),
    }
}

/// Reads a pipe while there is time and nobody stops us.
struct Watched<'a, R> {
    from: R,
    until: Instant,
    shutdown: &'a CancellationToken,
    gave_up: Option<CompilerError>,
}

impl<R: Read + AsFd> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&GLANCE));
            match ready {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.from.read(buffer),
                Err(errno) => return Err(errno.into()),
            }
            if self.shutdown.is_cancelled() {
                self.gave_up = Some(CompilerError::Stopping);
            } else if Instant::now() >= self.until {
                self.gave_up = Some(CompilerError::TooSlow);
            }
            if self.gave_up.is_some() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}
