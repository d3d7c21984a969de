//! The file, as redb's storage: locked for one process, and able to be opened again after a failure.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

use crate::OpenError;

/// Where a database is kept. Opened anew after each failure, since redb refuses to go on after one; at most one of
/// the storages it gives is in use at a time.
pub(crate) trait Medium: Send + Sync + 'static {
    /// How redb reads and writes it.
    type Storage: StorageBackend;

    /// The storage, as it is now.
    fn storage(&self) -> Self::Storage;

    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Lets another process have it.
    fn release(&self);
}

/// A locked file.
#[derive(Clone, Debug)]
pub(crate) struct DataFile(Arc<File>);

impl DataFile {
    /// Opens the file and takes the lock that keeps others away; the lock ends with the process. A file that is not
    /// there is made beside its place, filled by `initialize`, and moved there whole, since a database cut short
    /// while it was made would be taken for a damaged one.
    pub(crate) fn open(
        path: &Path,
        initialize: impl FnOnce(&DataFile) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let refused = |source| OpenError::io(path, source);
        if path.exists() {
            return Self::locked(path, path);
        }
        let unfinished = unfinished(path);
        let file = Self::locked(&unfinished, path)?;
        if path.exists() {
            // Somebody else has just made it.
            fs::remove_file(&unfinished).map_err(refused)?;
            return Self::locked(path, path);
        }
        file.0.set_len(0).map_err(refused)?;
        initialize(&file)?;
        fs::rename(&unfinished, path)
            .and_then(|()| sync_directory(path))
            .map_err(refused)?;
        Ok(file)
    }

    /// Opens or makes `file`, which messages call `path`, and locks it.
    fn locked(file: &Path, path: &Path) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(file).map_err(|source| OpenError::io(path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(DataFile(Arc::new(file))),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(OpenError::io(path, source)),
        }
    }
}

/// Where a file is made before it is moved to its place.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    suffixed(path, ".new")
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file's name is durable only once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

impl Medium for DataFile {
    type Storage = DataFile;

    fn storage(&self) -> DataFile {
        self.clone()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn release(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot unlock the store; it is when we end"
            );
        }
    }
}

impl StorageBackend for DataFile {
    fn len(&self) -> io::Result<u64> {
        self.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
