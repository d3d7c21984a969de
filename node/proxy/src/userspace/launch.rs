//! How the agent starts the process that holds listeners: its directory `service-proxy/<n>/`, its command line, and the
//! descriptors it finds open.
//!
//! The process has a session of its own, so that it does not end with the agent. It finds its directory as its working
//! directory, its socket as [`LISTENER`], `/dev/null` as descriptor 1 and its log as 2. The socket is bound and listening.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Pid, Uid, fchdir, setgroups, setresgid, setresuid, setsid};

/// The process's listening unix stream socket.
pub(crate) const LISTENER: RawFd = 0;
/// Above this a log is emptied when somebody looks.
const MAX_LOG: u64 = 1 << 20;

/// The process that holds listeners, and how it is started.
#[derive(Clone, Debug)]
pub struct Process {
    /// `service-proxy/` of the data directory.
    pub directory: PathBuf,
    /// The program and its first words: `[<path of wherry>, "service-proxy"]`.
    pub command: Vec<OsString>,
    /// User and group it runs as; `None`: the agent's.
    pub user: Option<u32>,
    /// The version of the program: a process of another one is replaced.
    pub version: String,
    /// The addresses it keeps other clusters from, if any.
    pub claim: Option<super::Claim>,
}

/// What the process is told on its command line, after the command itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) version: String,
    pub(crate) claim: Option<String>,
}

/// The command line cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: service-proxy --build VERSION [--claim NAME]")]
pub(crate) struct UsageError;

impl Arguments {
    fn to_words(&self) -> Vec<String> {
        // Not `--version`, which every command of the program answers by itself.
        let claim = self.claim.iter().flat_map(|claim| ["--claim", claim]);
        let words = ["--build", &self.version].into_iter().chain(claim);
        words.map(str::to_owned).collect()
    }

    /// Reads what [`Self::to_words`] wrote.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let (mut version, mut claim) = (None, None);
        let mut words = words.into_iter().map(|word| word.into_string().map_err(|_| UsageError));
        while let Some(name) = words.next().transpose()? {
            let value = words.next().ok_or(UsageError)??;
            match name.as_str() {
                "--build" => version = Some(value),
                "--claim" => claim = Some(value),
                _ => return Err(UsageError),
            }
        }
        let version = version.ok_or(UsageError)?;
        Ok(Arguments { version, claim })
    }
}

/// The directory of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The directories that are there.
    pub(crate) fn list(directory: &Path) -> io::Result<Vec<Self>> {
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
    pub(crate) fn make(directory: &Path) -> io::Result<Self> {
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

    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
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

    fn open_log(&self) -> io::Result<File> {
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.0.join("log"))
    }

    /// Empties a log that has become long.
    pub(crate) fn bound_log(&self) -> io::Result<()> {
        let log = self.open_log()?;
        match log.metadata()?.len() > MAX_LOG {
            true => log.set_len(0),
            false => Ok(()),
        }
    }

    /// The last line of the log, for an error.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.0.join("log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }
}

/// Starts something that serves at a place with the socket it is given, and names its process if it is one. Blocks for a
/// fork and an exec.
pub(crate) type Launcher = Box<dyn Fn(&Process, &Place, OwnedFd) -> io::Result<Option<Pid>> + Send + Sync>;

/// Starts a process at a new place.
pub(crate) fn start(process: &Process, launcher: &Launcher) -> io::Result<(Place, Option<Pid>)> {
    let place = Place::make(&process.directory)?;
    let started = place
        .listen()
        .and_then(|listener| launcher(process, &place, listener.into()));
    match started {
        Ok(started) => Ok((place, started)),
        Err(error) => {
            // What remains is found and removed by the next start.
            let _ = place.remove();
            Err(error)
        }
    }
}

/// Starts our own program. Within a tokio runtime, which waits for processes that end.
pub(crate) fn spawn(process: &Process, place: &Place, listener: OwnedFd) -> io::Result<Option<Pid>> {
    let (program, words) = process.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let arguments = Arguments {
        version: process.version.clone(),
        claim: process.claim.as_ref().map(ToString::to_string),
    };
    let mut command = Command::new(program);
    command
        .arg0("wherry")
        .args(words)
        .args(arguments.to_words())
        .env_clear()
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(place.open_log()?);
    let (directory, user) = (File::open(&place.0)?, process.user);
    // SAFETY: between fork and exec the closure only makes system calls; it allocates nothing.
    unsafe {
        command.pre_exec(move || enter(&directory, user));
    }
    let child = tokio::process::Command::from(command).spawn()?;
    Ok(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
}

/// In the child, before the program.
fn enter(directory: &File, user: Option<u32>) -> io::Result<()> {
    setsid()?;
    fchdir(directory)?;
    if let Some(user) = user {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        setgroups(&[])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_as_it_was_written() {
        for claim in [None, Some("a/b".to_owned())] {
            let version = "1".to_owned();
            let arguments = Arguments { version, claim };
            let words = arguments.to_words().into_iter().map(OsString::from);
            assert_eq!(Arguments::parse(words), Ok(arguments));
        }
        for wrong in [&["--build"][..], &["--claim", "c"], &["--build", "1", "--what", "2"]] {
            assert_eq!(
                Arguments::parse(wrong.iter().map(Into::into)),
                Err(UsageError),
                "{wrong:?}"
            );
        }
    }

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
