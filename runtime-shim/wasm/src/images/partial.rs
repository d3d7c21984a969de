//! Content on its way from a registry: a file named by the digest it shall have, which outlives the attempt.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::digest::Digest;

/// A blob as far as it has arrived. Nobody else writes it while this lives.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    hash: Sha256,
    length: u64,
    _alone: OwnedMutexGuard<()>,
}

impl Partial {
    /// Opens what earlier attempts left in `directory`, and digests it again: the disk is not believed either.
    pub(super) fn open(directory: &Path, digest: &Digest, alone: OwnedMutexGuard<()>) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(digest.hex());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)?;
        let mut partial = Self {
            file,
            path,
            hash: Sha256::new(),
            length: 0,
            _alone: alone,
        };
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match partial.file.read(&mut buffer)? {
                0 => return Ok(partial),
                read => partial.count(buffer.get(..read).unwrap_or_default()),
            }
        }
    }

    /// Bytes that have arrived.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The digest of what has arrived.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_hash(&self.hash.clone().finalize())
    }

    /// Forgets what has arrived.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.hash, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Appends what comes until nothing more does. Blocks. A disk that is full gets the space of the file back.
    pub(crate) fn append(mut self, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<Self> {
        while let Some(chunk) = chunks.blocking_recv() {
            if let Err(error) = self.file.write_all(&chunk) {
                if error.kind() == io::ErrorKind::StorageFull {
                    let _ = fs::remove_file(&self.path);
                }
                return Err(error);
            }
            self.count(&chunk);
        }
        Ok(self)
    }

    /// Makes the file a blob. Blocks.
    pub(super) fn keep(self, as_path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, as_path)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }
}

/// Removes what nobody has added to for so long.
pub(super) fn forget(directory: &Path, age: Duration) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let idle = entry
            .metadata()
            .ok()
            .and_then(|known| known.modified().ok()?.elapsed().ok());
        if idle.is_some_and(|idle| idle > age) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn open(directory: &Path, digest: &Digest) -> Partial {
        let alone = Arc::new(tokio::sync::Mutex::new(())).try_lock_owned().unwrap();
        Partial::open(directory, digest, alone).unwrap()
    }

    fn append(partial: Partial, bytes: &'static [u8]) -> Partial {
        let (send, chunks) = mpsc::channel(1);
        send.try_send(Bytes::from_static(bytes)).unwrap();
        drop(send);
        partial.append(chunks).unwrap()
    }

    #[test]
    fn goes_on_where_an_earlier_attempt_ended() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"hello");
        drop(append(open(directory.path(), &digest), b"he"));
        let partial = open(directory.path(), &digest);
        assert_eq!(partial.length(), 2);
        let partial = append(partial, b"llo");
        assert_eq!((partial.length(), partial.digest()), (5, digest.clone()));
        let kept = directory.path().join("kept");
        partial.keep(&kept).unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"hello");
        assert_eq!(open(directory.path(), &digest).length(), 0);
    }

    #[test]
    fn what_nobody_goes_on_with_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        drop(append(open(directory.path(), &Digest::of(b"a")), b"a"));
        forget(directory.path(), Duration::from_secs(3600)).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        forget(directory.path(), Duration::ZERO).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        forget(&directory.path().join("absent"), Duration::ZERO).unwrap();
    }

    #[test]
    fn can_begin_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut partial = append(open(directory.path(), &Digest::of(b"ab")), b"xx");
        partial.clear().unwrap();
        assert_eq!(append(partial, b"ab").digest(), Digest::of(b"ab"));
    }
}
