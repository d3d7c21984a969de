//! Programs that go on beside a test.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

/// A program that ends with the test, and its lines.
#[derive(Debug)]
pub struct Going {
    child: Child,
    /// Open for as long as it goes: some programs end when nobody can hear them.
    lines: Lines<BufReader<ChildStdout>>,
}

impl Going {
    /// Starts it, without input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// Waits for the first line that has these words.
    ///
    /// # Panics
    /// When it ends before.
    #[track_caller]
    pub fn line(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.next().expect("more lines").expect("text");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The port of this side, as `kubectl port-forward` says it.
    ///
    /// # Panics
    /// When it ends before it forwards.
    #[track_caller]
    pub fn forwarded_port(&mut self) -> String {
        let line = self.line("Forwarding from 127.0.0.1:");
        let local = line.split(':').nth(1).and_then(|rest| rest.split(' ').next());
        local.expect("a port").to_owned()
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
