//! Writes the guests of `tests/workloads`, which tests of the whole system load as images, from their text.
//!
//! Usage: `cargo run -p wasm --example workloads -- tests/workloads`

#[path = "../src/host/fixtures.rs"]
#[allow(unreachable_pub, reason = "the same file is a module of the library's tests")]
mod fixtures;

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let directory = env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("tests/workloads"), PathBuf::from);
    for (name, binary) in fixtures::all() {
        fs::write(directory.join(name), binary)?;
    }
    Ok(())
}
