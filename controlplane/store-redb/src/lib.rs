//! The embedded store: one file (redb), one writer thread, group commit.
//!
//! Every write is handed to one thread, which puts whatever is queued into one durable transaction and answers after
//! its commit: acknowledged means on disk. Reads and watches use snapshots and never wait for it. History is kept for
//! watches and pruned in the same transaction as each batch, so the file stays bounded; the file itself is compacted
//! only when it is opened. A full disk, or a failed one, fails the writes it meets and no others.
//!
//! What is deliberately absent: a log of our own in front of redb (see ARCHITECTURE.md), and replication.

pub mod backup;
mod batch;
mod durable;
mod engine;
mod error;
mod file;
mod format;
mod open;
mod reader;
mod tail;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use store::{Backend, Error, Kv, Outcome, Page, Range, Read, Revision, Watch, Write};

use engine::Engine;
pub use error::OpenError;
use writer::Writer;

/// How a store is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of the file redb keeps in memory.
    pub cache_bytes: usize,
    /// How many revisions are kept for watches and reads at a revision.
    pub history_revisions: u64,
    /// How many bytes of history are kept; the newest revision is in any case.
    pub history_bytes: u64,
    /// How many of the latest changes are kept in memory, where watches find them without reading the file.
    pub tail_changes: usize,
    /// How many bytes those may hold.
    pub tail_bytes: usize,
    /// How many writes one transaction takes in, and how many may be waiting: a further one waits for its turn.
    pub batch: usize,
    /// What time it is, for values that expire.
    pub clock: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: 4 << 20,
            history_revisions: 50_000,
            history_bytes: 64 << 20,
            tail_changes: 2048,
            tail_bytes: 4 << 20,
            batch: 512,
            clock: SystemTime::now,
        }
    }
}

/// An open store. Dropping it finishes what is queued and lets go of the file.
#[derive(Debug)]
pub struct Redb {
    engine: Arc<Engine>,
    writer: Writer,
}

impl Redb {
    /// Opens the store at `path`, or makes an empty one; blocks for as long as that takes (milliseconds, or after a
    /// crash as long as reading the file). At most one process can have it open.
    pub fn open(path: &Path, options: Options) -> Result<Redb, OpenError> {
        let file = file::DataFile::open(path, |file| open::create(file, path, &options))?;
        Self::over(file, path, options)
    }

    /// Opens the store in `medium`, which messages call `path`.
    fn over(medium: impl file::Medium, path: &Path, options: Options) -> Result<Redb, OpenError> {
        let engine = Arc::new(open::engine(medium, path, &options)?);
        let writer = Writer::start(engine.clone(), &options).map_err(|source| OpenError::io(path, source))?;
        Ok(Redb { engine, writer })
    }

    /// Finishes what is queued and closes the file cleanly, so that the next start need not check it. Everything
    /// afterwards fails with [`Error::Closed`].
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

#[async_trait]
impl Backend for Redb {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        let key = key.to_owned();
        self.engine.read(move |reader| reader.get(&key)).await
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        let prefix = prefix.to_owned();
        self.engine.read(move |reader| reader.range(&prefix, &page, at)).await
    }

    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        self.writer.write(write).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        tail::watch(&self.engine, prefix, from).await
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.writer.compact(to).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.engine.tail().revision()
    }
}

#[cfg(test)]
mod tests;
