//! The files a guest sees: the volumes it was given, and the empty directories above them.
//!
//! Paths are taken apart here and never handed to the kernel whole: what lies below a volume is opened by `openat2` with
//! `RESOLVE_BENEATH`, relative to the volume's own descriptor, so that neither `..` nor a link can lead out of it. Guests
//! are bound in the same way.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat2, symlinkat, unlinkat};

/// A volume.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Where the guest sees it, taken apart.
    place: Vec<String>,
    /// Opened with `O_PATH`.
    directory: OwnedFd,
    readonly: bool,
}

impl Mount {
    pub(crate) fn new(path: &str, directory: OwnedFd, readonly: bool) -> Self {
        let place = apart(&[], path);
        Self {
            place,
            directory,
            readonly,
        }
    }
}

/// What a container sees.
#[derive(Clone, Debug)]
pub(crate) struct View {
    mounts: Arc<[Mount]>,
    working_dir: Vec<String>,
}

/// Where a path leads.
enum Place<'v> {
    /// A directory above volumes, with its entries.
    Above(Vec<String>),
    /// In a volume; empty: its root.
    Inside(&'v Mount, PathBuf),
}

/// What is known of a file without opening it.
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// Seconds since the epoch.
    pub(super) modified: i64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u64,
    pub(super) inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// Takes a path apart, `.` and `..` resolved; above the root is the root.
fn apart(from: &[String], path: &str) -> Vec<String> {
    let mut parts = match path.starts_with('/') {
        true => Vec::new(),
        false => from.to_vec(),
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

fn error(errno: rustix::io::Errno) -> io::Error {
    errno.into()
}

impl View {
    pub(crate) fn new(mounts: Arc<[Mount]>, working_dir: &str) -> Self {
        Self {
            mounts,
            working_dir: apart(&[], working_dir),
        }
    }

    /// The working directory, absolute.
    pub(super) fn working_dir(&self) -> String {
        format!("/{}", self.working_dir.join("/"))
    }

    /// The same view from another directory, which must exist.
    pub(super) fn at(&self, path: &str) -> io::Result<Self> {
        if self.stat(path, true)?.kind != Kind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self {
            mounts: self.mounts.clone(),
            working_dir: apart(&self.working_dir, path),
        })
    }

    fn place(&self, path: &str) -> io::Result<Place<'_>> {
        if path.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let parts = apart(&self.working_dir, path);
        let holds = |mount: &&Mount| parts.starts_with(&mount.place);
        if let Some(mount) = self.mounts.iter().filter(holds).max_by_key(|mount| mount.place.len()) {
            let inside = parts.get(mount.place.len()..).unwrap_or_default();
            return Ok(Place::Inside(mount, inside.iter().collect()));
        }
        let below = self.mounts.iter().filter(|mount| mount.place.starts_with(&parts));
        let mut entries: Vec<String> = below
            .filter_map(|mount| mount.place.get(parts.len()).cloned())
            .collect();
        entries.sort();
        entries.dedup();
        match entries.is_empty() && !parts.is_empty() {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(Place::Above(entries)),
        }
    }

    pub(super) fn stat(&self, path: &str, follow: bool) -> io::Result<Known> {
        match self.place(path)? {
            Place::Above(entries) => Ok(Known {
                kind: Kind::Directory,
                mode: 0o555,
                size: 0,
                modified: 0,
                uid: 0,
                gid: 0,
                links: 2 + entries.len() as u64,
                inode: 0,
            }),
            Place::Inside(mount, inside) => {
                let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
                let file = inside_open(mount, &inside, OFlags::PATH | follow, Mode::empty())?;
                Ok(known(&rustix::fs::fstat(&file).map_err(error)?))
            }
        }
    }

    /// Names in a directory, sorted.
    pub(super) fn entries(&self, path: &str) -> io::Result<Vec<String>> {
        let (mount, inside) = match self.place(path)? {
            Place::Above(entries) => return Ok(entries),
            Place::Inside(mount, inside) => (mount, inside),
        };
        let directory = inside_open(mount, &inside, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory).map_err(error)? {
            let name = entry.map_err(error)?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        let Place::Inside(mount, inside) = self.place(path)? else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        // Not to wait for a pipe that nobody writes to.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(inside_open(mount, &inside, flags, Mode::empty())?);
        match file.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        }
    }

    /// Where a link points.
    pub(super) fn link(&self, path: &str) -> io::Result<String> {
        let (parent, name) = self.parent(path, false)?;
        let target = rustix::fs::readlinkat(&parent, Path::new(&name), Vec::new()).map_err(error)?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Makes a file, or empties it. A link in its place is not followed.
    pub(super) fn create(&self, path: &str, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(path, true)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(
            &parent,
            Path::new(&name),
            flags,
            Mode::from_raw_mode(mode & 0o777),
            resolve,
        );
        Ok(file.map_err(error)?.into())
    }

    pub(super) fn make_directory(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path, true)?;
        mkdirat(&parent, Path::new(&name), Mode::from_raw_mode(0o755)).map_err(error)
    }

    /// Makes a link that points to somewhere relative to it.
    pub(super) fn make_link(&self, path: &str, target: &str) -> io::Result<()> {
        if target.starts_with('/') {
            let why = "links to absolute paths lead out of the volume";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let (parent, name) = self.parent(path, true)?;
        symlinkat(target, &parent, Path::new(&name)).map_err(error)
    }

    /// Removes a file, a link, or an empty directory.
    pub(super) fn remove(&self, path: &str, directory: bool) -> io::Result<()> {
        let (parent, name) = self.parent(path, true)?;
        let flags = if directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        unlinkat(&parent, Path::new(&name), flags).map_err(error)
    }

    /// The directory an entry is in, and its name there.
    fn parent(&self, path: &str, to_write: bool) -> io::Result<(OwnedFd, String)> {
        let denied = || io::Error::from(rustix::io::Errno::ROFS);
        let (mount, inside) = match self.place(path) {
            Ok(Place::Inside(mount, inside)) => (mount, inside),
            // Outside of the volumes there is nothing, and nothing can be made.
            Err(error) if !to_write => return Err(error),
            Ok(Place::Above(_)) | Err(_) => return Err(denied()),
        };
        if to_write && mount.readonly {
            return Err(denied());
        }
        let name = inside
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(denied)?
            .to_owned();
        let above = inside.parent().unwrap_or(Path::new(""));
        let parent = inside_open(mount, above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((parent, name))
    }
}

fn inside_open(mount: &Mount, inside: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let inside = match inside.as_os_str().is_empty() {
        true => Path::new("."),
        false => inside,
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(&mount.directory, inside, flags | OFlags::CLOEXEC, mode, resolve).map_err(error)
}

fn known(stat: &Stat) -> Known {
    let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => Kind::File,
        rustix::fs::FileType::Directory => Kind::Directory,
        rustix::fs::FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    Known {
        kind,
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: stat.st_mtime,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: stat.st_nlink,
        inode: stat.st_ino,
    }
}
