//! What a Wasm binary says of itself: worlds, imports, exports, producers, and what of its wishes this version of wherry
//! does not meet. For people; nothing is decided by it.
//!
//! Whoever calls this meets bytes of strangers: the command line does, the agent does not.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    images::Digest,
    protocol::compiled::{Guest, Refusal},
    world::{self, Producer},
};

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
    let surface = world::read(binary)?;
    let classified = surface.classify();
    let worlds = match &classified {
        Ok(guest) => vec![world_of(*guest, surface.version())],
        Err(_) => surface
            .guest()
            .into_iter()
            .map(|guest| world_of(guest, surface.version()))
            .collect(),
    };
    Ok(Inspection {
        digest: Digest::of(binary).to_string(),
        size: binary.len() as u64,
        kind: if surface.is_component() { "component" } else { "module" },
        worlds,
        imports: surface.imports(),
        exports: surface.exports().to_vec(),
        producers: surface.producers().clone(),
        missing: surface.missing(),
        refusal: classified.err().map(|refusal| refusal.to_string()),
    })
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
    fn what_is_not_wasm_is_not_described() {
        assert!(matches!(inspect(b"#!/bin/sh"), Err(Refusal::NotWasm { .. })));
    }
}
