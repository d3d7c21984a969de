//! Guests for tests, made from text without a toolchain. Also the source of the files in `tests/workloads`, which
//! `cargo run -p wasm --example workloads` writes.

#![allow(
    dead_code,
    reason = "each of the tests and examples that include this file uses a part of it"
)]

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const HTTP: &str = include_str!("../../../../tests/workloads/wat/http.wat");
const COMMAND: &str = include_str!("../../../../tests/workloads/wat/command.wat");
/// Where the worlds are.
const WIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");

/// Guests by the names of their files in `tests/workloads`.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let hello = http("(call $answer (local.get $out))");
    vec![
        ("http-spin.wasm", http(SPIN)),
        ("http-hog.wasm", http(HOG)),
        ("http-trap.wasm", http("unreachable")),
        (
            "http-trap-at-start.wasm",
            http_with_start("(call $answer (local.get $out))", "unreachable"),
        ),
        ("exit-3.wasm", command("(call $exit (i32.const 3))")),
        (
            "print.wasm",
            command("(call $print (i32.const 1)) (call $print (i32.const 2))"),
        ),
        ("spin.wasm", command(SPIN)),
        ("hog.wasm", command(HOG)),
        ("trap.wasm", command("unreachable")),
        ("missing-import.wasm", missing_import()),
        ("truncated.wasm", hello.iter().take(hello.len() / 2).copied().collect()),
        ("not-wasm.wasm", b"<!doctype html>\n".to_vec()),
        ("http-hello.wasm", hello),
    ]
}

/// Loops forever.
pub(crate) const SPIN: &str = "(loop $on (br $on))";
/// Allocates a page at a time until it gets none, and gives up.
pub(crate) const HOG: &str = "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
/// Answers with 1,000 pieces of 4 KiB.
pub(crate) const STREAM: &str = "(call $begin (local.get $out))
    (loop $on
      (call $send (i32.const 4096) (i32.const 4096))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $on (i32.lt_u (local.get $i) (i32.const 1000))))
    (call $end)";
/// Answers after some computing.
pub(crate) const WORK: &str = "(loop $on
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $on (i32.lt_u (local.get $i) (i32.const 10000000))))
    (call $answer (local.get $out))";

/// A component that is served.
pub(crate) fn http(handle: &str) -> Vec<u8> {
    component("http-service", &HTTP.replace("(;HANDLE;)", handle))
}

/// The same with a function that runs when an instance is made.
pub(crate) fn http_with_start(handle: &str, start: &str) -> Vec<u8> {
    let start = format!("(func $begins {start}) (start $begins)");
    component(
        "http-service",
        &HTTP.replace("(;HANDLE;)", handle).replace("(;START;)", &start),
    )
}

/// A preview 1 module that is run.
pub(crate) fn command(main: &str) -> Vec<u8> {
    wat::parse_str(COMMAND.replace("(;MAIN;)", main)).expect("valid text")
}

/// A component that is run; `main` leaves 0 for success.
pub(crate) fn cli(main: &str) -> Vec<u8> {
    let module = format!(
        r#"(module (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
          (func (export "wasi:cli/run@0.2.12#run") (result i32) {main}))"#
    );
    component("command", &module)
}

/// A component that wants what nobody offers.
pub(crate) fn missing_import() -> Vec<u8> {
    wat::parse_str(
        r#"(component
          (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" (instance))
          (import "acme:billing/api@1.0.0" (instance (export "charge" (func)))))"#,
    )
    .expect("valid text")
}

/// A core module that exports and imports as the canonical ABI has it, made into a component of one of our worlds.
fn component(world: &str, module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).expect("valid text");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(Path::new(WIT)).expect("valid WIT");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("one of our worlds");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("embedded");
    let mut encoder = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .expect("a module of the world");
    encoder.encode().expect("encoded")
}
