//! The program a child runs: opened once, so that it is the same file however often it is started.
//!
//! A child executes it by its descriptor. So an upgrade that replaces the file does not mix versions, and a child of
//! another user can start a program that lies in a directory that this user may not enter.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// Descriptors below this number are given to children by number, so that a program's descriptor must not be one.
const FIRST_FREE: i32 = 64;

/// An executable file and the words that follow it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    file: Arc<OwnedFd>,
    name: OsString,
    words: Vec<OsString>,
}

/// The program cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("program {path} cannot be opened", path = path.display())]
pub(crate) struct ProgramError {
    path: PathBuf,
    source: io::Error,
}

impl Program {
    /// Opens the program that `command` names, its path first.
    pub(crate) fn open(command: &[OsString]) -> Result<Self, ProgramError> {
        let (name, words) = match command.split_first() {
            Some((name, words)) => (name.clone(), words.to_vec()),
            None => (OsString::new(), Vec::new()),
        };
        Self::open_path(Path::new(&name), words)
    }

    /// Opens the program that a process runs, even if its file is gone.
    pub(crate) fn of_process(pid: i32, words: Vec<OsString>) -> Result<Self, ProgramError> {
        Self::open_path(Path::new(&format!("/proc/{pid}/exe")), words)
    }

    /// The words after the program's name.
    pub(crate) fn words(&self) -> &[OsString] {
        &self.words
    }

    fn open_path(path: &Path, words: Vec<OsString>) -> Result<Self, ProgramError> {
        let failed = |source| ProgramError {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let file = rustix::io::fcntl_dupfd_cloexec(&file, FIRST_FREE).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            file: Arc::new(file),
            name: "wherry".into(),
            words,
        })
    }

    /// A command without environment that runs the program; `extra` words follow its own.
    pub(crate) fn command(&self, extra: impl IntoIterator<Item = String>) -> Command {
        // `/proc/self` is the child's by the time it is looked up.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command
            .arg0(&self.name)
            .args(&self.words)
            .args(extra)
            .env_clear()
            .current_dir("/");
        command
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Stdio};

    use super::*;

    fn said(program: &Program, extra: &[&str]) -> String {
        let mut command = program.command(extra.iter().map(|word| (*word).to_owned()));
        String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stdout).unwrap()
    }

    #[test]
    fn stays_the_same_when_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::copy("/bin/echo", &path).unwrap();
        let program = Program::open(&[path.clone().into(), "first".into()]).unwrap();
        fs::remove_file(&path).unwrap();
        fs::copy("/bin/false", &path).unwrap();
        assert_eq!(said(&program, &["second"]), "first second\n");
    }

    #[test]
    fn is_that_of_a_running_process_whose_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::copy("/bin/cat", &path).unwrap();
        let mut running = Command::new(&path).stdin(Stdio::piped()).spawn().unwrap();
        fs::remove_file(&path).unwrap();
        let content = dir.path().join("content");
        fs::write(&content, "read").unwrap();
        let pid = i32::try_from(running.id()).unwrap();
        let program = Program::of_process(pid, vec![content.into()]).unwrap();
        assert_eq!(said(&program, &[]), "read");
        drop(running.stdin.take());
        running.wait().unwrap();
    }

    #[test]
    fn that_cannot_be_opened_is_named() {
        let error = Program::open(&["/absent/wherry".into()]).unwrap_err();
        assert_eq!(error.to_string(), "program /absent/wherry cannot be opened");
    }

    #[test]
    fn inherits_no_environment() {
        let program = Program::open(&["/usr/bin/env".into()]).unwrap();
        assert_eq!(said(&program, &[]), "");
    }
}
