//! Streams into a container: exec, attach and port-forward.
//!
//! A runtime gives the streams themselves; the protocols by which they travel (SPDY, WebSocket) are the callers' matter.

use std::pin::Pin;

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::Error;

/// Bytes that come out of a container.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// Bytes that go into a container.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// A connection: bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}
/// A connection to a port of a pod.
pub type Connection = Pin<Box<dyn Duplex>>;

/// A command to run in a container, and the streams it is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    pub streams: Streams,
}

/// Which streams are wanted. With a terminal there is no stderr of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// What a command said and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// At most 16 MiB; more is dropped.
    pub stdout: Vec<u8>,
    /// At most 16 MiB; more is dropped.
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// A running command's streams, or those of a container's own program.
///
/// Dropping the session ends it: an exec's command loses its streams (it is not killed), an attachment is closed.
pub struct Session {
    /// Present if it was asked for. Shutting it down is the program's end of file.
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    /// Takes new sizes where there is a terminal; a full queue drops the size.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Resolves once the command, or the attached container, has ended, with its exit code. What it wrote before is
    /// still to be read.
    pub ended: BoxFuture<'static, Result<i32, Error>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("tty", &self.resize.is_some())
            .finish_non_exhaustive()
    }
}
