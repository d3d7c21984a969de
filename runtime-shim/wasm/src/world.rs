//! What a guest may import and what it must export, decided from the binary alone, before anything is compiled.
//!
//! The offer is WASI 0.2 as the worlds in `wit/` name it, and preview 1 for core modules. A guest says which of these
//! it wants by its top-level imports; an interface counts as offered in every version of the 0.2 series, as its rules of
//! compatibility have it. Functions that a newer 0.2.x adds are found missing when the guest is linked.

use std::collections::BTreeMap;

use cri::Producer;
use wasmparser::{
    BinaryReaderError, ComponentExternalKind, ComponentTypeRef, CustomSectionReader, Encoding, KnownCustom, Parser,
    Payload,
};

use crate::protocol::compiled::{Guest, Refusal};

/// The interfaces of WASI 0.2 that a component may import; the worlds in `wit/` have exactly these.
pub(crate) const OFFERED: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// What a component exports to be served over HTTP.
pub(crate) const HTTP_HANDLER: &str = "wasi:http/incoming-handler";
/// What a component exports to be run as a command.
pub(crate) const COMMAND: &str = "wasi:cli/run";
/// The module that core modules import WASI preview 1 from.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

const MAGIC: [u8; 4] = *b"\0asm";

/// Says how a binary is to be run, or why it cannot be, in words for the pod's owner.
#[cfg(test)]
pub(crate) fn classify(binary: &[u8]) -> Result<Guest, Refusal> {
    read(binary)?.classify()
}

/// Reads the top level of a binary.
pub(crate) fn read(binary: &[u8]) -> Result<Surface, Refusal> {
    magic(binary)?;
    Surface::read(binary)
}

fn magic(binary: &[u8]) -> Result<(), Refusal> {
    if binary.starts_with(&MAGIC) {
        return Ok(());
    }
    let what = match binary {
        [] => "the file is empty".to_owned(),
        [0x7f, b'E', b'L', b'F', ..] => "it is a Linux (ELF) program; build it for wasm32-wasip2".to_owned(),
        [0x1f, 0x8b, ..] => "it is compressed by gzip".to_owned(),
        [b'P', b'K', ..] => "it is a zip archive".to_owned(),
        [b'#', b'!', ..] => "it is a script".to_owned(),
        [b'(', ..] => "it is Wasm in text form; convert it with wat2wasm or wasm-tools parse".to_owned(),
        head => {
            let head: Vec<_> = head.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("it begins with the bytes {}, not 00 61 73 6d", head.join(" "))
        }
    };
    Err(Refusal::NotWasm { detail: what })
}

/// The top level of a binary: its names, without their types.
#[derive(Debug, Default)]
pub(crate) struct Surface {
    component: bool,
    /// Of a component: as written. Of a module: module and field.
    imports: Vec<Import>,
    exports: Vec<String>,
    /// By field of the section `producers`.
    producers: BTreeMap<String, Vec<Producer>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Import {
    Component(String),
    Core { module: String, field: String },
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Component(name) => f.write_str(name),
            Self::Core { module, field } => write!(f, "{module}.{field}"),
        }
    }
}

impl Surface {
    fn read(binary: &[u8]) -> Result<Self, Refusal> {
        let mut surface = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(binary) {
            match payload.map_err(|error| invalid(&error))? {
                Payload::Version { encoding, .. } if depth == 0 => surface.component = encoding == Encoding::Component,
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload if depth == 0 => surface.take(payload).map_err(|error| invalid(&error))?,
                _ => {}
            }
        }
        Ok(surface)
    }

    fn take(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    // A type alone asks the host for nothing.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        self.imports.push(Import::Component(import.name.name.to_owned()));
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    self.imports.push(Import::Core {
                        module: import.module.to_owned(),
                        field: import.name.to_owned(),
                    });
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    self.exports.push(export?.name.to_owned());
                }
            }
            Payload::CustomSection(section) => self.take_producers(&section),
            _ => {}
        }
        Ok(())
    }

    /// What a custom section says of producers; one that is malformed says nothing.
    fn take_producers(&mut self, section: &CustomSectionReader<'_>) {
        let KnownCustom::Producers(fields) = section.as_known() else {
            return;
        };
        for field in fields.into_iter().flatten() {
            let values = field.values.into_iter().flatten().map(|value| Producer {
                name: value.name.to_owned(),
                version: value.version.to_owned(),
            });
            self.producers.entry(field.name.to_owned()).or_default().extend(values);
        }
    }

    pub(crate) fn is_component(&self) -> bool {
        self.component
    }

    pub(crate) fn exports(&self) -> &[String] {
        &self.exports
    }

    pub(crate) fn producers(&self) -> &BTreeMap<String, Vec<Producer>> {
        &self.producers
    }

    /// Every import, as the binary names it.
    pub(crate) fn imports(&self) -> Vec<String> {
        self.imports.iter().map(Import::to_string).collect()
    }

    /// The version of the interface by which it is run.
    pub(crate) fn version(&self) -> Option<&str> {
        let known = |export: &&String| is_version_of(export, HTTP_HANDLER) || is_version_of(export, COMMAND);
        Some(self.exports.iter().find(known)?.split_once('@')?.1)
    }

    /// How it is to be run, or why it cannot be.
    pub(crate) fn classify(&self) -> Result<Guest, Refusal> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(Refusal::MissingImports { imports: missing });
        }
        self.guest()
    }

    /// Every import that is not offered, as the binary names it.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.imports
            .iter()
            .filter_map(|import| match import {
                Import::Component(name) if offered(name) => None,
                Import::Core { module, .. } if module == PREVIEW1 => None,
                missing => Some(missing.to_string()),
            })
            .collect()
    }

    /// How its exports are run, whatever it imports.
    pub(crate) fn guest(&self) -> Result<Guest, Refusal> {
        let exports = |interface| self.exports.iter().any(|export| is_version_of(export, interface));
        let detail = match self.component {
            true if exports(HTTP_HANDLER) => return Ok(Guest::Http),
            true if exports(COMMAND) => return Ok(Guest::Command),
            false if self.exports.iter().any(|export| export == "_start") => return Ok(Guest::Preview1),
            true if self
                .exports
                .iter()
                .any(|export| export.starts_with("wasi:") && export.contains("@0.3.")) =>
            {
                format!(
                    "it exports {}, of WASI 0.3; build it for WASI 0.2",
                    self.exports.join(", ")
                )
            }
            true => format!(
                "it exports neither {HTTP_HANDLER}@0.2 (a service) nor {COMMAND}@0.2 (a command){}",
                listed(&self.exports)
            ),
            false => format!(
                "it is a core module without the function _start{}",
                listed(&self.exports)
            ),
        };
        Err(Refusal::NoEntrypoint { detail })
    }
}

fn listed(exports: &[String]) -> String {
    if exports.is_empty() {
        String::new()
    } else {
        format!("; it exports {}", exports.join(", "))
    }
}

fn offered(import: &str) -> bool {
    OFFERED.iter().any(|interface| is_version_of(import, interface))
}

/// Whether `name` is `interface` in a version of the 0.2 series.
fn is_version_of(name: &str, interface: &str) -> bool {
    name.split_once('@')
        .is_some_and(|(path, version)| path == interface && version.starts_with("0.2."))
}

fn invalid(error: &BinaryReaderError) -> Refusal {
    // Only an unexpected end is reported so by wasmparser.
    let cut = error.message().contains("unexpected end") || error.message().contains("out of bounds");
    let what = if cut {
        "the file is truncated"
    } else {
        "it is malformed"
    };
    Refusal::Invalid {
        detail: format!("{what} ({} at byte {})", error.message(), error.offset()),
    }
}

#[cfg(test)]
mod tests;
