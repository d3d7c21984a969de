//! What a Wasm binary says of itself: worlds, imports, exports, producers, and what of its wishes this version of wherry
//! does not meet. For people; nothing is decided by it.
//!
//! Whoever calls this meets bytes of strangers: the command line does, the agent does not.

use std::collections::BTreeMap;

use cri::{Producer, WasmProgram};
use serde::Serialize;

use crate::{
    images::Digest,
    protocol::compiled::{Guest, Refusal},
    world::{self, Surface},
};

/// What is told of a program that runs, so that it fits the header of the compile child's answer however hostile the binary
/// is: names of one kind, bytes of each, and producers of one field. What goes beyond says nothing to anybody.
const MOST_NAMES: usize = 300;
const LONGEST_NAME: usize = 128;
const MOST_PRODUCERS: usize = 20;

/// A description of a Wasm binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// `sha256:…` of the binary.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// `component` or `module`.
    pub kind: &'static str,
    /// The worlds that fit its exports, by the names that `wit/` and WASI give them; empty: none that can be run.
    pub worlds: Vec<String>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Of the section `producers`: what made it, by field (`language`, `processed-by`, `sdk`).
    pub producers: BTreeMap<String, Vec<Producer>>,
    /// Imports that this version does not offer.
    pub missing: Vec<String>,
    /// Why it cannot run here, as a pod would say it; absent when nothing is known against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// Describes a binary.
///
/// # Errors
/// It is not Wasm, or malformed.
pub fn inspect(binary: &[u8]) -> Result<Inspection, Refusal> {
    Ok(of_surface(&world::read(binary)?, binary))
}

/// What pods are told of the program that they run: the same, within bounds.
pub(crate) fn program(surface: &Surface, binary: &[u8], code_size: u64) -> WasmProgram {
    let found = of_surface(surface, binary);
    let producers = found.producers.into_iter().filter(|(field, _)| is_plain(field));
    let producers = producers.take(4).map(|(field, producers)| {
        let plain = |producer: &Producer| is_plain(&producer.name) && is_plain(&producer.version);
        let producers = producers.into_iter().filter(plain);
        (field, producers.take(MOST_PRODUCERS).collect())
    });
    WasmProgram {
        digest: found.digest,
        size: found.size,
        kind: found.kind.to_owned(),
        worlds: found.worlds,
        imports: bounded(found.imports),
        exports: bounded(found.exports),
        producers: producers.collect(),
        code_size,
    }
}

fn bounded(names: Vec<String>) -> Vec<String> {
    let plain = names.into_iter().filter(|name| is_plain(name));
    plain.take(MOST_NAMES).collect()
}

fn is_plain(name: &str) -> bool {
    name.len() <= LONGEST_NAME && !name.contains(char::is_control)
}

fn of_surface(surface: &Surface, binary: &[u8]) -> Inspection {
    let classified = surface.classify();
    let worlds = match &classified {
        Ok(guest) => vec![world_of(*guest, surface.version())],
        Err(_) => surface
            .guest()
            .into_iter()
            .map(|guest| world_of(guest, surface.version()))
            .collect(),
    };
    Inspection {
        digest: Digest::of(binary).to_string(),
        size: binary.len() as u64,
        kind: if surface.is_component() { "component" } else { "module" },
        worlds,
        imports: surface.imports(),
        exports: surface.exports().to_vec(),
        producers: surface.producers().clone(),
        missing: surface.missing(),
        refusal: classified.err().map(|refusal| refusal.to_string()),
    }
}

/// The world of a guest, in the version its exports name.
fn world_of(guest: Guest, version: Option<&str>) -> String {
    let name = match guest {
        Guest::Http => "wasi:http/proxy",
        Guest::Command => "wasi:cli/command",
        Guest::Preview1 => return "wasi_snapshot_preview1 command".to_owned(),
    };
    match version {
        Some(version) => format!("{name}@{version}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Inspection {
        inspect(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn says_what_a_component_is_and_lacks() {
        let found = of(r#"(component
            (import "wasi:cli/stdout@0.2.3" (instance))
            (import "acme:billing/api@1.0.0" (instance))
            (instance $run)
            (export "wasi:cli/run@0.2.3" (instance $run)))"#);
        assert_eq!(
            (found.kind, found.worlds.as_slice()),
            ("component", &["wasi:cli/command@0.2.3".to_owned()][..])
        );
        assert_eq!(found.imports, ["wasi:cli/stdout@0.2.3", "acme:billing/api@1.0.0"]);
        assert_eq!(found.missing, ["acme:billing/api@1.0.0"]);
        let refusal = found.refusal.unwrap();
        assert!(refusal.contains("acme:billing/api@1.0.0"), "{refusal}");
    }

    #[test]
    fn says_what_a_module_is() {
        let found = of(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (func (export "_start")) (@producers (language "Rust" "2024") (processed-by "rustc" "1.95")))"#,
        );
        assert_eq!((found.kind, found.refusal), ("module", None));
        assert_eq!(found.worlds, ["wasi_snapshot_preview1 command"]);
        assert_eq!(found.imports, ["wasi_snapshot_preview1.proc_exit"]);
        let producer = |name: &str, version: &str| Producer {
            name: name.into(),
            version: version.into(),
        };
        assert_eq!(found.producers["language"], [producer("Rust", "2024")]);
        assert_eq!(found.producers["processed-by"], [producer("rustc", "1.95")]);
    }

    #[test]
    fn what_is_told_of_a_program_is_bounded() {
        let name = |n: usize| format!("{n:04}{}", r"\\".repeat(100));
        let exports: String = (0..2_000)
            .map(|n| format!(r#"(func (export "{}"))"#, name(n)))
            .collect();
        let text = format!(
            r#"(module (func (export "_start")) (func (export "{}")) {exports})"#,
            "x".repeat(5_000)
        );
        let binary = wat::parse_str(&text).unwrap();
        let told = program(&world::read(&binary).unwrap(), &binary, 7);
        assert_eq!(
            (told.kind.as_str(), told.code_size, told.exports.len()),
            ("module", 7, MOST_NAMES)
        );
        assert_eq!(told.exports[0], "_start");
        assert!(serde_json::to_vec(&told).unwrap().len() < crate::protocol::compiled::MAX_HEADER as usize);
    }

    #[test]
    fn what_is_not_wasm_is_not_described() {
        assert!(matches!(inspect(b"#!/bin/sh"), Err(Refusal::NotWasm { .. })));
    }
}
