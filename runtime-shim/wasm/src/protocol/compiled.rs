//! What the compile child answers: one JSON header, then machine code.
//!
//! The child reads a Wasm binary from descriptor 0 (a regular file) and writes to descriptor 1: the length of the header
//! (`u32`, little endian), the header (JSON of [`Outcome`]), and, after a success, exactly `code_length` bytes of code to
//! the end of the stream. The child is not trusted: the reader bounds both lengths.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The largest header that is read.
pub const MAX_HEADER: u32 = 256 * 1024;
/// The largest machine code that is taken from a child.
pub const MAX_CODE: u64 = 1 << 30;
/// The largest Wasm binary that is compiled.
pub const MAX_BINARY: u64 = 256 << 20;

/// How a guest is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Guest {
    /// A component that exports `wasi:http/incoming-handler` 0.2: served on the pod's address.
    Http,
    /// A component that exports `wasi:cli/run` 0.2: runs until it ends.
    Command,
    /// A core module with `_start` that imports `wasi_snapshot_preview1`: runs until it ends.
    Preview1,
}

/// How compiling went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Compiled(Compiled),
    Refused(Refusal),
}

/// What was compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    pub guest: Guest,
    /// What the code was made for; see `engine::key`.
    pub engine_key: String,
    /// Bytes of code that follow the header.
    pub code_length: u64,
    /// What the binary says of itself, for people; absent of what earlier versions compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Box<cri::WasmProgram>>,
}

/// Why a binary cannot be run here, in words for the pod's owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The bytes do not begin as Wasm does.
    #[error("not a Wasm binary: {detail}")]
    NotWasm { detail: String },
    /// Truncated, or against the specification.
    #[error("invalid Wasm: {detail}")]
    Invalid { detail: String },
    /// Each import as the binary names it, e.g. `wasi:sockets/tls@0.2.0` or `env.abort`.
    #[error("it imports what this host does not offer: {}", imports.join(", "))]
    MissingImports { imports: Vec<String> },
    /// Neither of the worlds we run.
    #[error("{detail}")]
    NoEntrypoint { detail: String },
    /// Larger than we compile, or the compiler ran out of memory or time.
    #[error("too large to compile: {detail}")]
    TooLarge { detail: String },
}

/// Why a child's answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the compiler's answer is cut off")]
    Truncated,
    #[error("the compiler's header of {length} bytes is too long")]
    HeaderTooLong { length: u32 },
    #[error("the compiler announced {length} bytes of code, more than is taken")]
    CodeTooLong { length: u64 },
    #[error("the compiler's header cannot be read")]
    Header(#[source] serde_json::Error),
    #[error("the compiler wrote more than it announced")]
    Surplus,
    #[error("reading the compiler's answer")]
    Io(#[source] io::Error),
}

/// Writes an answer: the child's side. `code` is empty after a refusal.
pub fn write(out: &mut impl Write, outcome: &Outcome, code: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(outcome)?;
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&header)?;
    out.write_all(code)?;
    out.flush()
}

/// Reads an answer to its end, the code into `code`: the agent's side.
pub fn read(mut from: impl Read, code: &mut impl Write) -> Result<Outcome, ReadError> {
    let outcome = read_header(&mut from)?;
    let expected = match &outcome {
        Outcome::Compiled(compiled) if compiled.code_length > MAX_CODE => {
            return Err(ReadError::CodeTooLong {
                length: compiled.code_length,
            });
        }
        Outcome::Compiled(compiled) => compiled.code_length,
        Outcome::Refused(_) => 0,
    };
    let copied = io::copy(&mut (&mut from).take(expected), code).map_err(ReadError::Io)?;
    if copied < expected {
        return Err(ReadError::Truncated);
    }
    match from.read(&mut [0]) {
        Ok(0) => Ok(outcome),
        Ok(_) => Err(ReadError::Surplus),
        Err(error) => Err(ReadError::Io(error)),
    }
}

fn read_header(from: &mut impl Read) -> Result<Outcome, ReadError> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(cut_off)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(ReadError::HeaderTooLong { length });
    }
    let mut header = vec![0; length as usize];
    from.read_exact(&mut header).map_err(cut_off)?;
    serde_json::from_slice(&header).map_err(ReadError::Header)
}

fn cut_off(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Truncated,
        _ => ReadError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compiled(code_length: u64) -> Outcome {
        Outcome::Compiled(Compiled {
            guest: Guest::Command,
            engine_key: "key".into(),
            code_length,
            program: None,
        })
    }

    fn written(outcome: &Outcome, code: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, outcome, code).unwrap();
        bytes
    }

    fn header(text: &str) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
    }

    #[test]
    fn bounds_are_kept_whatever_is_announced() {
        let mut code = Vec::new();
        for (bytes, expected) in [
            (Vec::new(), "cut off"),
            (u32::MAX.to_le_bytes().to_vec(), "is too long"),
            (header("{"), "cannot be read"),
            (written(&compiled(MAX_CODE + 1), b"x"), "more than is taken"),
            (written(&compiled(2), b"x"), "cut off"),
            (written(&compiled(1), b"xy"), "more than it announced"),
        ] {
            let error = read(bytes.as_slice(), &mut code).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}: {expected}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(code in proptest::collection::vec(any::<u8>(), 0..512)) {
            let outcome = compiled(code.len() as u64);
            let mut found = Vec::new();
            prop_assert_eq!(read(written(&outcome, &code).as_slice(), &mut found).unwrap(), outcome);
            prop_assert_eq!(found, code);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read(bytes.as_slice(), &mut Vec::new());
        }
    }
}
