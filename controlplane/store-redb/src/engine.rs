//! The database behind readers and the writer, and how it comes back after a failure.
//!
//! redb refuses everything after an input or output error until the file is opened anew. Whoever reads holds the lock
//! shared for as long as its snapshot lives, because a database opened anew knows nothing of older snapshots.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};
use store::Error;

use crate::error::failed;
use crate::format::Head;
use crate::reader::Reader;
use crate::tail::Tail;

/// One database, opened anew when it must be.
pub(crate) struct Engine {
    /// `None` while it could not be opened anew, and after it was closed.
    database: RwLock<Option<Database>>,
    source: Source,
    tail: Tail,
}

/// Where the database comes from.
pub(crate) struct Source {
    /// What messages call it.
    pub(crate) path: PathBuf,
    /// Opens it as it is now.
    pub(crate) open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>,
    /// Lets others have it.
    pub(crate) release: Box<dyn Fn() + Send + Sync>,
}

impl Engine {
    pub(crate) fn new(database: Database, source: Source, tail: Tail) -> Self {
        Engine {
            database: RwLock::new(Some(database)),
            source,
            tail,
        }
    }

    /// The latest changes.
    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(crate) fn path(&self) -> &Path {
        &self.source.path
    }

    /// Whether there is a database to work on.
    pub(crate) fn is_open(&self) -> bool {
        self.database.read().is_some()
    }

    /// Runs `f` on a snapshot, away from the threads that run tasks.
    pub(crate) async fn read<R: Send + 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&Reader<'_>) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        self.tail.revision()?;
        let engine = self.clone();
        let read = tokio::task::spawn_blocking(move || engine.read_here(f)).await;
        read.unwrap_or_else(|error| Err(Error::unavailable("reading", error)))
    }

    /// Runs `f` on a snapshot.
    pub(crate) fn read_here<R>(&self, f: impl FnOnce(&Reader<'_>) -> Result<R, Error>) -> Result<R, Error> {
        let database = self.database.read();
        let Some(database) = &*database else {
            return Err(self.not_open());
        };
        let transaction = database
            .begin_read()
            .map_err(|error| failed("reading", self.path(), error))?;
        f(&Reader::new(&transaction, self.path())?)
    }

    /// Runs `f` on a snapshot's transaction.
    pub(crate) fn with_snapshot<R>(&self, f: impl FnOnce(&ReadTransaction) -> R) -> Result<R, Error> {
        match &*self.database.read() {
            Some(database) => database
                .begin_read()
                .map(|snapshot| f(&snapshot))
                .map_err(|error| failed("reading", self.path(), error)),
            None => Err(self.not_open()),
        }
    }

    /// Starts the one write transaction that can be.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        match &*self.database.read() {
            Some(database) => Ok(database.begin_write()?),
            None => Err(redb::Error::DatabaseClosed),
        }
    }

    /// Opens the database anew, after a failure, and returns where it stands. Changes that turn out to have been
    /// committed are told to watches.
    pub(crate) fn reopen(&self) -> Result<Head, Error> {
        let doing = "opening the store again";
        {
            let mut database = self.database.write();
            // The old one lets go before the new one looks at the file.
            drop(database.take());
            *database = Some((self.source.open)().map_err(|error| failed(doing, self.path(), error))?);
        }
        let told = self.tail.revision()?;
        let (head, missing) = self.read_here(|reader| Ok((reader.head(), reader.changes("", told, usize::MAX)?.0)))?;
        self.tail.publish(missing, head);
        Ok(head)
    }

    /// Closes the database cleanly and lets others have it.
    pub(crate) fn close(&self) {
        self.tail.close();
        drop(self.database.write().take());
        (self.source.release)();
    }

    fn not_open(&self) -> Error {
        match self.tail.revision() {
            Ok(_) => Error::unavailable("using the store", redb::Error::DatabaseClosed),
            Err(closed) => closed,
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.source.path)
            .finish_non_exhaustive()
    }
}
