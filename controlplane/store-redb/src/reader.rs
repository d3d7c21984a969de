//! One snapshot of the store: keys, ranges at any kept revision, and history.

use std::ops::Bound;
use std::path::Path;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use store::rewind::Overlay;
use store::{Change, Error, Key, Kv, Page, Range, Read, Revision};

use crate::error::failed;
use crate::format::{CURRENT, HEAD, HISTORY, Head, Stored, changed_key, decode_change};

const DOING: &str = "reading";

pub(crate) struct Reader<'a> {
    transaction: &'a ReadTransaction,
    place: &'a Path,
    head: Head,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(transaction: &'a ReadTransaction, place: &'a Path) -> Result<Self, Error> {
        let head = transaction
            .open_table(HEAD)
            .map_err(|error| failed(DOING, place, error))?;
        let head = read_head(&head).map_err(|error| failed(DOING, place, error))?;
        Ok(Reader {
            transaction,
            place,
            head,
        })
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        let found = self.current()?.get(key).map_err(|error| self.failed(error))?;
        let value = found.map(|found| self.kv(key, found.value())).transpose()?;
        Ok(Read {
            value,
            revision: self.head.revision,
        })
    }

    pub(crate) fn range(&self, prefix: &str, page: &Page, at: Option<Revision>) -> Result<Range, Error> {
        let revision = at.unwrap_or(self.head.revision);
        self.check_kept(revision)?;
        let after = page.after.as_deref();
        let mut overlay = Overlay::default();
        let wanted = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        self.for_each_change(revision, wanted, |change| {
            overlay.take_back(change);
            true
        })?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let current = self.current()?;
        let stored = current
            .range::<&str>((start, Bound::Unbounded))
            .map_err(|error| self.failed(error))?;
        let present = stored.map(|item| {
            let (key, value) = item.map_err(|error| self.failed(error))?;
            self.kv(key.value(), value.value())
        });
        let present = present.take_while(|kv| kv.as_ref().map_or(true, |kv| kv.key.starts_with(prefix)));
        let (items, more) = overlay.apply(present, page.limit)?;
        Ok(Range { items, more, revision })
    }

    /// The changes after `from` under `prefix`, at most `limit`, and the revision up to which these are all.
    pub(crate) fn changes(&self, prefix: &str, from: Revision, limit: usize) -> Result<(Vec<Change>, Revision), Error> {
        if from < self.head.compacted {
            return Err(Error::Compacted {
                compacted: self.head.compacted,
            });
        }
        let mut changes: Vec<Change> = Vec::new();
        self.for_each_change(
            from,
            |key| key.starts_with(prefix),
            |change| {
                changes.push(change);
                changes.len() < limit
            },
        )?;
        let through = match changes.last() {
            Some(last) if changes.len() == limit => last.revision,
            _ => self.head.revision.max(from),
        };
        Ok((changes, through))
    }

    /// Whether a revision can be read at.
    pub(crate) fn check_kept(&self, revision: Revision) -> Result<(), Error> {
        if revision > self.head.revision {
            return Err(Error::FutureRevision {
                asked: revision,
                current: self.head.revision,
            });
        }
        match revision < self.head.compacted {
            true => Err(Error::Compacted {
                compacted: self.head.compacted,
            }),
            false => Ok(()),
        }
    }

    /// Tells the wanted changes after `from`, oldest first, until `each` says that it has enough.
    fn for_each_change(
        &self,
        from: Revision,
        wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(Change) -> bool,
    ) -> Result<(), Error> {
        if from >= self.head.revision {
            return Ok(());
        }
        let history = self
            .transaction
            .open_table(HISTORY)
            .map_err(|error| self.failed(error))?;
        for item in history.range(from.next().0..).map_err(|error| self.failed(error))? {
            let (revision, record) = item.map_err(|error| self.failed(error))?;
            let (revision, record) = (Revision(revision.value()), record.value());
            let damaged = || self.corrupt(&format!("the change of revision {revision}"));
            if wanted(changed_key(record).ok_or_else(damaged)?)
                && !each(decode_change(revision, record).ok_or_else(damaged)?)
            {
                break;
            }
        }
        Ok(())
    }

    fn current(&self) -> Result<ReadOnlyTable<&'static str, &'static [u8]>, Error> {
        self.transaction.open_table(CURRENT).map_err(|error| self.failed(error))
    }

    fn kv(&self, key: &str, stored: &[u8]) -> Result<Kv, Error> {
        let stored = Stored::decode(stored).ok_or_else(|| self.corrupt(&format!("the value of \"{key}\"")))?;
        Ok(stored.into_kv(Key::from(key)))
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::Corrupt {
            what: format!("{}: {what} cannot be read", self.place.display()),
        }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> Error {
        failed(DOING, self.place, error)
    }
}

/// Reads where a store stands.
pub(crate) fn read_head(table: &impl ReadableTable<&'static str, u64>) -> Result<Head, redb::Error> {
    let mut numbers = Head::EMPTY.fields();
    for (name, number) in &mut numbers {
        let found = table.get(*name)?;
        *number = found
            .ok_or_else(|| redb::Error::Corrupted(format!("the {name} is not recorded")))?
            .value();
    }
    Ok(Head::from_fields(numbers.map(|(_, number)| number)))
}
