//! The compile child: one Wasm binary in, machine code out, and nothing else.
//!
//! A hostile binary may find a fault in the compiler, so it meets it here: in a process that holds no keys, no sockets
//! and no files but its input and output, as nobody, with bounded memory and time. The protocol is
//! [`crate::protocol::compiled`]. Whatever goes wrong with the binary is an answer ([`Outcome::Refused`]); an exit code
//! other than 0 means that the child itself could not work.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{FromRawFd, RawFd},
    process::ExitCode,
};

use wasmtime::{Engine, Module, component::Component};

use crate::{
    confine, engine,
    host::linker,
    inspect,
    protocol::compiled::{self, Compiled, Guest, MAX_BINARY, MAX_CODE, Outcome, Refusal},
    world,
};

const INPUT: RawFd = 0;
const OUTPUT: RawFd = 1;

/// Address space: room for the compiler's own data on the largest binaries that people ship (a JavaScript engine of
/// 12 MB takes about 1 GiB), with several threads.
const ADDRESS_SPACE: u64 = 8 << 30;
/// CPU time in seconds, over all threads.
const CPU_SECONDS: u64 = 600;

/// The body of `wherry compile`. Must be called before any other thread is started.
pub fn main() -> ExitCode {
    confine::exit("wherry compile", &run())
}

fn run() -> io::Result<()> {
    confine::compiler(&confine::Limits {
        address_space: ADDRESS_SPACE,
        cpu_seconds: CPU_SECONDS,
        output: MAX_CODE,
    })?;
    // SAFETY: both descriptors belong to this process by the protocol, and nothing else uses them.
    let (input, mut output) = unsafe { (File::from_raw_fd(INPUT), File::from_raw_fd(OUTPUT)) };
    let outcome = read(input)?.and_then(|binary| compile(&binary));
    match outcome {
        Ok((compiled, code)) => compiled::write(&mut output, &Outcome::Compiled(compiled), &code),
        Err(refusal) => compiled::write(&mut output, &Outcome::Refused(refusal), &[]),
    }
}

fn read(input: File) -> io::Result<Result<Vec<u8>, Refusal>> {
    let mut binary = Vec::new();
    input.take(MAX_BINARY + 1).read_to_end(&mut binary)?;
    if binary.len() as u64 > MAX_BINARY {
        let detail = format!("it has more than the {} MiB that are allowed", MAX_BINARY >> 20);
        return Ok(Err(Refusal::TooLarge { detail }));
    }
    Ok(Ok(binary))
}

/// Checks and compiles a binary. Pure but for the threads of the compiler.
pub(crate) fn compile(binary: &[u8]) -> Result<(Compiled, Vec<u8>), Refusal> {
    let surface = world::read(binary)?;
    let guest = surface.classify()?;
    let engine = engine::for_compiling().map_err(|error| unusable(&error))?;
    let code = match guest {
        Guest::Http | Guest::Command => component(&engine, binary)?,
        Guest::Preview1 => module(&engine, binary)?,
    };
    if code.len() as u64 > MAX_CODE {
        return Err(Refusal::TooLarge {
            detail: format!("its machine code takes {} MiB", code.len() >> 20),
        });
    }
    let compiled = Compiled {
        guest,
        engine_key: engine::key_of(&engine),
        code_length: code.len() as u64,
        program: Some(Box::new(inspect::program(&surface, binary, code.len() as u64))),
    };
    Ok((compiled, code))
}

fn component(engine: &Engine, binary: &[u8]) -> Result<Vec<u8>, Refusal> {
    let component = Component::from_binary(engine, binary).map_err(|error| invalid(&error))?;
    linker::check_component(&component).map_err(|error| unlinked(&error))?;
    component.serialize().map_err(|error| unusable(&error))
}

fn module(engine: &Engine, binary: &[u8]) -> Result<Vec<u8>, Refusal> {
    let module = Module::from_binary(engine, binary).map_err(|error| invalid(&error))?;
    linker::check_module(&module).map_err(|error| unlinked(&error))?;
    module.serialize().map_err(|error| unusable(&error))
}

/// Validation failed: against the specification, or for a proposal that is not enabled, which the text names.
fn invalid(error: &wasmtime::Error) -> Refusal {
    Refusal::Invalid { detail: chain(error) }
}

/// An interface that is offered lacks a function, or has it with another type: the binary was made for a newer 0.2.x.
fn unlinked(error: &wasmtime::Error) -> Refusal {
    Refusal::MissingImports {
        imports: vec![chain(error)],
    }
}

/// The compiler could not work with what it was given.
fn unusable(error: &wasmtime::Error) -> Refusal {
    Refusal::TooLarge { detail: chain(error) }
}

/// An error with its causes on one line.
fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

#[cfg(test)]
mod tests;
