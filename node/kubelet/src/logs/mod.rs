//! Container logs on disk: which files belong to a container, reading them, rotating them.
//!
//! The runtime appends lines in CRI's format to `<n>.log`, `n` being the container's attempt; rotation renames it to
//! `<n>.log.<time>` and has the runtime open a new one.

mod line;
mod read;
mod rotate;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) use line::parse;
pub(crate) use read::{Options, Stream, stream};
pub(crate) use rotate::{MAX_FILES, MAX_SIZE, run as rotate};

/// The files of one attempt, oldest first; the last is the one being written.
pub(crate) fn files(directory: &Path, attempt: u32) -> Vec<PathBuf> {
    let current = format!("{attempt}.log");
    let rotated = format!("{current}.");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<String> = names.filter(|name| name.starts_with(&rotated)).collect();
    found.sort();
    found.push(current);
    found.into_iter().map(|name| directory.join(name)).collect()
}

/// Removes the files of one attempt. Blocking.
pub(crate) fn remove(directory: &Path, attempt: u32) -> io::Result<()> {
    for file in files(directory, attempt) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
