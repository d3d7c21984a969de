//! Files that hold the cluster's identity: private to their owner and replaced in one step, so that a crash leaves either
//! the old content or the new one; and files of the operator's, which are followed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a file that is followed is looked at, and how many bytes of it are read.
const LOOK: Duration = Duration::from_secs(1);
const MAX_FOLLOWED: u64 = 4 << 20;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// Makes a directory that only its owner may enter.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error {
            doing: "create directory",
            path: path.to_owned(),
            source,
        })
}

/// Removes a directory with all that is in it; one that is not there is fine.
pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(Error {
            doing: "remove directory",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// The file's text; `None` where it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Replaces the file durably; only its owner may read it.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    replace(path, &temporary, text).map_err(|source| Error {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, temporary: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(directory_of(path))?.sync_all()
}

/// Where the file lies: a name alone is one of the working directory.
fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A file of the operator's that is read again when it changes.
pub(crate) struct Followed {
    path: PathBuf,
    text: String,
}

impl Followed {
    /// Reads the file for the first time.
    pub(crate) fn open(path: PathBuf) -> std::io::Result<Self> {
        let text = bounded(&path)?;
        Ok(Self { path, text })
    }

    /// What it says.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Gives each new text to `take`, until it is dropped. The text is what counts, not its time: a mounted volume replaces
    /// files by replacing links to them.
    pub(crate) async fn follow(mut self, mut take: impl FnMut(&str)) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut could = true;
        loop {
            tick.tick().await;
            let path = self.path.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || bounded(&path)).await else {
                return;
            };
            match read {
                Ok(text) => {
                    could = true;
                    if text != self.text {
                        self.text = text;
                        take(&self.text);
                    }
                }
                Err(error) => {
                    if std::mem::replace(&mut could, false) {
                        tracing::warn!(file = %self.path.display(), %error, "a configuration file cannot be read any more");
                    }
                }
            }
        }
    }
}

fn bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FOLLOWED).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_lies_in_the_working_directory() {
        for (path, directory) in [("kubeconfig", "."), ("a/kubeconfig", "a"), ("/kubeconfig", "/")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory), "{path}");
        }
    }
}
