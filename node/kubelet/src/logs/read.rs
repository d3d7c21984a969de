//! Reading a container's log as `kubectl logs` asks for it: from the end, since a time, following, across rotation.
//!
//! At most one chunk is in memory at a time, and the next is read only when the last was taken, so a slow reader costs
//! nothing. A follower looks for more ten times a second; a look is one system call.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;

use super::{files, line};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// A line longer than this is passed on in pieces.
const LONGEST_LINE: usize = 256 << 10;
const LOOK: Duration = Duration::from_millis(100);

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stream {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// `PodLogOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) tail: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit: Option<u64>,
    pub(crate) stream: Stream,
}

/// Streams the log of one attempt. `runs` says whether the container still runs; a follower ends when it does not and
/// all has been read.
pub(crate) fn stream(
    directory: PathBuf,
    attempt: u32,
    options: Options,
    runs: impl Fn() -> bool + Send + Sync + 'static,
) -> BoxStream<'static, io::Result<Bytes>> {
    let runs = Arc::new(runs);
    stream::unfold(State::Closed, move |mut state| {
        let (directory, options, runs) = (directory.clone(), options.clone(), runs.clone());
        let running = runs();
        async move {
            let mut ran = running;
            loop {
                let (directory, options) = (directory.clone(), options.clone());
                let follow = options.follow;
                let (back, read) = match crate::blocking::run(move || state.next(&directory, attempt, options)).await {
                    Ok(done) => done,
                    Err(ended) => return Some((Err(io::Error::other(ended)), State::Over)),
                };
                state = back;
                match read {
                    Ok(Progress::Some(bytes)) => return Some((Ok(bytes), state)),
                    Ok(Progress::Over) => return None,
                    Err(error) => return Some((Err(error), State::Over)),
                    Ok(Progress::Nothing) if !follow || !ran => return None,
                    Ok(Progress::Nothing) => {}
                }
                tokio::time::sleep(LOOK).await;
                ran = runs();
            }
        }
    })
    .boxed()
}

enum State {
    Closed,
    Open(Box<Reader>),
    Over,
}

enum Progress {
    Some(Bytes),
    /// The end of what is there.
    Nothing,
    /// The limit is reached.
    Over,
}

impl State {
    fn next(self, directory: &Path, attempt: u32, options: Options) -> (Self, io::Result<Progress>) {
        let mut reader = match self {
            Self::Over => return (Self::Over, Ok(Progress::Over)),
            Self::Open(reader) => reader,
            Self::Closed => match Reader::open(files(directory, attempt), options) {
                Ok(reader) => Box::new(reader),
                Err(error) => return (Self::Over, Err(error)),
            },
        };
        let read = reader.next();
        (Self::Open(reader), read)
    }
}

/// Reads through the files of one attempt, one after the other.
struct Reader {
    options: Options,
    current: PathBuf,
    /// Files to be read, the one in hand first.
    open: VecDeque<File>,
    /// The start of a line whose end has not been read.
    rest: Vec<u8>,
    /// Bytes that may still be given.
    left: u64,
}

impl Reader {
    fn open(paths: Vec<PathBuf>, options: Options) -> io::Result<Self> {
        let current = paths.last().cloned().unwrap_or_default();
        let mut open = VecDeque::new();
        for path in &paths {
            match File::open(path) {
                Ok(file) => open.push_back(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(lines) = options.tail {
            seek_to_tail(&mut open, lines)?;
        }
        let left = options.limit.unwrap_or(u64::MAX);
        Ok(Self {
            options,
            current,
            open,
            rest: Vec::new(),
            left,
        })
    }

    fn next(&mut self) -> io::Result<Progress> {
        if self.left == 0 {
            return Ok(Progress::Over);
        }
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = match self.open.front_mut() {
                Some(file) => file.read(&mut chunk)?,
                None => 0,
            };
            if read == 0 {
                if self.advance()? {
                    continue;
                }
                return Ok(Progress::Nothing);
            }
            chunk.truncate(read);
            let out = self.convert(&chunk);
            if !out.is_empty() {
                return Ok(Progress::Some(out));
            }
        }
    }

    /// Goes on to the next file: one found at the start, or the one that rotation has made since. `true` if there may
    /// be more to read.
    fn advance(&mut self) -> io::Result<bool> {
        if self.open.len() > 1 {
            self.open.pop_front();
            return Ok(true);
        }
        let fresh = match File::open(&self.current) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
        match self.open.front_mut() {
            Some(old) if identity(old)? == identity(&fresh)? => Ok(false),
            Some(old) => {
                // The writer may have added to the old file until it opened the new one.
                let more = old.metadata()?.len() > old.stream_position()?;
                self.open.push_back(fresh);
                if !more {
                    self.open.pop_front();
                }
                Ok(true)
            }
            None => {
                self.open.push_back(fresh);
                Ok(true)
            }
        }
    }

    fn convert(&mut self, chunk: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(chunk.len());
        self.rest.extend_from_slice(chunk);
        let bytes = std::mem::take(&mut self.rest);
        let mut start = 0;
        for (end, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.pass(bytes.get(start..end).unwrap_or_default(), &mut out);
            start = end + 1;
        }
        self.rest = bytes.get(start..).unwrap_or_default().to_vec();
        if self.rest.len() > LONGEST_LINE {
            let long = std::mem::take(&mut self.rest);
            self.pass(&long, &mut out);
        }
        let allowed = usize::try_from(self.left).unwrap_or(usize::MAX);
        out.truncate(allowed);
        self.left = self.left.saturating_sub(out.len() as u64);
        Bytes::from(out)
    }

    /// Writes one line as it was asked for, or not at all.
    fn pass(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(line) = line::parse(bytes) else { return };
        let wanted = match self.options.stream {
            Stream::All => true,
            Stream::Stdout => line.stream == "stdout",
            Stream::Stderr => line.stream == "stderr",
        };
        if !wanted || self.options.since.is_some_and(|since| !line.is_since(since)) {
            return;
        }
        if self.options.timestamps {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
    }
}

/// Leaves in `open` the files that hold the last `lines` lines, positioned at the first of them.
fn seek_to_tail(open: &mut VecDeque<File>, lines: u64) -> io::Result<()> {
    let mut wanted = lines;
    for at in (0..open.len()).rev() {
        let Some(file) = open.get_mut(at) else { break };
        let (offset, found) = tail_offset(file, wanted)?;
        file.seek(SeekFrom::Start(offset))?;
        wanted = wanted.saturating_sub(found);
        if wanted == 0 {
            open.drain(..at);
            break;
        }
    }
    Ok(())
}

/// Where the last `lines` lines of a file begin, and how many there are.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let size = file.seek(SeekFrom::End(0))?;
    let (mut end, mut found) = (size, 0);
    let mut block = vec![0; CHUNK];
    if lines == 0 {
        return Ok((size, 0));
    }
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let length = usize::try_from(end - start).unwrap_or(CHUNK);
        let part = block.get_mut(..length).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let after = start + at as u64 + 1;
            // The line feed at the very end closes the last line; each other one stands before a line.
            if *byte == b'\n' && after < size {
                found += 1;
                if found == lines {
                    return Ok((after, found));
                }
            }
        }
        end = start;
    }
    Ok((0, found + u64::from(size > 0)))
}

#[cfg(test)]
mod tests;
