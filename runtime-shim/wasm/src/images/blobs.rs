//! Content by digest: files below `blobs/sha256`, each complete or absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::digest::{Digest, Digesting};
use crate::durable;

/// A directory of blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
    incoming: PathBuf,
    counter: AtomicU64,
}

/// Content that could not be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("content is longer than the {limit} bytes that are allowed")]
    TooLong { limit: u64 },
    #[error("content has the digest {found}, not {expected}")]
    Mismatch { expected: Digest, found: Digest },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Blobs {
    /// Opens the directory below `root`, and removes what an earlier process left half written.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let (directory, incoming) = (root.join("blobs/sha256"), root.join("incoming"));
        durable::empty_directory(&incoming)?;
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            incoming,
            counter: AtomicU64::new(0),
        })
    }

    /// Where a blob is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.path(digest))
    }

    /// Bytes of a blob.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<u64> {
        Ok(fs::metadata(self.path(digest))?.len())
    }

    /// The content of a small blob.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        self.open_blob(digest)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(BlobError::TooLong { limit });
        }
        Ok(bytes)
    }

    /// Stores at most `limit` bytes; with `expected`, only if they have that digest.
    pub(crate) fn put(
        &self,
        content: &mut impl Read,
        limit: u64,
        expected: Option<&Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        let incoming = Incoming::create(self)?;
        let mut writer = Digesting::new(&incoming.file);
        let copied = io::copy(&mut content.take(limit + 1), &mut writer)?;
        let (_, digest, length) = writer.finish();
        if copied > limit {
            return Err(BlobError::TooLong { limit });
        }
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(BlobError::Mismatch {
                expected: expected.clone(),
                found: digest,
            });
        }
        incoming.keep(&self.path(&digest))?;
        Ok((digest, length))
    }

    /// Removes a blob; absent: done.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The digests of all blobs.
    pub(crate) fn list(&self) -> io::Result<Vec<Digest>> {
        let names = fs::read_dir(&self.directory)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(names
            .iter()
            .filter_map(|name| format!("sha256:{}", name.to_str()?).parse().ok())
            .collect())
    }
}

/// A file on its way; removed unless kept.
struct Incoming {
    file: File,
    path: PathBuf,
}

impl Incoming {
    fn create(blobs: &Blobs) -> io::Result<Self> {
        let path = blobs
            .incoming
            .join(blobs.counter.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)?;
        Ok(Self { file, path })
    }

    fn keep(mut self, as_path: &Path) -> io::Result<()> {
        self.file.flush()?;
        self.file.sync_all()?;
        fs::rename(&self.path, as_path)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After `keep` there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        (dir, blobs)
    }

    #[test]
    fn keeps_what_has_the_expected_digest() {
        let (_dir, blobs) = store();
        let (digest, length) = blobs.put(&mut &b"hello"[..], 5, Some(&Digest::of(b"hello"))).unwrap();
        assert_eq!((&digest, length), (&Digest::of(b"hello"), 5));
        assert_eq!(blobs.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(blobs.list().unwrap(), std::slice::from_ref(&digest));
        blobs.remove(&digest).unwrap();
        blobs.remove(&digest).unwrap();
        assert!(blobs.list().unwrap().is_empty());
    }

    #[test]
    fn leaves_nothing_of_what_it_refuses() {
        let (dir, blobs) = store();
        assert!(matches!(
            blobs.put(&mut &b"hello!"[..], 5, None),
            Err(BlobError::TooLong { limit: 5 })
        ));
        let expected = Digest::of(b"other");
        assert!(matches!(
            blobs.put(&mut &b"hello"[..], 5, Some(&expected)),
            Err(BlobError::Mismatch { .. })
        ));
        assert!(blobs.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }
}
