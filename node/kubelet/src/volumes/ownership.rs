//! `fsGroup`: a volume belongs to a group of the pod, so that containers of any user share it.
//!
//! The rules are the kubelet's: the group gets what the owner of a writable volume has, of a read-only one it may read;
//! directories give their group to what is made in them. Links are never followed.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::Path,
};

/// Added to files, and to directories besides.
const OF_FILES: u32 = 0o660;
const OF_DIRECTORIES: u32 = 0o2110;
/// In a read-only volume.
const OF_READ_ONLY: u32 = 0o440;

/// The bits that a writable directory of the group has.
const WRITABLE: u32 = OF_FILES | OF_DIRECTORIES;

/// Gives the root of a volume to the group; what is made in it later then has it too.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn root(path: &Path, group: u32, writable: bool) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let wanted = found.mode() & 0o7777
        | if writable {
            WRITABLE
        } else {
            OF_READ_ONLY | OF_DIRECTORIES
        };
    if found.gid() != group {
        lchown(path, None, Some(group))?;
    }
    // A change of the group takes the bit that gives it away.
    if found.gid() != group || found.mode() & 0o7777 != wanted {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}

/// Gives everything in a writable volume to the group; with `OnRootMismatch` only if its root is not the group's yet.
///
/// # Errors
/// Whatever the file system says; it can be tried again.
pub(super) fn tree(path: &Path, group: u32, policy: &str) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if policy == "OnRootMismatch" && found.gid() == group && found.mode() & WRITABLE == WRITABLE {
        return Ok(());
    }
    below(path, group)?;
    // The root comes last: it says that all is done.
    root(path, group, true)
}

fn below(directory: &Path, group: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            below(&path, group)?;
            root(&path, group, true)?;
            continue;
        }
        let mode = entry.metadata()?.mode() & 0o7777;
        lchown(&path, None, Some(group))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | OF_FILES))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &Path) -> (u32, u32) {
        let found = fs::symlink_metadata(path).expect("there");
        (found.gid(), found.mode() & 0o7777)
    }

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("skipped: only root may give files away");
        }
        root
    }

    #[test]
    fn everything_becomes_the_groups_and_links_stay() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("dir");
        let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("d")).expect("dir");
        for file in [&volume.join("d/f"), &outside] {
            fs::write(file, "x").expect("file");
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("mode");
        }
        std::os::unix::fs::symlink(&outside, volume.join("link")).expect("link");
        tree(&volume, 1234, "Always").expect("given");
        assert_eq!(seen(&volume.join("d/f")), (1234, 0o660));
        assert_eq!(seen(&volume.join("d")), (1234, 0o2775));
        assert_eq!(seen(&volume), (1234, 0o2775));
        assert_eq!(seen(&outside), (0, 0o600));
        fs::write(volume.join("later"), "x").expect("file");
        assert_eq!(seen(&volume.join("later")).0, 1234, "the directory gives its group");
    }

    #[test]
    fn on_root_mismatch_looks_at_the_root_alone() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("f");
        tree(dir.path(), 1234, "OnRootMismatch").expect("given");
        fs::write(&file, "x").expect("file");
        lchown(&file, None, Some(0)).expect("chown");
        tree(dir.path(), 1234, "OnRootMismatch").expect("nothing to do");
        assert_eq!(seen(&file).0, 0);
        tree(dir.path(), 1234, "Always").expect("given");
        assert_eq!(seen(&file).0, 1234);
    }
}
