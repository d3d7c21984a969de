//! How the agent starts the process that holds listeners, in its directory `service-proxy/<n>/`.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::unistd::Pid;
use resident::{Place, Program};

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

/// Starts something that serves at a place with the socket it is given, and names its process if it is one. Blocks for a
/// fork and an exec.
pub(crate) type Launcher = Box<dyn Fn(&Process, &Place, OwnedFd) -> io::Result<Option<Pid>> + Send + Sync>;

/// Starts our own program. Within a tokio runtime, which waits for processes that end.
pub(crate) fn spawn(process: &Process, place: &Place, listener: OwnedFd) -> io::Result<Option<Pid>> {
    let arguments = Arguments {
        version: process.version.clone(),
        claim: process.claim.as_ref().map(ToString::to_string),
    };
    let words = arguments.to_words().into_iter().map(OsString::from);
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
}
