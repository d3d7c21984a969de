//! A storage that knows when a sync has failed, and then makes good for it.
//!
//! After a failed sync the system may take the pages for clean and never write them, while reads still show them: a
//! later sync that succeeds says nothing about them. So before such a storage is used again everything in it is
//! written once more and synced, and only then counts what can be read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

const CHUNK: usize = 1 << 20;

/// Whether the latest sync of a storage failed; outlives the storages that are opened one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubt(Arc<AtomicBool>);

#[derive(Debug)]
pub(crate) struct Durable<S> {
    storage: S,
    doubt: Doubt,
}

impl<S: StorageBackend> Durable<S> {
    /// Makes sure that what can be read of `storage` is on the disk, if that is in doubt.
    pub(crate) fn new(storage: S, doubt: Doubt) -> io::Result<Self> {
        if doubt.0.load(Ordering::SeqCst) {
            rewrite(&storage)?;
            storage.sync_data()?;
            doubt.0.store(false, Ordering::SeqCst);
        }
        Ok(Durable { storage, doubt })
    }
}

/// Writes everything again where it is. What is all zero was never written, and stays unallocated.
fn rewrite(storage: &impl StorageBackend) -> io::Result<()> {
    let length = storage.len()?;
    let mut chunk = vec![0; CHUNK];
    for offset in (0..length).step_by(CHUNK) {
        let size = usize::try_from(length - offset).map_or(CHUNK, |rest| rest.min(CHUNK));
        chunk.truncate(size);
        storage.read(offset, &mut chunk)?;
        if chunk.iter().any(|byte| *byte != 0) {
            storage.write(offset, &chunk)?;
        }
    }
    Ok(())
}

impl<S: StorageBackend> StorageBackend for Durable<S> {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.storage.sync_data();
        if synced.is_err() {
            self.doubt.0.store(true, Ordering::SeqCst);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }
}
