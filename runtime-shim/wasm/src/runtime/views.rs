//! Directories that show single files.
//!
//! WASI knows files only as parts of directories. The files that a container mounts below one directory are shown by a
//! directory made for them, with hard links, so that what one side writes the other sees; where a link cannot be (another
//! file system), a read-only mount shows a copy, as `subPath` never shows updates anyway.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD};

use super::{descriptors::DescriptorError, mounts::Opened};
use crate::protocol::MountedFd;

/// The largest file that is copied.
const MAX_COPY: u64 = 16 << 20;

/// What a guest can be given: every directory as it is, files gathered into directories made below `views`.
///
/// A file inside a directory that is itself a mount stays a file, which the host reports: the two cannot be merged.
/// Where read-only and writable files share a directory, all are read-only.
pub(super) fn directories(opened: Vec<Opened<'_>>, views: &Path) -> Result<Vec<(MountedFd, OwnedFd)>, DescriptorError> {
    let taken: Vec<PathBuf> = opened
        .iter()
        .filter(|opened| opened.is_dir)
        .map(|opened| plain(&opened.mount.container_path))
        .collect();
    let mut out = Vec::with_capacity(opened.len());
    let mut gathered: Vec<View> = Vec::new();
    for opened in opened {
        let path = plain(&opened.mount.container_path);
        let place = path.parent().zip(path.file_name());
        let Some((parent, name)) = place.filter(|(parent, _)| !opened.is_dir && !taken.iter().any(|dir| dir == parent))
        else {
            out.push(as_it_is(opened));
            continue;
        };
        let failed = |source| DescriptorError::Volume {
            path: PathBuf::from(&opened.mount.host_path),
            source,
        };
        let position = match gathered.iter().position(|view| view.shows == parent) {
            Some(position) => position,
            None => {
                gathered.push(View::make(views, gathered.len(), parent).map_err(failed)?);
                gathered.len() - 1
            }
        };
        if let Some(view) = gathered.get_mut(position) {
            view.add(&opened, Path::new(name)).map_err(failed)?;
        }
    }
    for view in gathered {
        out.push(view.open()?);
    }
    Ok(out)
}

fn as_it_is(opened: Opened<'_>) -> (MountedFd, OwnedFd) {
    let mounted = MountedFd {
        fd: 0,
        container_path: opened.mount.container_path.clone(),
        readonly: opened.mount.readonly,
        file: !opened.is_dir,
    };
    (mounted, opened.file.into())
}

/// The path without `.` and doubled slashes, so that paths can be compared.
fn plain(path: &str) -> PathBuf {
    Path::new(path)
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}

/// A directory that shows files.
struct View {
    /// The directory of the container whose files it shows.
    shows: PathBuf,
    path: PathBuf,
    readonly: bool,
}

impl View {
    fn make(views: &Path, number: usize, shows: &Path) -> io::Result<Self> {
        let path = views.join(number.to_string());
        DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
        Ok(Self {
            shows: shows.to_owned(),
            path,
            readonly: false,
        })
    }

    fn add(&mut self, opened: &Opened<'_>, name: &Path) -> io::Result<()> {
        let source = format!("/proc/self/fd/{}", opened.file.as_raw_fd());
        let target = self.path.join(name);
        self.readonly |= opened.mount.readonly;
        match rustix::fs::linkat(CWD, &*source, CWD, &target, AtFlags::SYMLINK_FOLLOW) {
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::PERM) if opened.mount.readonly => {
                copy(Path::new(&source), &target)
            }
            linked => Ok(linked?),
        }
    }

    fn open(self) -> Result<(MountedFd, OwnedFd), DescriptorError> {
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(&self.path);
        let directory = opened.map_err(|source| DescriptorError::Volume {
            path: self.path,
            source,
        })?;
        let mounted = MountedFd {
            fd: 0,
            container_path: self.shows.display().to_string(),
            readonly: self.readonly,
            file: false,
        };
        Ok((mounted, directory.into()))
    }
}

fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let from = File::open(source)?;
    let kind = from.metadata()?;
    if kind.len() > MAX_COPY {
        let text = format!(
            "it lies on another file system and is larger than the {} MiB that are copied",
            MAX_COPY >> 20
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut to = File::options().write(true).create_new(true).mode(0o600).open(target)?;
    io::copy(&mut from.take(MAX_COPY), &mut to)?;
    to.set_permissions(kind.permissions())
}

/// Removes the views below `path`, if there are any.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
