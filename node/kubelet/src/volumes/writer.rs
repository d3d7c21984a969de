//! Writes the files of a volume so that readers see either all of the old or all of the new content.
//!
//! The layout is that of Kubernetes' AtomicWriter, which programs rely on when they watch for changes:
//! ```text
//! name       -> ..data/name
//! ..data     -> ..2026_11_20_11_26_41.123456789
//! ..2026_…/name
//! ```
//! A volume whose directory sets the group of new files (`fsGroup`, or a runtime whose guests run as another user) shares
//! its files with that group: what the owner may read, the group may.
//!
//! A new directory is filled, then `..data` is renamed onto it. Blocking; never follows what is already in the volume.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
};

use super::payload::{File, Files};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// The bit of a directory that gives new files its group.
const SET_GROUP: u32 = 0o2000;

/// Makes `volume` hold exactly `files`; `version` names the new directory and must be new. Says whether anything changed.
///
/// # Errors
/// Whatever the file system says; the old content then stays visible.
pub(crate) fn write(volume: &Path, files: &Files, version: &str) -> io::Result<bool> {
    make_dir(volume)?;
    let shared = fs::metadata(volume)?.permissions().mode() & SET_GROUP != 0;
    let mode = |file: &File| {
        if shared {
            file.mode | (file.mode & 0o400) >> 3
        } else {
            file.mode
        }
    };
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&volume.join(old), files, mode)
    {
        link_names(volume, files)?;
        return Ok(false);
    }
    let fresh = volume.join(version);
    make_dir(&fresh)?;
    fill(&fresh, files, mode)?;
    swap(volume, version)?;
    link_names(volume, files)?;
    unlink_stale(volume, files)?;
    if let Some(old) = old.filter(|old| old.as_os_str() != version) {
        fs::remove_dir_all(volume.join(old))?;
    }
    Ok(true)
}

/// Makes a directory of a volume, unless it is there.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn fill(directory: &Path, files: &Files, mode: impl Fn(&File) -> u32) -> io::Result<()> {
    for (path, file) in files {
        let target = directory.join(path);
        if let Some(parent) = target.parent() {
            make_dir(parent)?;
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode(file))
            .open(&target)?;
        io::Write::write_all(&mut out, &file.data)?;
        out.set_permissions(fs::Permissions::from_mode(mode(file)))?;
    }
    Ok(())
}

fn swap(volume: &Path, version: &str) -> io::Result<()> {
    let fresh = volume.join(DATA_NEW);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(version, &fresh)?;
    fs::rename(fresh, volume.join(DATA))
}

/// The first components of all paths: what users see in the volume.
fn names(files: &Files) -> impl Iterator<Item = &str> {
    files.keys().filter_map(|path| path.split('/').next())
}

fn link_names(volume: &Path, files: &Files) -> io::Result<()> {
    for name in names(files) {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    Ok(())
}

fn unlink_stale(volume: &Path, files: &Files) -> io::Result<()> {
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|n| n.starts_with("..") || names(files).any(|kept| kept == n));
        if !ours && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a directory holds exactly these files.
fn holds(directory: &Path, files: &Files, mode: impl Fn(&File) -> u32) -> bool {
    let same = files.iter().all(|(path, file)| {
        let path = directory.join(path);
        let found = fs::metadata(&path).map(|m| m.permissions().mode() & 0o7777);
        found.is_ok_and(|found| found == mode(file)) && fs::read(&path).is_ok_and(|data| data == file.data)
    });
    same && count(directory).is_ok_and(|found| found == files.len())
}

fn count(directory: &Path) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs
            .iter()
            .map(|(k, v)| {
                (
                    (*k).to_owned(),
                    File {
                        data: v.as_bytes().to_vec(),
                        mode: 0o644,
                    },
                )
            })
            .collect()
    }

    fn seen(volume: &Path) -> Vec<String> {
        let entries = fs::read_dir(volume)
            .expect("volume")
            .map(|e| e.expect("entry").file_name().into_string().expect("name"));
        let mut names: Vec<_> = entries.filter(|n| !n.starts_with("..")).collect();
        names.sort();
        names
    }

    #[test]
    fn shows_files_through_the_data_link() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("v");
        assert!(write(&volume, &files(&[("a", "1"), ("d/b", "2")]), "..1").expect("writes"));
        assert_eq!(seen(&volume), ["a", "d"]);
        assert_eq!(fs::read_to_string(volume.join("d/b")).expect("file"), "2");
        assert_eq!(fs::read_link(volume.join("..data")).expect("link"), Path::new("..1"));
        assert_eq!(fs::read_link(volume.join("a")).expect("link"), Path::new("..data/a"));
    }

    #[test]
    fn an_update_replaces_all_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("v");
        write(&volume, &files(&[("a", "1"), ("gone", "x")]), "..1").expect("writes");
        assert!(write(&volume, &files(&[("a", "2"), ("new", "y")]), "..2").expect("writes"));
        assert_eq!(seen(&volume), ["a", "new"]);
        assert_eq!(fs::read_to_string(volume.join("a")).expect("file"), "2");
        assert!(!volume.join("..1").exists() && !volume.join("..data_tmp").exists());
    }

    #[test]
    fn the_same_content_changes_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("v");
        write(&volume, &files(&[("a", "1")]), "..1").expect("writes");
        assert!(!write(&volume, &files(&[("a", "1")]), "..2").expect("writes"));
        assert_eq!(fs::read_link(volume.join("..data")).expect("link"), Path::new("..1"));
        assert!(write(&volume, &files(&[]), "..3").expect("writes"));
        assert!(seen(&volume).is_empty());
    }

    #[test]
    fn a_volume_with_a_group_shares_new_files_with_it() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("v");
        let secret = |text: &str| {
            let mut files = files(&[("key", text)]);
            files.values_mut().for_each(|file| file.mode = 0o400);
            files
        };
        let mode = || fs::metadata(volume.join("key")).expect("file").permissions().mode() & 0o777;
        write(&volume, &secret("1"), "..1").expect("writes");
        assert_eq!(mode(), 0o400);
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2755)).expect("set");
        assert!(write(&volume, &secret("2"), "..2").expect("writes"));
        assert_eq!(mode(), 0o440);
        assert!(!write(&volume, &secret("2"), "..3").expect("writes"), "nothing changed");
    }

    #[test]
    fn an_interrupted_update_is_taken_over() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("v");
        write(&volume, &files(&[("a", "1")]), "..1").expect("writes");
        symlink("..half", volume.join(DATA_NEW)).expect("link");
        assert!(write(&volume, &files(&[("a", "2")]), "..2").expect("writes"));
        assert_eq!(fs::read_to_string(volume.join("a")).expect("file"), "2");
    }
}
