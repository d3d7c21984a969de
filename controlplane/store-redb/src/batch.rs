//! What one transaction does to the tables: writes judged one after the other, values that expire, history removed.

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};
use store::{Change, Error, Key, Kv, Outcome, Revision, Write};

use crate::format::{CURRENT, EXPIRY, HEAD, HISTORY, Head, Stored, encode_change};
use crate::reader::read_head;

type Result<T> = std::result::Result<T, redb::Error>;

/// The tables within a transaction, and what has been done to them so far.
pub(crate) struct Batch<'txn> {
    current: Table<'txn, &'static str, &'static [u8]>,
    history: Table<'txn, u64, &'static [u8]>,
    expiry: Table<'txn, (u64, &'static str), ()>,
    heads: Table<'txn, &'static str, u64>,
    before: Head,
    head: Head,
    changes: Vec<Change>,
}

/// What a batch came to.
pub(crate) struct Done {
    pub(crate) changes: Vec<Change>,
    pub(crate) head: Head,
    /// When the next value expires, in milliseconds since 1970.
    pub(crate) next_deadline: Option<u64>,
    /// Whether there is anything to commit.
    pub(crate) dirty: bool,
}

impl<'txn> Batch<'txn> {
    pub(crate) fn new(transaction: &'txn WriteTransaction) -> Result<Self> {
        let heads = transaction.open_table(HEAD)?;
        let head = read_head(&heads)?;
        Ok(Batch {
            current: transaction.open_table(CURRENT)?,
            history: transaction.open_table(HISTORY)?,
            expiry: transaction.open_table(EXPIRY)?,
            heads,
            before: head,
            head,
            changes: Vec::new(),
        })
    }

    /// Judges a write by what those before it left, at a time in milliseconds since 1970.
    pub(crate) fn write(&mut self, write: &Write, now: u64) -> Result<Outcome> {
        let prev = self.stored(&write.key)?;
        if let Some((key, current)) = self.unmet(write, prev.as_ref())? {
            return Ok(Outcome::Conflict { key, current });
        }
        if prev.as_ref().map(|stored| &stored.value) == write.value.as_ref() {
            return Ok(Outcome::Unchanged(
                prev.map_or(self.head.revision, |stored| stored.revision),
            ));
        }
        let deadline = write.ttl.map_or(0, |ttl| {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            now.saturating_add(ttl).max(1)
        });
        Ok(Outcome::Committed(self.commit(
            write.key.clone(),
            prev,
            write.value.clone(),
            deadline,
        )?))
    }

    /// Deletes what has expired, at most `limit` keys.
    pub(crate) fn expire(&mut self, now: u64, limit: usize) -> Result<()> {
        let mut due: Vec<String> = Vec::new();
        for item in self.expiry.iter()?.take(limit) {
            match item?.0.value() {
                (deadline, key) if deadline <= now => due.push(key.to_owned()),
                _ => break,
            }
        }
        for key in due {
            let prev = self.stored(&key)?;
            self.commit(key.into(), prev, None, 0)?;
        }
        Ok(())
    }

    /// Removes history up to and including `to`, where that has not been done.
    pub(crate) fn compact(&mut self, to: Revision) -> Result<std::result::Result<(), Error>> {
        if to > self.head.revision {
            return Ok(Err(Error::FutureRevision {
                asked: to,
                current: self.head.revision,
            }));
        }
        if to > self.head.compacted {
            let mut removed = 0;
            self.history.retain_in(..=to.0, |_, record| {
                removed += record.len() as u64;
                false
            })?;
            self.head.compacted = to;
            self.head.history_bytes = self.head.history_bytes.saturating_sub(removed);
        }
        Ok(Ok(()))
    }

    /// Removes the oldest history beyond these bounds; the latest revision stays.
    pub(crate) fn prune(&mut self, revisions: u64, bytes: u64) -> Result<()> {
        let oldest_kept = self.head.revision.0.saturating_sub(revisions.max(1));
        let mut excess = self.head.history_bytes.saturating_sub(bytes);
        let mut to = oldest_kept.max(self.head.compacted.0);
        if excess > 0 {
            for item in self.history.range(..self.head.revision.0)? {
                let (revision, record) = item?;
                if excess == 0 {
                    break;
                }
                excess = excess.saturating_sub(record.value().len() as u64);
                to = to.max(revision.value());
            }
        }
        self.compact(Revision(to)).map(drop)
    }

    /// Records where the store stands.
    pub(crate) fn finish(mut self) -> Result<Done> {
        let dirty = self.head != self.before;
        if dirty {
            for (name, number) in self.head.fields() {
                self.heads.insert(name, number)?;
            }
        }
        let next_deadline = self.expiry.first()?.map(|(key, _)| key.value().0);
        Ok(Done {
            changes: self.changes,
            head: self.head,
            next_deadline,
            dirty,
        })
    }

    fn unmet(&self, write: &Write, own: Option<&Stored>) -> Result<Option<(Key, Option<Kv>)>> {
        if !write.expect.met_by(own.map(|stored| stored.revision)) {
            let current = own.cloned().map(|stored| stored.into_kv(write.key.clone()));
            return Ok(Some((write.key.clone(), current)));
        }
        for (key, expect) in &write.guards {
            if !expect.met_by(self.revision_of(key)?) {
                let current = self.stored(key)?.map(|stored| stored.into_kv(key.clone()));
                return Ok(Some((key.clone(), current)));
            }
        }
        Ok(None)
    }

    fn commit(&mut self, key: Key, prev: Option<Stored>, value: Option<Bytes>, deadline: u64) -> Result<Revision> {
        let revision = self.head.revision.next();
        if let Some(prev) = prev.as_ref().filter(|prev| prev.deadline != 0) {
            self.expiry.remove((prev.deadline, &*key))?;
        }
        match &value {
            Some(value) => {
                let created = prev.as_ref().map_or(revision, |prev| prev.created);
                let stored = Stored {
                    created,
                    revision,
                    deadline,
                    value: value.clone(),
                };
                self.current.insert(&*key, &*stored.encode())?;
                if deadline != 0 {
                    self.expiry.insert((deadline, &*key), ())?;
                }
            }
            None => {
                self.current.remove(&*key)?;
            }
        }
        let prev = prev.map(|prev| prev.into_kv(key.clone()));
        let change = Change {
            key,
            revision,
            value,
            prev,
        };
        let record = encode_change(&change);
        self.history.insert(revision.0, &*record)?;
        self.head.revision = revision;
        self.head.history_bytes += record.len() as u64;
        self.changes.push(change);
        Ok(revision)
    }

    /// The last change of a key, without its value.
    fn revision_of(&self, key: &str) -> Result<Option<Revision>> {
        let Some(found) = self.current.get(key)? else {
            return Ok(None);
        };
        let damaged = || redb::Error::Corrupted(format!("the value of \"{key}\" cannot be read"));
        Stored::decode_revision(found.value()).ok_or_else(damaged).map(Some)
    }

    fn stored(&self, key: &str) -> Result<Option<Stored>> {
        let Some(found) = self.current.get(key)? else {
            return Ok(None);
        };
        let damaged = || redb::Error::Corrupted(format!("the value of \"{key}\" cannot be read"));
        Stored::decode(found.value()).ok_or_else(damaged).map(Some)
    }
}
