//! The OpenAPI v2 document: one for all groups, as JSON or as the protobuf of gnostic's `openapi.v2`, which client-go asks
//! for. It is the v3 documents in older words ([`lower`]).
//!
//! The document is never held as one tree: each path and each definition is written as soon as it is made, so that making
//! it takes little more memory than its bytes.

mod gnostic;
mod lower;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::GroupVersion;
use serde_json::{Value, json};

use super::{Described, Source, components, document_path, paths};

pub use merge::relevant;

/// How the document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V2Format {
    Json,
    /// `openapi.v2.Document`.
    Protobuf,
}

/// The document of all groups and versions that were added to it.
pub struct V2Document {
    format: V2Format,
    paths: BTreeMap<String, Vec<u8>>,
    definitions: BTreeMap<String, Vec<u8>>,
}

impl V2Document {
    /// An empty document.
    pub fn new(format: V2Format) -> Self {
        Self {
            format,
            paths: BTreeMap::new(),
            definitions: BTreeMap::new(),
        }
    }

    /// Adds what one group and version serve.
    pub fn add(&mut self, version: &GroupVersion, resources: &[Described<'_>]) {
        for (path, item) in paths::paths(&format!("/{}", document_path(version)), resources) {
            let item = lower::path_item(item);
            let bytes = match self.format {
                V2Format::Json => item.to_string().into_bytes(),
                V2Format::Protobuf => gnostic::path_item(&item),
            };
            self.paths.insert(path, bytes);
        }
        for (name, schema) in components::schemas(resources) {
            if self.definitions.contains_key(&name) {
                continue;
            }
            let custom = resources
                .iter()
                .any(|resource| resource.definition == name && matches!(resource.schema_json, Source::Custom(_)));
            let schema = match custom {
                true => lower::custom(schema),
                false => lower::definition(&name, schema),
            };
            let bytes = match self.format {
                V2Format::Json => schema.to_string().into_bytes(),
                V2Format::Protobuf => gnostic::schema(&schema),
            };
            self.definitions.insert(name, bytes);
        }
    }

    /// The bytes; `version` is the server's.
    pub fn finish(self, version: &str) -> Vec<u8> {
        match self.format {
            V2Format::Json => {
                let mut out = head(version).to_string().into_bytes();
                // The head is an object with members.
                out.pop();
                for (name, members) in [("paths", self.paths), ("definitions", self.definitions)] {
                    out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                    put_members(&mut out, members);
                }
                out.push(b'}');
                out
            }
            V2Format::Protobuf => gnostic::document(&head(version), self.paths, self.definitions),
        }
    }
}

fn head(version: &str) -> Value {
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": version },
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

fn put_members(out: &mut Vec<u8>, members: BTreeMap<String, Vec<u8>>) {
    out.push(b'{');
    for (nth, (name, value)) in members.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(Value::from(name).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
    }
    out.push(b'}');
}
