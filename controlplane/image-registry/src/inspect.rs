//! Looking into a program before it is stored. Who looks is given: bytes of strangers are not read in the process that holds
//! the cluster's keys.

use std::fs::File;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

/// Looks into Wasm binaries.
#[async_trait]
pub trait Inspector: std::fmt::Debug + Send + Sync + 'static {
    /// What a binary is. `title` is what its file is called, `created` in RFC 3339's form.
    ///
    /// # Errors
    /// It could not be looked into, in words for the log.
    async fn look(&self, binary: File, title: &str, created: &str) -> Result<Looked, String>;
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// Why no node could run it; absent when nothing is known against it.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Imports that nodes do not offer.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What the binary says of itself; null when it is none.
    #[serde(default)]
    pub program: Value,
    /// The configuration of the artifact that holds it, and its manifest; empty when it is refused.
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    pub manifest: String,
}
