//! Opening a store: format, first tables, compaction of the file.

use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableHandle};
use store::ring::Bounds;

use crate::durable::{Doubt, Durable};
use crate::engine::{Engine, Source};
use crate::file::Medium;
use crate::format::{CURRENT, EXPIRY, FORMAT, FORMATS, HEAD, HISTORY, Head};
use crate::reader::read_head;
use crate::tail::Tail;
use crate::{OpenError, Options};

/// Smaller files are not worth compacting.
const COMPACT_FROM: u64 = 64 << 20;

/// What the marker of a database says.
enum Marked {
    /// There is nothing in it yet.
    Empty,
    With(u64),
    /// There are tables, but no marker.
    Foreign,
}

/// Makes an empty store in an empty medium and closes it.
pub(crate) fn create(medium: &impl Medium, path: &Path, options: &Options) -> Result<(), OpenError> {
    let refused = |error: redb::Error| OpenError::redb(path, error);
    let database = open(medium, &Doubt::default(), options.cache_bytes).map_err(|error| refused(error.into()))?;
    initialize(&database).map_err(refused)
}

/// Opens the store in `medium`, which messages call `path`.
pub(crate) fn engine<M: Medium>(medium: M, path: &Path, options: &Options) -> Result<Engine, OpenError> {
    let refused = |error: redb::Error| OpenError::redb(path, error);
    let doubt = Doubt::default();
    let mut database = open(&medium, &doubt, options.cache_bytes).map_err(|error| OpenError::redb(path, error))?;
    match marked(&database).map_err(refused)? {
        Marked::Empty => initialize(&database).map_err(refused)?,
        Marked::With(FORMAT) => {}
        Marked::With(found) => {
            return Err(OpenError::NewerFormat {
                path: path.to_owned(),
                found,
                known: FORMAT,
            });
        }
        Marked::Foreign => {
            return Err(OpenError::Damaged {
                path: path.to_owned(),
                what: "it has no format marker".into(),
            });
        }
    }
    let size = medium.size().map_err(|source| OpenError::io(path, source))?;
    compact(&mut database, size, path).map_err(refused)?;
    let head = head(&database).map_err(refused)?;
    let tail = Tail::new(
        head,
        Bounds {
            entries: options.tail_changes,
            weight: options.tail_bytes,
        },
    );
    Ok(Engine::new(
        database,
        source(medium, doubt, path, options.cache_bytes),
        tail,
    ))
}

fn source<M: Medium>(medium: M, doubt: Doubt, path: &Path, cache_bytes: usize) -> Source {
    let medium = Arc::new(medium);
    let released = medium.clone();
    Source {
        path: path.to_owned(),
        open: Box::new(move || open(&*medium, &doubt, cache_bytes)),
        release: Box::new(move || released.release()),
    }
}

/// The database in a medium that was initialized.
pub(crate) fn database(medium: &impl Medium, options: &Options) -> Result<Database, DatabaseError> {
    open(medium, &Doubt::default(), options.cache_bytes)
}

fn open(medium: &impl Medium, doubt: &Doubt, cache_bytes: usize) -> Result<Database, DatabaseError> {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder.create_with_backend(Durable::new(medium.storage(), doubt.clone())?)
}

fn marked(database: &Database) -> Result<Marked, redb::Error> {
    let transaction = database.begin_read()?;
    if transaction.list_tables()?.all(|table| table.name() != FORMATS.name()) {
        return Ok(match transaction.list_tables()?.next() {
            None => Marked::Empty,
            Some(_) => Marked::Foreign,
        });
    }
    let found = transaction
        .open_table(FORMATS)?
        .get("format")?
        .map(|format| format.value());
    Ok(found.map_or(Marked::Foreign, Marked::With))
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(CURRENT)?;
    transaction.open_table(HISTORY)?;
    transaction.open_table(EXPIRY)?;
    transaction.open_table(FORMATS)?.insert("format", FORMAT)?;
    for (name, number) in Head::EMPTY.fields() {
        transaction.open_table(HEAD)?.insert(name, number)?;
    }
    Ok(transaction.commit()?)
}

/// Gives space back to the disk where more than half of a large file is unused. This reads the whole file, and copies
/// what is in use.
fn compact(database: &mut Database, size: u64, path: &Path) -> Result<(), redb::Error> {
    if size < COMPACT_FROM {
        return Ok(());
    }
    let stats = {
        let transaction = database.begin_write()?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        stats
    };
    let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
    if used < size / 2 {
        tracing::info!(store = %path.display(), size, used, "compacting the store");
        database.compact()?;
    }
    Ok(())
}

fn head(database: &Database) -> Result<Head, redb::Error> {
    read_head(&database.begin_read()?.open_table(HEAD)?)
}
