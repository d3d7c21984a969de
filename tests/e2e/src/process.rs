//! Processes with deadlines: what a test runs, and how it waits.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// What a finished process left.
#[derive(Debug, Clone)]
pub struct Output {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Stdout of a process that succeeded.
    ///
    /// # Panics
    /// When it failed, with both of its streams.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.success,
            "failed ({:?})\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        );
        self.stdout
    }

    /// Stderr of a process that failed.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(!self.success, "succeeded, stdout: {}", self.stdout);
        self.stderr
    }
}

/// Which kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Kubectl132,
    Kubectl136,
}

impl Tool {
    /// The program's path: from the environment as `make test` sets it, else the one on the PATH.
    pub fn path(self) -> String {
        let variable = match self {
            Tool::Kubectl132 => "WHERRY_KUBECTL_1_32",
            Tool::Kubectl136 => "WHERRY_KUBECTL_1_36",
        };
        std::env::var(variable).unwrap_or_else(|_| "kubectl".to_owned())
    }
}

/// Runs a command to its end and gives it `stdin`; kills it after two minutes.
///
/// # Panics
/// When it cannot be started or does not end.
#[track_caller]
pub fn run(command: &mut Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    if let Some(mut input) = child.stdin.take() {
        // A process that does not read its input is free to end first.
        let _ = std::io::Write::write_all(&mut input, stdin.as_bytes());
    }
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (done, finished) = mpsc::channel();
    let id = child.id();
    std::thread::spawn(move || {
        let err = std::thread::spawn(move || read_all(err));
        let stdout = read_all(out);
        let stderr = err.join().unwrap_or_default();
        let status = child.wait();
        let _ = done.send((status, stdout, stderr));
    });
    match finished.recv_timeout(Duration::from_secs(120)) {
        Ok((status, stdout, stderr)) => {
            let status = status.expect("the child is waited for once");
            Output {
                success: status.success(),
                code: status.code(),
                stdout,
                stderr,
            }
        }
        Err(_) => {
            kill(id, nix::sys::signal::Signal::SIGKILL);
            panic!("{command:?} did not end within two minutes");
        }
    }
}

fn read_all(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Signals a process; one that is gone is fine.
pub fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("pids fit"));
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Waits until `condition` answers, asking again each time the previous question has been answered (each is a process of
/// its own, which paces this).
///
/// # Panics
/// When `deadline` passes, with what `condition` last said.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(last) if start.elapsed() > deadline => panic!("{what}: not within {deadline:?}; last: {last}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}
