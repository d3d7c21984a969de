//! How the agent starts the process that answers, in its directory `cluster-dns/<n>/`.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::unistd::Pid;
use resident::{Place, Program};

/// The process that answers, and how it is started.
#[derive(Clone, Debug)]
pub struct Process {
    /// `cluster-dns/` of the data directory.
    pub directory: PathBuf,
    /// The program and its first words: `[<path of wherry>, "cluster-dns"]`.
    pub command: Vec<OsString>,
    /// User and group it runs as; `None`: the agent's.
    pub user: Option<u32>,
    /// The version of the program: a process of another one is replaced.
    pub version: String,
}

/// What the process is told on its command line, after the command itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) version: String,
}

/// The command line cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: cluster-dns --build VERSION")]
pub(crate) struct UsageError;

impl Arguments {
    /// Reads what [`spawn`] wrote.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let words: Result<Vec<String>, _> = words.into_iter().map(OsString::into_string).collect();
        match words.map_err(|_| UsageError)?.as_slice() {
            [flag, version] if flag == "--build" => Ok(Arguments {
                version: version.clone(),
            }),
            _ => Err(UsageError),
        }
    }
}

/// Starts something that serves at a place with the socket it is given, and names its process if it is one. Blocks for a
/// fork and an exec.
pub(crate) type Launcher = Box<dyn Fn(&Process, &Place, OwnedFd) -> io::Result<Option<Pid>> + Send + Sync>;

/// Starts our own program. Within a tokio runtime, which waits for processes that end.
pub(crate) fn spawn(process: &Process, place: &Place, listener: OwnedFd) -> io::Result<Option<Pid>> {
    // Not `--version`, which every command of the program answers by itself.
    let words = ["--build".into(), OsString::from(&process.version)];
    let program = Program {
        command: process.command.iter().cloned().chain(words).collect(),
        user: process.user,
    };
    resident::spawn(&program, place, listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_line_of_ours_is_read() {
        let parse = |words: &[&str]| Arguments::parse(words.iter().map(Into::into));
        assert_eq!(parse(&["--build", "1"]).map(|read| read.version), Ok("1".to_owned()));
        for wrong in [&["--build"][..], &[], &["--what", "1"], &["--build", "1", "2"]] {
            assert_eq!(parse(wrong), Err(UsageError), "{wrong:?}");
        }
    }
}
