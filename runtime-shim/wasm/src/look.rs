//! Looking into a program for somebody who must not meet it: a child, confined as one that compiles, says what a binary is,
//! whether it could run, and what the artifact that holds it is made of. The control plane has programs of strangers looked
//! into this way before it keeps them.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    process::{ExitCode, Stdio},
    time::Duration,
};

use serde::Serialize;
use tokio::io::AsyncReadExt;
use wasmparser::Validator;

use crate::{
    confine,
    images::{Digest, artifact},
    inspect::{Inspection, inspect},
    protocol::compiled::{MAX_BINARY, Refusal},
    spawn::program::{Program, ProgramError},
};

/// Address space: the binary and what is known of it.
const ADDRESS_SPACE: u64 = 2 << 30;
/// CPU time in seconds.
const CPU_SECONDS: u64 = 60;
/// How long it may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Bytes of an answer, and of a complaint.
const MAX_ANSWER: u64 = 8 << 20;
const MAX_COMPLAINT: u64 = 4096;

/// What was seen; the configuration and the manifest are absent of what is refused.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<Inspection>,
    config: String,
    manifest: String,
}

/// Why a program was not looked into.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("the program that looks is not available")]
    Program(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the child that looks cannot be run")]
    Run(#[source] io::Error),
    #[error("looking took longer than {DEADLINE:?}")]
    TooSlow,
    #[error("the child that looks ended with {status}: {complaint}")]
    Died {
        status: std::process::ExitStatus,
        complaint: String,
    },
    #[error("its answer is too long")]
    TooLong,
}

impl From<ProgramError> for LookError {
    fn from(error: ProgramError) -> Self {
        Self::Program(error.into())
    }
}

/// The body of `wherry look FILE CREATED`. Must be called before any other thread is started.
pub fn main(title: &str, created: &str) -> ExitCode {
    confine::exit("wherry look", &run(title, created))
}

fn run(title: &str, created: &str) -> io::Result<()> {
    confine::compiler(&confine::Limits {
        address_space: ADDRESS_SPACE,
        cpu_seconds: CPU_SECONDS,
        output: MAX_ANSWER,
    })?;
    let mut binary = Vec::new();
    io::stdin().lock().take(MAX_BINARY + 1).read_to_end(&mut binary)?;
    let seen = see(&binary, title, created)?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &seen)?;
    out.flush()
}

/// What a binary is. Pure.
fn see(binary: &[u8], title: &str, created: &str) -> io::Result<Seen> {
    let refused = |refusal: Refusal| Seen {
        refusal: Some(refusal.to_string()),
        ..Seen::default()
    };
    if binary.len() as u64 > MAX_BINARY {
        let detail = format!("it has more than the {} MiB that are allowed", MAX_BINARY >> 20);
        return Ok(refused(Refusal::TooLarge { detail }));
    }
    let found = match inspect(binary) {
        Ok(found) => found,
        Err(refusal) => return Ok(refused(refusal)),
    };
    let missing = found.missing.clone();
    let refusal = found.refusal.clone().or_else(|| invalid(binary));
    if refusal.is_some() {
        return Ok(Seen {
            refusal,
            missing,
            program: Some(found),
            ..Seen::default()
        });
    }
    let made = artifact::artifact(&found, Digest::of(binary), created, title)?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(io::Error::other);
    Ok(Seen {
        refusal: None,
        missing,
        program: Some(found),
        config: text(made.config)?,
        manifest: text(made.manifest)?,
    })
}

/// Why a binary is not valid, all the way down.
fn invalid(binary: &[u8]) -> Option<String> {
    let error = Validator::new().validate_all(binary).err()?;
    let detail = format!("{} at byte {}", error.message(), error.offset());
    Some(Refusal::Invalid { detail }.to_string())
}

/// Has a child look into a binary; answers what it saw, as JSON. `command` is this program as the child.
///
/// # Errors
/// The child did not do its work.
pub async fn look(command: &[OsString], binary: File, title: &str, created: &str) -> Result<Vec<u8>, LookError> {
    let program = Program::open(command)?;
    let words = ["--".to_owned(), title.to_owned(), created.to_owned()];
    let mut command = tokio::process::Command::from(program.command(words));
    command
        .stdin(binary)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(LookError::Run)?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(LookError::Run(io::ErrorKind::BrokenPipe.into()));
    };
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let (mut out, mut err) = (out.take(MAX_ANSWER + 1), err.take(MAX_COMPLAINT));
    let work = async {
        tokio::try_join!(out.read_to_end(&mut answer), err.read_to_end(&mut complaint))?;
        child.wait().await
    };
    let status = match tokio::time::timeout(DEADLINE, work).await {
        Ok(ended) => ended.map_err(LookError::Run)?,
        Err(_) => return Err(LookError::TooSlow),
    };
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint).trim().replace('\n', " ");
        return Err(LookError::Died { status, complaint });
    }
    match answer.len() as u64 > MAX_ANSWER {
        true => Err(LookError::TooLong),
        false => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Seen {
        see(&wat::parse_str(text).unwrap(), "a.wasm", "2026-01-02T03:04:05Z").unwrap()
    }

    #[test]
    fn what_runs_is_packed() {
        let seen = of(r#"(module (func (export "_start")))"#);
        assert_eq!((&seen.refusal, seen.program.is_some()), (&None, true));
        assert!(seen.manifest.contains("application/wasm") && seen.config.contains("wasip1"));
    }

    #[test]
    fn what_does_not_run_is_refused_with_what_it_lacks() {
        let seen = of(r#"(component (import "acme:billing/api@1.0.0" (instance)))"#);
        assert_eq!(seen.missing, ["acme:billing/api@1.0.0"]);
        assert!(seen.refusal.is_some() && seen.manifest.is_empty());
        let text = see(b"#!/bin/sh", "a", "b").unwrap();
        assert!(text.refusal.unwrap().contains("it is a script"));
        // Its surface is that of a command; its body is none.
        let broken = wat::parse_str(r#"(module (func (export "_start") (result i32)))"#).unwrap();
        let broken = see(&broken, "a", "b").unwrap();
        assert!(broken.refusal.unwrap().contains("at byte"));
    }
}
