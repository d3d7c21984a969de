//! The data directory: made for its owner only, and held by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Read,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::cli::flag_for;

/// A data directory that this process holds until it is dropped.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// Makes the directory where it is missing and takes hold of it.
    pub(crate) fn hold(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| {
                format!(
                    "cannot create {}; choose another directory with --data-dir",
                    path.display()
                )
            })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| {
                format!(
                    "cannot write to {}; choose another directory with --data-dir",
                    path.display()
                )
            })?;
        let mut holder = String::new();
        file.read_to_string(&mut holder)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
                "another wherry (pid {}) runs on {}; end it first, or start with another --data-dir",
                holder.trim(),
                path.display()
            ),
            Err((_, error)) => bail!("cannot lock {}: {error}", path.display()),
        };
        record_holder(&lock).with_context(|| format!("cannot write to {}; is the disk full?", path.display()))?;
        Ok(Self {
            // The real path: what lies below is compared with paths that the kernel names.
            path: path.canonicalize()?,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn record_holder(lock: &File) -> std::io::Result<()> {
    // Over what stands there, and as long as any: on a full disk a file that was emptied could not be filled again.
    lock.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0)
}

/// The process that holds the directory now.
pub(crate) fn holder(path: &Path) -> anyhow::Result<Option<i32>> {
    let mut file = open_lock(path)?;
    let mut holder = String::new();
    file.read_to_string(&mut holder)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_free) => Ok(None),
        Err(_) => Ok(Some(
            holder
                .trim()
                .parse()
                .with_context(|| format!("{} names no process", path.display()))?,
        )),
    }
}

/// Waits until nobody holds the directory.
pub(crate) async fn wait_free(path: &Path) -> anyhow::Result<()> {
    let file = open_lock(path)?;
    let (send, freed) = tokio::sync::oneshot::channel();
    // A thread of its own: a runtime that shuts down would wait for a blocking task.
    std::thread::spawn(move || {
        let locked = Flock::lock(file, FlockArg::LockExclusive)
            .map(drop)
            .map_err(|(_, error)| error);
        let _ = send.send(locked);
    });
    Ok(freed.await??)
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    let lock = path.join("lock");
    File::open(&lock).with_context(|| format!("cannot read {}", lock.display()))
}

/// Refuses a path that holds no cluster, before anything is made there.
pub(crate) fn require_cluster(path: &Path) -> anyhow::Result<()> {
    if fs::exists(path.join("lock")).unwrap_or(false) {
        return Ok(());
    }
    bail!(
        "no cluster in {}; name its directory with {}",
        path.display(),
        flag_for(Path::new("DIR"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_its_holder_however_often_it_was_held() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let held = DataDir::hold(directory.path()).unwrap();
            assert_eq!(
                holder(directory.path()).unwrap(),
                i32::try_from(std::process::id()).ok()
            );
            let error = DataDir::hold(directory.path()).err().unwrap().to_string();
            assert!(
                error.contains(&format!("another wherry (pid {})", std::process::id())),
                "{error}"
            );
            drop(held);
            assert_eq!(holder(directory.path()).unwrap(), None);
        }
    }
}
