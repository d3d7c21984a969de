//! Opening what a container is given: its log and the files it mounts. The host cannot open paths itself.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, Gid, Uid, chownat};

use crate::protocol::{FdIndex, MountedFd, frame::MAX_FDS};

/// Log and code travel before the mounts.
const FIRST_MOUNT: usize = 2;

/// What cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescriptorError {
    #[error("log path \"{path}\" leaves the pod's log directory")]
    LogOutside { path: String },
    #[error("log file {path} cannot be opened", path = path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("volume {path} cannot be opened", path = path.display())]
    Volume { path: PathBuf, source: io::Error },
    #[error("volume {path} is neither a directory nor a file", path = path.display())]
    Kind { path: PathBuf },
    #[error("{count} volume mounts are more than the {max} that a container can have", max = MAX_FDS - FIRST_MOUNT)]
    TooMany { count: usize },
}

/// The absolute path of a container's log.
pub(crate) fn log_path(directory: &str, relative: &str) -> Result<PathBuf, DescriptorError> {
    let inside = Path::new(relative)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match inside {
        true => Ok(Path::new(directory).join(relative)),
        false => Err(DescriptorError::LogOutside {
            path: relative.to_owned(),
        }),
    }
}

/// Opens a log for appending; made if it is absent.
pub(crate) fn open_log(path: &Path) -> Result<OwnedFd, DescriptorError> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    file.map(OwnedFd::from).map_err(|source| DescriptorError::Log {
        path: path.to_owned(),
        source,
    })
}

/// Who may write to writable volumes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    /// The host's user and group; `None`: the agent's, who may already.
    pub(crate) user: Option<u32>,
    /// Only below here, in the kubelet's own volumes, is anything given to the user.
    pub(crate) pods: &'a Path,
}

/// Opens all mounts of a container, numbered as they will travel.
pub(crate) fn open_mounts(
    mounts: &[cri::Mount],
    writer: Writer<'_>,
) -> Result<Vec<(MountedFd, OwnedFd)>, DescriptorError> {
    let (count, max) = (mounts.len(), MAX_FDS - FIRST_MOUNT);
    if count > max {
        return Err(DescriptorError::TooMany { count });
    }
    mounts
        .iter()
        .zip(FIRST_MOUNT..)
        .map(|(mount, number)| open_mount(mount, number, writer))
        .collect()
}

fn open_mount(mount: &cri::Mount, number: usize, writer: Writer<'_>) -> Result<(MountedFd, OwnedFd), DescriptorError> {
    let path = Path::new(&mount.host_path);
    let failed = |source| DescriptorError::Volume {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?;
    if !kind.is_dir() && !kind.is_file() {
        return Err(DescriptorError::Kind { path: path.to_owned() });
    }
    if let Some(user) = writer.user
        && !mount.readonly
        && path.starts_with(writer.pods)
    {
        give(&file, user).map_err(failed)?;
    }
    let mounted = MountedFd {
        fd: FdIndex::try_from(number).unwrap_or(FdIndex::MAX),
        container_path: mount.container_path.clone(),
        readonly: mount.readonly,
        file: kind.is_file(),
    };
    Ok((mounted, file.into()))
}

/// Gives what belongs to root to the host's user. What belongs to somebody already (an `fsGroup`) stays theirs.
fn give(file: &File, user: u32) -> io::Result<()> {
    if file.metadata()?.uid() != 0 {
        return Ok(());
    }
    chownat(
        file,
        c"",
        Some(Uid::from_raw(user)),
        Some(Gid::from_raw(user)),
        AtFlags::EMPTY_PATH,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn mount(path: &Path, readonly: bool) -> cri::Mount {
        cri::Mount {
            host_path: path.display().to_string(),
            container_path: "/data".into(),
            readonly,
        }
    }

    #[test]
    fn logs_stay_in_their_directory() {
        assert_eq!(
            log_path("/logs/pod", "c/0.log").unwrap(),
            Path::new("/logs/pod/c/0.log")
        );
        for bad in ["../x", "/etc/x", "c/../../x"] {
            assert!(
                matches!(log_path("/logs/pod", bad), Err(DescriptorError::LogOutside { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn logs_are_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for _ in 0..2 {
            File::from(open_log(&path).unwrap()).write_all(b"line\n").unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"line\nline\n");
    }

    #[test]
    fn directories_and_files_are_told_apart_and_numbered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        let writer = Writer {
            user: None,
            pods: dir.path(),
        };
        let opened = open_mounts(&[mount(dir.path(), true), mount(&file, false)], writer).unwrap();
        let kinds: Vec<_> = opened
            .iter()
            .map(|(mounted, _)| (mounted.fd, mounted.file, mounted.readonly))
            .collect();
        assert_eq!(kinds, [(2, false, true), (3, true, false)]);
        assert!(matches!(
            open_mounts(&[mount(Path::new("/dev/null"), true)], writer),
            Err(DescriptorError::Kind { .. })
        ));
        let missing = dir.path().join("missing");
        let error = open_mounts(&[mount(&missing, true)], writer).unwrap_err();
        assert!(error.to_string().ends_with("missing cannot be opened"), "{error}");
    }

    #[test]
    fn only_writable_volumes_of_the_kubelet_are_given_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        let [inside, readonly, outside] = ["pods/a", "pods/b", "other"].map(|name| dir.path().join(name));
        for path in [&inside, &readonly, &outside] {
            fs::create_dir_all(path).unwrap();
        }
        let pods = dir.path().join("pods");
        let writer = Writer {
            user: Some(4242),
            pods: &pods,
        };
        open_mounts(
            &[mount(&inside, false), mount(&readonly, true), mount(&outside, false)],
            writer,
        )
        .unwrap();
        assert_eq!([owner(&inside), owner(&readonly), owner(&outside)], [4242, 0, 0]);
    }
}
