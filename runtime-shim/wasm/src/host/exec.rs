//! Streams into a container: commands of the host's own, and the guest's output and input.
//!
//! A command runs on a thread of its own, so that one which waits for its reader holds up no guest. It ends when its
//! streams do: the agent closes them when its client leaves.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cri::ContainerId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::unix::pipe,
    sync::{mpsc, oneshot},
};

use super::{
    applets::{self, Surroundings},
    containers::{Containers, Descriptors},
    guest::Stdin,
    logs,
};
use crate::protocol::{Attach, Exec, Failure, FdIndex};

/// Commands that run at once in this host.
const MOST: usize = 64;
/// The stack of a command's thread.
const STACK: usize = 1 << 20;
/// What is moved at once.
const BUFFER: usize = 32 << 10;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// One of the commands that run.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < MOST).then_some(count + 1)
        });
        taken.is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Containers {
    /// Runs a command to its end; its exit code.
    pub(crate) async fn exec(&self, exec: Exec, fds: Vec<OwnedFd>) -> Result<i32, Failure> {
        let prepared = self.running(&exec.container)?;
        let around = Surroundings {
            view: prepared.view.clone(),
            env: prepared.env.clone(),
            hostname: prepared.hostname.clone(),
            processes: vec![prepared.args.join(" ")],
        };
        let fds = Descriptors(fds);
        let file = |index: Option<FdIndex>| index.map(|index| fds.file(index)).transpose();
        let (mut stdin, stdout, stderr) = (file(exec.stdin)?, file(exec.stdout)?, file(exec.stderr)?);
        // Ours must not be what keeps the pipes open.
        drop(fds);
        let place = Place::take().ok_or_else(|| Failure::Exhausted {
            resource: "commands".to_owned(),
            detail: format!("{MOST} run already"),
        })?;
        let (send, ended) = oneshot::channel();
        let tty = exec.tty;
        let work = move || {
            let _place = place;
            let mut stdout = Out::new(stdout, tty);
            let mut stderr = Out::new(stderr, tty);
            let mut nothing = io::empty();
            let stdin: &mut dyn Read = match &mut stdin {
                Some(stdin) => stdin,
                None => &mut nothing,
            };
            let mut streams = applets::Streams {
                stdin,
                stdout: &mut stdout,
                stderr: &mut stderr,
            };
            let code = applets::run(&around, &exec.command, &mut streams);
            let _ = send.send(code); // who asked may have gone
        };
        let spawned = thread::Builder::new()
            .name("exec".to_owned())
            .stack_size(STACK)
            .spawn(work);
        spawned.map_err(|error| Failure::Internal {
            reason: format!("no thread for the command: {error}"),
        })?;
        ended.await.map_err(|_| Failure::Internal {
            reason: "the command broke off".to_owned(),
        })
    }

    /// Joins descriptors to the guest's own streams, until it has ended or all of them are closed.
    pub(crate) async fn attach(&self, attach: Attach, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let prepared = self.running(&attach.container)?;
        let done = self.done(&attach.container);
        let broken = |error: io::Error| Failure::Internal {
            reason: format!("a stream cannot be used: {error}"),
        };
        let fds = Descriptors(fds);
        let fd = |index: Option<FdIndex>| index.map(|index| fds.owned(index)).transpose();
        let sender = |fd: Option<OwnedFd>| fd.map(pipe::Sender::from_owned_fd).transpose().map_err(broken);
        let stdout = sender(fd(attach.stdout)?)?;
        let stderr = sender(fd(attach.stderr)?)?;
        let stdin = fd(attach.stdin)?
            .map(pipe::Receiver::from_owned_fd)
            .transpose()
            .map_err(broken)?;
        drop(fds);
        let log = &prepared.log;
        let stdout = stdout.map(|pipe| show(log.listen(logs::Stream::Stdout), pipe, attach.tty));
        let stderr = stderr.map(|pipe| show(log.listen(logs::Stream::Stderr), pipe, attach.tty));
        if done.is_cancelled() {
            // It ended just before: nobody else will say so.
            log.end();
        }
        let outputs = async {
            match (stdout, stderr) {
                (Some(stdout), Some(stderr)) => {
                    tokio::join!(stdout, stderr);
                }
                (Some(only), None) | (None, Some(only)) => only.await,
                (None, None) => done.cancelled().await,
            }
        };
        let input = async {
            if let (Some(from), Some(stdin)) = (stdin, &prepared.stdin) {
                feed(from, stdin).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // With the guest's log, after what it said last.
            () = outputs => {}
            () = input => {}
        }
        Ok(())
    }

    fn running(&self, id: &ContainerId) -> Result<Arc<super::guest::Prepared>, Failure> {
        self.running_guest(id).ok_or_else(|| match self.table.container(id) {
            Some(_) => Failure::Start {
                reason: format!("container \"{id}\" is not running"),
            },
            None => Failure::NotFound {
                what: "container".to_owned(),
                id: id.to_string(),
            },
        })
    }
}

/// Shows a client what is said, until nothing more can be, or it has gone.
async fn show(mut said: mpsc::Receiver<bytes::Bytes>, mut pipe: pipe::Sender, tty: bool) {
    loop {
        let bytes = tokio::select! {
            bytes = said.recv() => bytes,
            // A reader that has gone is an error on a pipe, without a write.
            _ = pipe.ready(Interest::ERROR) => return,
        };
        let Some(bytes) = bytes else { return };
        let written = match tty {
            true => pipe.write_all(&carried(&bytes)).await,
            false => pipe.write_all(&bytes).await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn feed(mut from: pipe::Receiver, stdin: &Stdin) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if !stdin.write(buffer.get(..length).unwrap_or_default()).await {
                    return;
                }
            }
        }
    }
    stdin.left().await;
}

/// A terminal in raw mode needs its carriage returned; there is no other line discipline.
fn carried(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// A command's output, gathered into larger pieces.
struct Out {
    file: Option<io::BufWriter<File>>,
    tty: bool,
}

impl Out {
    fn new(file: Option<File>, tty: bool) -> Self {
        Self {
            file: file.map(|file| io::BufWriter::with_capacity(BUFFER, file)),
            tty,
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else {
            return Ok(bytes.len());
        };
        match self.tty {
            true => file.write_all(&carried(bytes))?,
            false => file.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}
