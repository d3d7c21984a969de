//! Makes the component of a chapter of docs/guests.md, or of README.md's for Rust, by pasting its blocks:
//!
//! `cargo run -p e2e --example guest -- javascript OUTPUT.wasm`

use std::{env, time::Duration};

use anyhow::Context;
use e2e::{Reader, document};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [language, output] = arguments.as_slice() else {
        anyhow::bail!("usage: guest rust|c|javascript|python OUTPUT.wasm");
    };
    let file = if language == "rust" {
        "README.md"
    } else {
        "docs/guests.md"
    };
    let reader = Reader::new();
    let (steps, component) = document::building(reader.steps(file, language)).context("the chapter loads no image")?;
    reader.paste(&steps, Duration::from_secs(900));
    std::fs::copy(reader.path("work").join(component), output)?;
    Ok(())
}
