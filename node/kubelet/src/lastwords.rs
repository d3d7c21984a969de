//! What a container leaves when it ends: the file at its `terminationMessagePath` or, if it failed and its policy says so,
//! the end of its log.
//!
//! The file is a mount of one below the pod's directory, made before the container; the container may write anything into
//! it, so it is read as far as Kubernetes shows it and no further.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{logs, volumes};

/// Kubernetes' limits: bytes of a message, and bytes and lines where the log stands in.
const LONGEST: u64 = 4096;
const LONGEST_OF_LOG: usize = 2048;
const MOST_LINES: usize = 80;
/// How much of a log's end is looked at for these.
const LOG_WINDOW: u64 = 64 << 10;

/// The file of one attempt of a container.
pub(crate) fn path(data_dir: &Path, uid: &str, container: &str, attempt: u32) -> PathBuf {
    let directory = volumes::pod_dir(data_dir, uid).join("containers").join(container);
    directory.join(attempt.to_string())
}

/// Makes the file, for whoever the container runs as. Blocking.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.custom_flags(libc_nofollow()).open(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

fn libc_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default()
}

/// What the file says; nothing where there is none. Blocking.
pub(crate) fn of_file(path: &Path) -> String {
    let Ok(file) = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc_nofollow())
        .open(path)
    else {
        return String::new();
    };
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    // What could be read is told, also when the rest cannot be.
    let _ = file.take(LONGEST).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of a log file. Blocking.
pub(crate) fn of_log(path: &Path) -> String {
    let Ok(mut file) = fs::File::open(path) else {
        return String::new();
    };
    let length = file.metadata().map_or(0, |m| m.len());
    let from = length.saturating_sub(LOG_WINDOW);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(LOG_WINDOW).read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    tail(&bytes, from > 0)
}

/// The last lines of a log in CRI's format; `cut`: the first of them may be half a line.
fn tail(bytes: &[u8], cut: bool) -> String {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').skip(usize::from(cut));
    let mut text: Vec<Vec<u8>> = vec![Vec::new()];
    for line in lines {
        let Some(line) = logs::parse(line.strip_suffix(b"\n").unwrap_or(line)) else {
            continue;
        };
        if let Some(last) = text.last_mut() {
            last.extend(line.text);
            if !line.partial {
                last.push(b'\n');
                text.push(Vec::new());
            }
        }
    }
    text.retain(|line| !line.is_empty());
    let kept = text.len().saturating_sub(MOST_LINES);
    let joined = text.split_off(kept).concat();
    let start = joined.len().saturating_sub(LONGEST_OF_LOG);
    String::from_utf8_lossy(joined.get(start..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_far_as_it_is_shown() {
        let dir = tempfile::tempdir().expect("dir");
        let file = path(dir.path(), "u", "c", 3);
        assert_eq!(of_file(&file), "", "there is none");
        make(&file).expect("makes");
        assert_eq!(fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o666);
        fs::write(&file, "x".repeat(5000)).expect("writes");
        assert_eq!(of_file(&file).len(), 4096);
        fs::remove_file(&file).expect("removes");
        std::os::unix::fs::symlink("/etc/passwd", &file).expect("link");
        assert_eq!(of_file(&file), "", "links are not followed");
    }

    #[test]
    fn the_log_stands_in_with_its_last_lines() {
        let line = |text: &str, tag: &str| format!("2026-11-20T11:26:41Z stdout {tag} {text}\n");
        let some = line("ha", "P") + &line("lf", "F") + &line("end", "F");
        assert_eq!(tail(some.as_bytes(), false), "half\nend\n");
        assert_eq!(tail(some.as_bytes(), true), "lf\nend\n");
        let many: String = (0..100).map(|n| line(&n.to_string(), "F")).collect();
        let shown = tail(many.as_bytes(), false);
        assert!(shown.starts_with("20\n") && shown.ends_with("99\n"), "{shown}");
        let long: String = (0..50).map(|_| line(&"y".repeat(99), "F")).collect();
        assert_eq!(tail(long.as_bytes(), false).len(), 2048);
    }
}
