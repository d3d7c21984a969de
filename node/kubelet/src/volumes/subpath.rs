//! `subPath`: a file or directory below a volume's root, found without ever leaving the volume.
//!
//! A pod may put symbolic links into its own volumes; the kernel resolves the path with the volume as its root
//! (`RESOLVE_IN_ROOT`), and the answer is the name of the opened object, not the name that was asked for.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// The real path of `sub_path` below `volume`; a directory is made if nothing is there, as Kubernetes does. Blocking.
///
/// # Errors
/// The path is absolute, has `..`, or cannot be made.
pub(crate) fn resolve(volume: &Path, sub_path: &str) -> io::Result<PathBuf> {
    let plain = Path::new(sub_path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        let text = format!("subPath {sub_path:?} must be a relative path without \"..\"");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let root = rustix::fs::openat(
        CWD,
        volume,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let open = |path: &Path| {
        rustix::fs::openat2(
            &root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    };
    let mut made = PathBuf::new();
    for part in Path::new(sub_path).components() {
        let parent = if made.as_os_str().is_empty() {
            open(Path::new("."))?
        } else {
            open(&made)?
        };
        made.push(part);
        if open(&made).is_err_and(|errno| errno == rustix::io::Errno::NOENT) {
            rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o777))?;
        }
    }
    let found = open(if made.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &made
    })?;
    fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn finds_files_makes_directories_and_stays_inside() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().canonicalize().expect("path").join("v");
        fs::create_dir_all(volume.join("..1")).expect("dir");
        fs::write(volume.join("..1/key"), "x").expect("file");
        symlink("..1", volume.join("..data")).expect("link");
        symlink("..data/key", volume.join("key")).expect("link");
        symlink("/", volume.join("out")).expect("link");
        assert_eq!(resolve(&volume, "key").expect("file"), volume.join("..1/key"));
        assert_eq!(resolve(&volume, "new/deep").expect("made"), volume.join("new/deep"));
        assert!(volume.join("new/deep").is_dir());
        assert_eq!(resolve(&volume, "out/etc").expect("stays"), volume.join("etc"));
        for bad in ["../x", "/etc", "a/../../b"] {
            assert_eq!(
                resolve(&volume, bad).expect_err("refused").kind(),
                io::ErrorKind::InvalidInput,
                "{bad}"
            );
        }
    }
}
