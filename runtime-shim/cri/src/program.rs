//! What a program is, as its binary says of itself: beyond CRI, which knows nothing of Wasm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A Wasm program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WasmProgram {
    /// `sha256:…` of the binary.
    pub digest: String,
    /// Bytes of the binary.
    pub size: u64,
    /// `component` or `module`.
    pub kind: String,
    /// The worlds it is run in.
    pub worlds: Vec<String>,
    /// Interfaces, as WIT names them; of a module, module and field.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// What made it, by field (`language`, `processed-by`, `sdk`).
    pub producers: BTreeMap<String, Vec<Producer>>,
    /// Bytes of compiled code.
    pub code_size: u64,
}

/// A tool or language that had a part in making a binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    pub name: String,
    pub version: String,
}
