//! A container's log in CRI's format: `2026-11-20T09:30:00.123456789Z stdout F text`.
//!
//! Guests write into memory and never wait for the disk: one thread per host writes what has gathered, in large pieces,
//! to the descriptor the agent passed (opened for appending). What cannot be kept is dropped, newest first, and counted:
//! when [`PENDING`] bytes wait for a disk that does not keep up, and when the file has grown by [`FILE`] bytes and nobody
//! has rotated it. The count is written as a line on stderr as soon as there is room again.
//!
//! A line longer than [`LINE`] is cut into partial entries (`P`), as every CRI runtime does.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Bytes of one entry's text.
pub(crate) const LINE: usize = 16 << 10;
/// Bytes of one container that wait to be written.
const PENDING: usize = 1 << 20;
/// Bytes that the file may grow by before it is reopened.
const FILE: u64 = 64 << 20;
/// How long the writer gathers before it writes again.
const GATHER: Duration = Duration::from_millis(2);

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    state: Mutex<State>,
    /// Held from taking what is pending until it is written, so that entries stay in order. True: the last write failed.
    writing: Mutex<bool>,
    writer: Writer,
    /// Clients that listen; never held while something waits.
    listeners: Mutex<Vec<Listener>>,
}

/// Pieces that wait for a client; what it does not take in time it misses, and is told so.
const LISTENER: usize = 64;

#[derive(Debug)]
struct Listener {
    stream: Stream,
    queue: mpsc::Sender<Bytes>,
    missed: usize,
}

impl Listener {
    /// Whether the client is still there.
    fn hear(&mut self, bytes: &Bytes) -> bool {
        if self.missed > 0 {
            let text = format!(
                "wherry: {} bytes are missing here: they were not read in time\n",
                self.missed
            );
            if self.queue.try_send(text.into()).is_ok() {
                self.missed = 0;
            }
        }
        match self.queue.try_send(bytes.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(bytes)) => {
                self.missed += bytes.len();
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

#[derive(Debug)]
struct State {
    /// Formatted entries.
    pending: Vec<u8>,
    /// The writer has been told of `pending`.
    announced: bool,
    dropped: u64,
    file: Arc<File>,
    /// Bytes the file may still grow by.
    room: u64,
}

impl State {
    fn append(&mut self, now: Timestamp, stream: Stream, partial: bool, text: &[u8]) {
        if self.pending.len() + text.len() > PENDING || self.room < (self.pending.len() + text.len()) as u64 {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            let text = format!("wherry: {dropped} log lines were dropped here: the log was full or the disk too slow");
            entry(&mut self.pending, now, Stream::Stderr, false, text.as_bytes());
        }
        entry(&mut self.pending, now, stream, partial, text);
    }
}

fn entry(out: &mut Vec<u8>, now: Timestamp, stream: Stream, partial: bool, text: &[u8]) {
    let mut head = String::with_capacity(48);
    write!(head, "{now:.9} {} {} ", stream.name(), if partial { 'P' } else { 'F' }).ok();
    out.reserve(head.len() + text.len() + 1);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

impl Log {
    pub(crate) fn new(file: File, writer: Writer) -> Arc<Self> {
        let state = State {
            pending: Vec::new(),
            announced: false,
            dropped: 0,
            file: Arc::new(file),
            room: FILE,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            writing: Mutex::new(false),
            writer,
            listeners: Mutex::default(),
        })
    }

    /// What is said on a stream from now on, as it is said.
    pub(crate) fn listen(&self, stream: Stream) -> mpsc::Receiver<Bytes> {
        let (queue, said) = mpsc::channel(LISTENER);
        let listener = Listener {
            stream,
            queue,
            missed: 0,
        };
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| !listener.queue.is_closed());
        listeners.push(listener);
        said
    }

    fn tell(&self, stream: Stream, bytes: &[u8]) {
        let mut listeners = self.listeners.lock();
        if listeners.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        listeners.retain_mut(|listener| listener.stream != stream || listener.hear(&bytes));
    }

    /// Nothing more will be said.
    pub(crate) fn end(&self) {
        self.listeners.lock().clear();
    }

    /// Adds whole lines; `text` holds no newline but between them.
    pub(crate) fn line(self: &Arc<Self>, stream: Stream, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            self.entries(stream, line, true);
        }
    }

    /// What the host has to say about the container.
    pub(crate) fn host(self: &Arc<Self>, text: &str) {
        self.line(Stream::Stderr, format!("wherry: {text}").as_bytes());
    }

    /// Adds one line, cut as needed; the last piece is a full entry only if the line `ends`.
    fn entries(self: &Arc<Self>, stream: Stream, line: &[u8], ends: bool) {
        let now = Timestamp::now();
        let announce = {
            let mut state = self.state.lock();
            let mut pieces = line.chunks(LINE).peekable();
            if pieces.peek().is_none() {
                state.append(now, stream, !ends, b"");
            }
            while let Some(piece) = pieces.next() {
                let partial = pieces.peek().is_some() || !ends;
                state.append(now, stream, partial, piece);
            }
            !std::mem::replace(&mut state.announced, true)
        };
        if announce {
            self.writer.announce(self);
        }
    }

    /// Writes to another file from now on, and what is pending to the old one.
    pub(crate) fn reopen(&self, file: File) {
        self.flush();
        let mut state = self.state.lock();
        state.file = Arc::new(file);
        state.room = FILE;
    }

    /// Writes what is pending.
    pub(crate) fn flush(&self) {
        let mut failed = self.writing.lock();
        let (pending, file) = {
            let mut state = self.state.lock();
            state.announced = false;
            let pending = std::mem::take(&mut state.pending);
            state.room = state.room.saturating_sub(pending.len() as u64);
            (pending, Arc::clone(&state.file))
        };
        let written = (&*file).write_all(&pending);
        // Once, not for every line: the host's own log may be on the same full disk.
        if let Err(error) = &written
            && !*failed
        {
            tracing::warn!(%error, "a container's log cannot be written");
        }
        *failed = written.is_err();
    }
}

/// A line in the making: what a guest wrote since its last newline. One per instance and stream.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    log: Arc<Log>,
    stream: Stream,
    partial: Vec<u8>,
}

impl LineBuffer {
    pub(crate) fn new(log: Arc<Log>, stream: Stream) -> Self {
        Self {
            log,
            stream,
            partial: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        self.log.tell(self.stream, bytes);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            if self.partial.is_empty() {
                self.log.entries(self.stream, line, true);
            } else {
                self.partial.extend_from_slice(line);
                self.log.entries(self.stream, &self.partial, true);
                self.partial.clear();
            }
            bytes = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() >= LINE {
            let whole = self.partial.len() - self.partial.len() % LINE;
            let rest = self.partial.split_off(whole);
            self.log.entries(self.stream, &self.partial, false);
            self.partial = rest;
        }
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.log.entries(self.stream, &self.partial, true);
        }
    }
}

/// The thread that writes all logs of a host.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    announced: SyncSender<Arc<Log>>,
}

/// Logs that may have something to write at once; a log is announced once until it was written.
const QUEUE: usize = 64 << 10;

impl Writer {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (announced, logs) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("logs".to_owned())
            .stack_size(128 << 10)
            .spawn(move || write_all(&logs))?;
        Ok(Self { announced })
    }

    fn announce(&self, log: &Arc<Log>) {
        // Full: 65,536 containers wait already. The log is written when its container ends.
        self.announced.try_send(Arc::clone(log)).ok();
    }
}

fn write_all(logs: &Receiver<Arc<Log>>) {
    let (_never, gather) = sync_channel::<()>(0);
    while let Ok(log) = logs.recv() {
        // Nothing is ever sent: a wait on the clock, so that a busy guest's lines go out many at a time.
        gather.recv_timeout(GATHER).ok();
        log.flush();
        logs.try_iter().for_each(|log| log.flush());
    }
}

#[cfg(test)]
mod tests;
