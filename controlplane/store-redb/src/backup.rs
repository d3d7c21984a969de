//! Everything in a store as one file, and a store made of it.
//!
//! A backup is one snapshot: writes go on while it is taken, and it shows none of them. Values stand in it as they do in
//! the store, sealed ones sealed. A store that is made of it goes on far behind the revision of the backup and knows no
//! history before that, so that whoever had read what was lost is told to read again, and never waits for a revision
//! that will mean something else.
//!
//! | part       | bytes                                                                      |
//! |------------|----------------------------------------------------------------------------|
//! | mark       | [`MARK`]                                                                   |
//! | attachment | u32 length, what the caller wants kept with it                             |
//! | revision   | u64                                                                        |
//! | records    | for each: 1, u32 length and the key, u32 length and a value of `current`   |
//! | end        | 0, u64 number of records, SHA-256 of all before this                       |

use std::io::{self, Read, Write};
use std::path::Path;

use redb::{Database, ReadTransaction, ReadableTable, WriteTransaction};
use store::Revision;
use store::summed::{Damage, Summed};

use crate::file::DataFile;
use crate::format::{CURRENT, EXPIRY, HEAD, Head, Stored};
use crate::reader::read_head;
use crate::{OpenError, Options, Redb, open};

const MARK: &[u8] = b"wherry backup 1\n";
/// How far behind the backup a restored store goes on: more than a store can have come to since, at thousands of writes a
/// second for days.
const RAISED_BY: u64 = 1_000_000_000;
/// The longest key, value or attachment that is believed.
const LONGEST: u32 = 1 << 30;

/// What a backup or a restored store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The revision of the snapshot, or where the restored store goes on.
    pub revision: Revision,
    /// How many keys.
    pub keys: u64,
}

/// Why a backup could not be taken or restored. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The backup could not be written.
    #[error("cannot write the backup; is its disk full?")]
    Output(#[source] io::Error),
    /// The store could not be read.
    #[error("cannot read the store for its backup")]
    Read(#[source] Box<redb::Error>),
    /// The store is shut down.
    #[error("the store is closed")]
    Closed,
    /// The input is no backup, or not a whole one.
    #[error("not a whole backup: {0}; take another one")]
    Input(String),
    /// The new store could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Error::Input(damage.to_string())
    }
}

impl Redb {
    /// Writes everything as it is now, and `attachment`; blocks for as long as that takes. `taken` is called as soon as
    /// the moment is fixed that the backup is of, and before anything is written.
    pub fn backup(&self, attachment: &[u8], out: impl Write, taken: impl FnOnce()) -> Result<Summary, Error> {
        let written = self.engine.with_snapshot(|snapshot| {
            taken();
            write(snapshot, attachment, out)
        });
        written.map_err(|_| Error::Closed)?
    }

    /// Makes the store at `path`, where there must be none, of a backup; returns what was attached to it. Leaves nothing
    /// behind when it fails.
    pub fn restore(path: &Path, input: impl Read) -> Result<(Summary, Vec<u8>), Error> {
        if path.exists() {
            return Err(Error::Open(OpenError::Exists { path: path.to_owned() }));
        }
        let mut restored = None;
        let made = DataFile::open(path, |file| {
            open::create(file, path, &Options::default())?;
            let database = open::database(file, &Options::default()).map_err(|error| OpenError::redb(path, error))?;
            let filled = fill(&database, path, Summed::new(input));
            let failed = filled.is_err();
            restored = Some(filled);
            match failed {
                true => Err(OpenError::Unfinished { path: path.to_owned() }),
                false => Ok(()),
            }
        });
        match (restored, made) {
            (Some(Err(error)), _) => {
                // What was begun stands beside the place of the store.
                let _ = std::fs::remove_file(crate::file::unfinished(path));
                Err(error)
            }
            (Some(Ok(restored)), Ok(_)) => Ok(restored),
            (_, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(Error::Open(OpenError::Exists { path: path.to_owned() })),
        }
    }
}

/// Reads a backup to its end, to see whether it is whole.
pub fn check(input: impl Read) -> Result<Summary, Error> {
    let mut input = Summed::new(input);
    let (_, revision) = begin(&mut input)?;
    let keys = records(&mut input, |_, _, _| Ok(()))?;
    input.finish()?;
    Ok(Summary {
        revision: Revision(revision),
        keys,
    })
}

fn write(snapshot: &ReadTransaction, attachment: &[u8], out: impl Write) -> Result<Summary, Error> {
    let read = |error: redb::Error| Error::Read(Box::new(error));
    let head = snapshot.open_table(HEAD).map_err(|error| read(error.into()))?;
    let revision = read_head(&head).map_err(read)?.revision;
    let current = snapshot.open_table(CURRENT).map_err(|error| read(error.into()))?;
    let mut out = Summed::new(out);
    out.all(&[MARK]).map_err(Error::Output)?;
    out.put_sized(attachment).map_err(Error::Output)?;
    out.all(&[&revision.0.to_be_bytes()]).map_err(Error::Output)?;
    let mut keys = 0u64;
    for item in current.iter().map_err(|error| read(error.into()))? {
        let (key, value) = item.map_err(|error| read(error.into()))?;
        out.all(&[&[1]]).map_err(Error::Output)?;
        out.put_sized(key.value().as_bytes()).map_err(Error::Output)?;
        out.put_sized(value.value()).map_err(Error::Output)?;
        keys += 1;
    }
    out.all(&[&[0], &keys.to_be_bytes()]).map_err(Error::Output)?;
    out.seal().map_err(Error::Output)?;
    Ok(Summary { revision, keys })
}

fn fill(database: &Database, path: &Path, mut input: Summed<impl Read>) -> Result<(Summary, Vec<u8>), Error> {
    let refused = |error: redb::Error| Error::Open(OpenError::redb(path, error));
    let transaction = database.begin_write().map_err(|error| refused(error.into()))?;
    let (attachment, revision) = begin(&mut input)?;
    let revision = Revision(revision.saturating_add(RAISED_BY));
    let keys = insert(&transaction, &mut input, refused)?;
    input.finish()?;
    let head = Head {
        revision,
        compacted: revision,
        history_bytes: 0,
    };
    write_head(&transaction, head).map_err(refused)?;
    transaction.commit().map_err(|error| refused(error.into()))?;
    Ok((Summary { revision, keys }, attachment))
}

fn write_head(transaction: &WriteTransaction, head: Head) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(HEAD)?;
    for (name, number) in head.fields() {
        table.insert(name, number)?;
    }
    Ok(())
}

fn insert(
    transaction: &WriteTransaction,
    input: &mut Summed<impl Read>,
    refused: impl Fn(redb::Error) -> Error,
) -> Result<u64, Error> {
    let mut current = transaction.open_table(CURRENT).map_err(|error| refused(error.into()))?;
    let mut expiry = transaction.open_table(EXPIRY).map_err(|error| refused(error.into()))?;
    records(input, |key, value, deadline| {
        current.insert(key, value).map_err(|error| refused(error.into()))?;
        if deadline != 0 {
            expiry
                .insert((deadline, key), ())
                .map_err(|error| refused(error.into()))?;
        }
        Ok(())
    })
}

/// Everything before the records: what was attached, and the revision.
fn begin(input: &mut Summed<impl Read>) -> Result<(Vec<u8>, u64), Error> {
    if input.exactly(MARK.len())? != MARK {
        return Err(Error::Input("it does not begin as a backup does".to_owned()));
    }
    Ok((input.sized(LONGEST)?, input.number()?))
}

/// Gives each key with its value and its deadline to `take`; answers how many there were.
fn records(
    input: &mut Summed<impl Read>,
    mut take: impl FnMut(&str, &[u8], u64) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut keys = 0;
    while input.exactly(1)? == [1] {
        let (key, value) = (input.sized(LONGEST)?, input.sized(LONGEST)?);
        let key = std::str::from_utf8(&key).map_err(|_| Error::Input("a key is no text".to_owned()))?;
        let stored =
            Stored::decode(&value).ok_or_else(|| Error::Input(format!("the value of \"{key}\" is cut short")))?;
        take(key, &value, stored.deadline)?;
        keys += 1;
    }
    match input.number()? == keys {
        true => Ok(keys),
        false => Err(Error::Input("keys are missing".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use store::{Backend, Outcome, Page};

    use super::*;

    async fn filled(path: &Path) -> Redb {
        let store = Redb::open(path, Options::default()).unwrap();
        for n in 0..50 {
            let write = store::Write::create(format!("k/{n}"), format!("value {n}"));
            store.write(write).await.unwrap();
        }
        store
            .write(store::Write::create("gone", "soon").ttl(Duration::from_millis(1500)))
            .await
            .unwrap();
        store
    }

    #[tokio::test]
    async fn a_restored_store_holds_what_was_there_and_goes_on_far_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(&directory.path().join("a")).await;
        let mut backup = Vec::new();
        let taken = store.backup(b"with it", &mut backup, || ()).unwrap();
        store.write(store::Write::put("k/0", "later")).await.unwrap();
        assert_eq!((taken.keys, taken.revision), (51, Revision(52)));

        let path = directory.path().join("b");
        let (summary, attachment) = Redb::restore(&path, &*backup).unwrap();
        assert_eq!(attachment, b"with it");
        let restored = Redb::open(&path, Options::default()).unwrap();
        let range = restored.range("", Page::all(), None).await.unwrap();
        assert_eq!(range.revision, summary.revision);
        assert!(summary.revision > store.revision().await.unwrap());
        let values: Vec<_> = range.items.iter().map(|kv| (&*kv.key, kv.value.clone())).collect();
        assert_eq!(values.len(), 51);
        assert!(values.contains(&("k/0", "value 0".into())), "as it was at that moment");
        for from in [
            Revision(52),
            store.revision().await.unwrap(),
            Revision(summary.revision.0 - 1),
        ] {
            let error = restored.watch("", from).await.unwrap_err();
            assert!(matches!(error, store::Error::Compacted { .. }), "from {from}: {error}");
        }
        let mut watch = restored.watch("", summary.revision).await.unwrap();
        let Some(Ok(store::Signal::Change(change))) = watch.next().await else {
            panic!("what had a time to live still has it")
        };
        assert_eq!((&*change.key, change.value), ("gone", None));
        let update = store::Write::update("k/1", "x", Revision(3));
        assert!(matches!(restored.write(update).await.unwrap(), Outcome::Committed(_)));
    }

    #[tokio::test]
    async fn what_is_not_whole_makes_no_store() {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(&directory.path().join("a")).await;
        let mut backup = Vec::new();
        store.backup(b"", &mut backup, || ()).unwrap();
        let path = directory.path().join("b");
        let says = |input: &[u8]| {
            let error = Redb::restore(&path, input).unwrap_err().to_string();
            assert!(
                !path.exists() && std::fs::read_dir(directory.path()).unwrap().count() == 1,
                "{error}"
            );
            error
        };
        assert!(says(b"apiVersion: v1\nkind: List\n").contains("does not begin as a backup"));
        for length in [0, 20, 100, backup.len() - 1] {
            assert!(says(&backup[..length]).contains("cut short"), "{length}");
        }
        let mut altered = backup.clone();
        altered[400] ^= 1;
        says(&altered);
        std::fs::write(&path, "there").unwrap();
        let error = Redb::restore(&path, &*backup).unwrap_err().to_string();
        assert!(error.contains("move it away"), "{error}");
    }
}
