//! Sessions at a terminal. A transcript is text:
//!
//! ```text
//! ## a comment
//! $ kubectl get namespace a      a command that succeeds; its output follows, stdout and stderr as they come
//! NAME   STATUS   AGE
//! a      Active   …              … stands for anything on a line, and on a line of its own for any lines
//! ! kubectl get namespace b      a command that fails
//! ~ kubectl get namespace b      a command that is repeated until it succeeds with that output
//! $ cat > b.yaml <<EOF           a command goes on
//! > kind: Namespace              in such lines
//! > EOF
//! 1.32: a line of the older kubectl's session only
//! ```
//!
//! Spaces at the ends of lines do not count, nor do empty lines at the end of an output.

use std::{path::PathBuf, time::Duration};

use e2e::{Cluster, Tool, run, until};

const SOON: Duration = Duration::from_secs(30);

/// What is expected of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    /// Success, sooner or later.
    Eventually,
}

/// A command and what it says.
#[derive(Debug)]
struct Step {
    command: String,
    outcome: Outcome,
    output: Vec<String>,
}

pub struct Transcript {
    lines: Vec<&'static str>,
}

impl Transcript {
    pub fn parse(text: &'static str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with("## ")).collect();
        Self { lines }
    }

    /// Types every command on a cluster and compares what it says.
    ///
    /// # Panics
    /// When it says anything else.
    pub fn play(&self, cluster: &Cluster, tool: Tool) {
        let terminal = Terminal::new(cluster, tool);
        for step in self.steps(tool) {
            terminal.play(&step);
        }
    }

    fn steps(&self, tool: Tool) -> Vec<Step> {
        let (own, other) = match tool {
            Tool::Kubectl132 => ("1.32: ", "1.36: "),
            Tool::Kubectl136 => ("1.36: ", "1.32: "),
        };
        let mut steps: Vec<Step> = Vec::new();
        for line in self.lines.iter().filter(|line| !line.starts_with(other)) {
            let line = line.strip_prefix(own).unwrap_or(line);
            let start = |outcome| {
                Some(Step {
                    command: line.get(2..)?.to_owned(),
                    outcome,
                    output: Vec::new(),
                })
            };
            let started = match line.get(..2) {
                Some("$ ") => start(Outcome::Success),
                Some("! ") => start(Outcome::Failure),
                Some("~ ") => start(Outcome::Eventually),
                _ => None,
            };
            match (started, steps.last_mut()) {
                (Some(step), _) => steps.push(step),
                (None, Some(step)) => step.add(line),
                (None, None) => assert!(line.is_empty(), "a transcript starts with a command: {line}"),
            }
        }
        steps
    }
}

impl Step {
    fn add(&mut self, line: &str) {
        match line.strip_prefix("> ").or((line == ">").then_some("")) {
            Some(more) if self.output.is_empty() => {
                self.command.push('\n');
                self.command.push_str(more);
            }
            _ => self.output.push(line.to_owned()),
        }
    }

    /// Whether a command's success and output are as expected; otherwise what came instead.
    fn judge(&self, success: bool, said: &str) -> Result<(), String> {
        let lines = trimmed(said.lines());
        let expected = trimmed(self.output.iter().map(String::as_str));
        let ended = success == (self.outcome != Outcome::Failure);
        if ended && matches(&expected, &lines) {
            return Ok(());
        }
        Err(format!(
            "$ {}\n--- expected{}\n{}\n--- came{}\n{said}",
            self.command,
            if self.outcome == Outcome::Failure {
                ", and failure"
            } else {
                ""
            },
            self.output.join("\n"),
            if success { "" } else { ", and failure" },
        ))
    }
}

/// Lines without what is not seen.
fn trimmed<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut lines: Vec<&str> = lines.map(str::trim_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

fn matches(expected: &[&str], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&"…", rest)) => (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..])),
        Some((first, rest)) => {
            let Some((line, others)) = lines.split_first() else {
                return false;
            };
            line_matches(first, line) && matches(rest, others)
        }
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else {
        return expected == line;
    };
    let Some(mut line) = line.strip_prefix(start) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('…').collect();
    let (last, middle) = parts.split_last().expect("a split has a part");
    for part in middle {
        let Some((_, after)) = line.split_once(part) else {
            return false;
        };
        line = after;
    }
    line.ends_with(last)
}

/// A shell whose `kubectl` is the one in question, in a directory of its own.
struct Terminal<'a> {
    cluster: &'a Cluster,
    directory: PathBuf,
    path: String,
}

impl<'a> Terminal<'a> {
    fn new(cluster: &'a Cluster, tool: Tool) -> Self {
        let (directory, programs) = (cluster.scratch().join("work"), cluster.scratch().join("bin"));
        for made in [&directory, &programs] {
            std::fs::create_dir(made).expect("a directory");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        if let Ok(program) = std::fs::canonicalize(tool.path()) {
            std::os::unix::fs::symlink(program, programs.join("kubectl")).expect("a link");
        }
        Self {
            cluster,
            directory,
            path: format!("{}:{path}", programs.display()),
        }
    }

    #[track_caller]
    fn play(&self, step: &Step) {
        let attempt = || {
            let (success, said) = self.run(&step.command);
            step.judge(success, &said)
        };
        match step.outcome {
            Outcome::Eventually => until("the output", SOON, attempt),
            Outcome::Success | Outcome::Failure => attempt().unwrap_or_else(|came| panic!("{came}")),
        }
    }

    fn run(&self, command: &str) -> (bool, String) {
        let mut shell = self.cluster.on_machine("bash");
        shell
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(&self.directory)
            .env("PATH", &self.path)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("KUBECACHEDIR", self.cluster.scratch().join("kube-cache"))
            .env("TMPDIR", &self.directory);
        let output = run(&mut shell, "");
        (output.success, output.stdout)
    }
}

#[test]
fn a_wildcard_stands_for_anything_on_its_line() {
    for (expected, line, want) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…", "ab", true),
        ("…b", "ab", true),
        ("a…c…e", "abcde", true),
        ("a…c…e", "abde", false),
        ("a…a", "a", false),
        ("…", "", true),
    ] {
        assert_eq!(line_matches(expected, line), want, "{expected} {line}");
    }
}

#[test]
fn a_line_of_it_stands_for_any_lines() {
    assert!(matches(&["a", "…", "b"], &["a", "b"]));
    assert!(matches(&["a", "…", "b"], &["a", "x", "b", "b"]));
    assert!(!matches(&["a", "…", "b"], &["a", "b", "c"]));
}

#[test]
fn a_session_is_read_for_one_kubectl() {
    let transcript = Transcript::parse("## words\n$ cat <<EOF\n> x\n> EOF\nx\n1.32: old\n1.36: new\n! false\n");
    let steps = transcript.steps(Tool::Kubectl136);
    assert_eq!(steps[0].command, "cat <<EOF\nx\nEOF");
    assert_eq!(steps[0].output, ["x", "new"]);
    assert_eq!((steps[1].outcome, &*steps[1].command), (Outcome::Failure, "false"));
}
