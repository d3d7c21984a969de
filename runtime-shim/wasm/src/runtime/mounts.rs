//! Opening what a container mounts. The host cannot open paths itself, and sees what is handed to it.
//!
//! The host's user stands for the pod's root, so what the kubelet's volumes hold must be readable to it: writable ones are
//! given to it, files that deny others are shared with its group, as Kubernetes' `fsGroup` does. WASI hands out
//! directories only, so a single file (a mount with `subPath`) is shown through a directory of its own that holds a hard
//! link to it (`views`).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat};

use super::{descriptors::DescriptorError, views};
use crate::protocol::{FdIndex, MountedFd, frame::MAX_FDS};

/// Log and code travel before the mounts.
const FIRST_MOUNT: usize = 2;
/// The most mounts of one container.
pub(crate) const MAX_MOUNTS: usize = MAX_FDS - FIRST_MOUNT;

/// Where Kubernetes' AtomicWriter keeps the content of a volume.
const DATA: &str = "..data";
/// What a directory is set to so that files made in it later have its group.
const SET_GROUP: u32 = 0o2000;

/// For whom mounts are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opener<'a> {
    /// The host's user and group; `None`: the agent's, who may already.
    pub(crate) user: Option<u32>,
    /// Only below here, in the kubelet's own volumes, is anything given to or shared with the user.
    pub(crate) pods: &'a Path,
    /// Where directories that show single files are made; removed with the container.
    pub(crate) views: &'a Path,
}

/// A mount that has been opened with `O_PATH`.
pub(super) struct Opened<'a> {
    pub(super) mount: &'a cri::Mount,
    pub(super) file: File,
    pub(super) is_dir: bool,
}

impl Opener<'_> {
    /// Opens all mounts of a container, numbered as they will travel.
    pub(crate) fn open(self, mounts: &[cri::Mount]) -> Result<Vec<(MountedFd, OwnedFd)>, DescriptorError> {
        if mounts.len() > MAX_MOUNTS {
            let count = mounts.len();
            return Err(DescriptorError::TooMany { count });
        }
        let opened = mounts
            .iter()
            .map(|mount| self.open_one(mount))
            .collect::<Result<Vec<_>, _>>()?;
        let shown = views::directories(opened, self.views)?;
        let numbered = shown.into_iter().zip(FIRST_MOUNT..).map(|((mut mounted, fd), number)| {
            mounted.fd = FdIndex::try_from(number).unwrap_or(FdIndex::MAX);
            (mounted, fd)
        });
        Ok(numbered.collect())
    }

    fn open_one<'m>(self, mount: &'m cri::Mount) -> Result<Opened<'m>, DescriptorError> {
        if mount.image.is_some() {
            let path = mount.container_path.clone();
            return Err(DescriptorError::Image { path });
        }
        let path = Path::new(&mount.host_path);
        let failed = |source| DescriptorError::Volume {
            path: path.to_owned(),
            source,
        };
        let inside = path.strip_prefix(self.pods).ok();
        let file = match inside {
            Some(inside) => open_inside(self.pods, inside),
            None => OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path),
        }
        .map_err(failed)?;
        let kind = file.metadata().map_err(failed)?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(DescriptorError::Kind { path: path.to_owned() });
        }
        match self.user {
            Some(user) if inside.is_some() && mount.readonly => share(&file, user).map_err(failed)?,
            Some(user) if inside.is_some() => give(&file, user).map_err(failed)?,
            _ => {}
        }
        Ok(Opened {
            mount,
            is_dir: kind.is_dir(),
            file,
        })
    }
}

/// Opens below the kubelet's volumes without following links: the pod may put some there at any moment.
fn open_inside(pods: &Path, path: &Path) -> io::Result<File> {
    let pods = File::open(pods)?;
    let fd = rustix::fs::openat2(
        &pods,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    Ok(fd.into())
}

/// Gives what belongs to root to the host's user. What belongs to somebody already (an `fsGroup`) stays theirs.
fn give(file: &File, user: u32) -> io::Result<()> {
    if file.metadata()?.uid() != 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    chownat(file, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// Lets the host's group read what root alone could: a file, or the files of a volume that the kubelet fills.
fn share(file: &File, group: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = Path::new(&path);
    if file.metadata()?.is_file() {
        return share_file(path, group);
    }
    let content = path.join(DATA);
    if fs::symlink_metadata(&content).is_err() {
        return Ok(());
    }
    let kind = file.metadata()?;
    if kind.uid() == 0 && kind.gid() == 0 {
        std::os::unix::fs::chown(path, None, Some(group))?;
        fs::set_permissions(path, fs::Permissions::from_mode(kind.mode() & 0o7777 | SET_GROUP))?;
    }
    share_tree(&content, group)
}

/// The tree is the kubelet's own: nobody else can write there.
fn share_tree(directory: &Path, group: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            share_tree(&entry.path(), group)?;
        } else {
            share_file(&entry.path(), group)?;
        }
    }
    Ok(())
}

fn share_file(path: &Path, group: u32) -> io::Result<()> {
    let file = fs::metadata(path)?;
    let mode = file.mode() & 0o7777;
    if file.uid() != 0 || file.gid() != 0 || mode & 0o004 != 0 {
        return Ok(());
    }
    std::os::unix::fs::chown(path, None, Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode | (mode & 0o400) >> 3))
}

#[cfg(test)]
mod tests;
