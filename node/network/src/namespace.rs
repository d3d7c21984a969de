//! The shared network namespace: made on a thread of its own, kept by a bind mount, entered by threads that then end.
//!
//! No tokio worker ever enters a namespace: it would take the tasks that run on it later along.

use std::{
    fs::{self, File},
    io,
    path::Path,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{FsType, fstatfs},
};

use crate::Error;

/// `NSFS_MAGIC` of linux/magic.h: the filesystem of namespace files.
const NSFS: FsType = FsType(0x6e73_6673);

/// Makes the namespace, unless `path` is one already.
pub(crate) fn ensure(path: &Path) -> Result<(), Error> {
    if is_namespace(path) {
        return Ok(());
    }
    on_own_thread(|| make(path)).map_err(|source| failed("create", path, source))
}

/// Unmounts and removes the namespace's file; the namespace ends with the last process in it.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    if is_namespace(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(|e| failed("unmount", path, e.into()))?;
    }
    let removed = match path.parent() {
        Some(directory) => fs::remove_dir_all(directory),
        None => Ok(()),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
        _ => Ok(()),
    }
}

/// Runs `work` in the network namespace at `path`, on a thread that ends with it.
pub fn in_netns<R: Send>(path: &Path, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
    on_own_thread(|| {
        let namespace = File::open(path)?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
    .map_err(|source| failed("enter", path, source))
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    File::create(path)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = Path::new("/proc/thread-self/ns/net");
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn is_namespace(path: &Path) -> bool {
    File::open(path)
        .and_then(|file| Ok(fstatfs(&file)?))
        .is_ok_and(|stat| stat.filesystem_type() == NSFS)
}

fn on_own_thread<R: Send>(work: impl FnOnce() -> io::Result<R> + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Namespace {
        doing,
        path: path.to_owned(),
        source,
    }
}
