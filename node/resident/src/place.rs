//! The directory of one process: `<n>/` below that of its kind, with its socket and its log.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Above this a log is emptied when somebody looks.
const MAX_LOG: u64 = 1 << 20;

/// The directory of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// The directories that are there.
    pub fn list(directory: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?.collect::<io::Result<Vec<_>>>()?,
        };
        let mut places: Vec<_> = entries
            .iter()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        places.sort();
        Ok(places.into_iter().map(Place).collect())
    }

    /// Makes a new one.
    pub fn make(directory: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        builder.recursive(false);
        let mut n = 0_u32;
        loop {
            let path = directory.join(n.to_string());
            match builder.create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
                made => return made.map(|()| Place(path)),
            }
        }
    }

    /// Makes a new one, and has `launch` start something that serves there with the socket it is given.
    pub fn start<R>(directory: &Path, launch: impl FnOnce(&Self, OwnedFd) -> io::Result<R>) -> io::Result<(Self, R)> {
        let place = Self::make(directory)?;
        let started = place.listen().and_then(|listener| launch(&place, listener.into()));
        match started {
            Ok(started) => Ok((place, started)),
            Err(error) => {
                // What remains is found and removed by the next start.
                let _ = place.remove();
                Err(error)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it with what it holds; it may be gone already.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Connects to the process, if one serves there.
    pub fn connect(&self) -> io::Result<UnixStream> {
        self.by_short_path(|path| UnixStream::connect(path))
    }

    fn listen(&self) -> io::Result<UnixListener> {
        self.by_short_path(|path| UnixListener::bind(path))
    }

    /// Names of sockets are short; those of data directories need not be.
    fn by_short_path<T>(&self, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let directory = File::open(&self.0)?;
        f(Path::new(&format!("/proc/self/fd/{}/socket", directory.as_raw_fd())))
    }

    /// The log that the process writes to.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.0.join("log"))
    }

    /// Empties a log that has become long.
    pub fn bound_log(&self) -> io::Result<()> {
        let log = self.open_log()?;
        match log.metadata()?.len() > MAX_LOG {
            true => log.set_len(0),
            false => Ok(()),
        }
    }

    /// The last line of the log, for an error.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.0.join("log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_made_found_and_removed_below_the_deepest_directory() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(120)).join("service-proxy");
        fs::create_dir_all(&directory).unwrap();
        assert!(Place::list(&directory).unwrap().is_empty());
        let places = [Place::make(&directory).unwrap(), Place::make(&directory).unwrap()];
        assert_eq!(Place::list(&directory).unwrap(), places);
        let _listener = places[0].listen().unwrap();
        places[0].connect().unwrap();
        places.iter().for_each(|place| place.remove().unwrap());
        assert!(Place::list(&directory).unwrap().is_empty());
    }

    #[test]
    fn a_start_that_fails_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let failed = Place::start(root.path(), |_, _| Err::<(), _>(io::ErrorKind::Other.into()));
        assert!(failed.is_err() && Place::list(root.path()).unwrap().is_empty());
    }

    #[test]
    fn a_long_log_is_emptied() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::make(root.path()).unwrap();
        fs::write(root.path().join("0/log"), "first\nlast\n").unwrap();
        place.bound_log().unwrap();
        assert_eq!(place.last_words(), "last");
        let length = usize::try_from(MAX_LOG).unwrap() + 1;
        fs::write(root.path().join("0/log"), vec![b'x'; length]).unwrap();
        place.bound_log().unwrap();
        assert_eq!(place.last_words(), "");
    }
}
