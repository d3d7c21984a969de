//! What can go wrong, in words for the one who starts the program and in terms of the seam.

use std::io;
use std::path::{Path, PathBuf};

use store::Error;

/// Why a store could not be opened. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("store \"{path}\" is in use by another process: stop that one first, or choose another data directory")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file may not be written.
    #[error("store \"{path}\" is not writable: check its owner and permissions, or choose another data directory")]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file was written by a later version.
    #[error(
        "store \"{path}\" has format {found}, and this version knows none after {known}: \
         run the version that wrote it, or a later one"
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// What it is marked with.
        found: u64,
        /// What we write.
        known: u64,
    },
    /// There is no space to open it.
    #[error("no space left to open the store \"{path}\": free space on its disk")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("\"{path}\" is not a store, or is damaged ({what}): restore a backup, or move it away to start empty")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A store is where another was to be made.
    #[error("there is a store at \"{path}\" already: move it away first, or choose another data directory")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// What the store was to be filled with failed.
    #[error("the store \"{path}\" was not made")]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// The system refused something else.
    #[error("cannot open the store \"{path}\"")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::NotWritable { path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full { path },
            _ => OpenError::Io { path, source },
        }
    }

    pub(crate) fn redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => OpenError::Damaged {
                path,
                what: source.to_string(),
            },
            redb::Error::Io(source) => OpenError::io(&path, source),
            redb::Error::DatabaseAlreadyOpen => OpenError::Locked { path },
            other => OpenError::Damaged {
                path,
                what: other.to_string(),
            },
        }
    }
}

/// A failure of the engine, as a caller of the seam sees it.
pub(crate) fn failed(doing: &'static str, place: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Error::Full {
                place: place.display().to_string(),
            }
        }
        redb::Error::Corrupted(what) => Error::Corrupt {
            what: format!("{}: {what}", place.display()),
        },
        other => Error::unavailable(doing, other),
    }
}
