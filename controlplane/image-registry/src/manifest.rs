//! Manifests that clients push, as far as they decide what is kept: artifacts that hold one Wasm binary. Pure.

use serde::Deserialize;

use crate::catalogue::Blob;
use crate::digest::Digest;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Layers that are a Wasm binary: as agreed, and as tools wrote it before.
const WASM_LAYERS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
const TITLE: &str = "org.opencontainers.image.title";

/// What an artifact consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) media_type: String,
    pub(crate) config: Blob,
    pub(crate) layer: Blob,
    /// What the layer's file is called.
    pub(crate) title: String,
}

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the manifest cannot be read: {0}")]
    Read(serde_json::Error),
    #[error("the manifest's media type is {found}; this registry takes {OCI_MANIFEST}")]
    Type { found: String },
    #[error(
        "the manifest has {count} layers, and one of the type application/wasm is wanted: this registry keeps Wasm programs, no container images"
    )]
    Layers { count: usize },
    #[error(
        "the layer's media type is {found:?}, not application/wasm: this registry keeps Wasm programs, no container images"
    )]
    Layer { found: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: Option<String>,
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl From<&Descriptor> for Blob {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        }
    }
}

/// Reads a manifest; `declared` is the media type that came with it.
pub(crate) fn read(bytes: &[u8], declared: &str) -> Result<Artifact, Refused> {
    if declared != OCI_MANIFEST {
        return Err(Refused::Type {
            found: declared.to_owned(),
        });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(Refused::Read)?;
    if let Some(found) = manifest.media_type.filter(|found| found != OCI_MANIFEST) {
        return Err(Refused::Type { found });
    }
    let [layer] = manifest.layers.as_slice() else {
        return Err(Refused::Layers {
            count: manifest.layers.len(),
        });
    };
    if !WASM_LAYERS.contains(&layer.media_type.as_str()) {
        return Err(Refused::Layer {
            found: layer.media_type.clone(),
        });
    }
    Ok(Artifact {
        media_type: OCI_MANIFEST.to_owned(),
        config: (&manifest.config).into(),
        layer: layer.into(),
        title: layer
            .annotations
            .get(TITLE)
            .cloned()
            .unwrap_or_else(|| "program.wasm".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 1,
            "annotations": {"org.opencontainers.image.title": "hello.wasm"}})
    }

    fn of(layers: &[&str], declared: &str) -> Result<Artifact, String> {
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor(layer)).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor("c"), "layers": layers});
        read(manifest.to_string().as_bytes(), declared).map_err(|error| error.to_string())
    }

    #[test]
    fn one_wasm_layer_is_taken_and_all_else_is_refused_in_words() {
        assert_eq!(
            of(&["application/wasm"], OCI_MANIFEST).map(|artifact| artifact.title),
            Ok("hello.wasm".to_owned())
        );
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (layers, declared, words) in [
            (&[tar][..], OCI_MANIFEST, "no container images"),
            (&["application/wasm", "application/wasm"], OCI_MANIFEST, "has 2 layers"),
            (&[], OCI_MANIFEST, "has 0 layers"),
            (
                &["application/wasm"],
                "application/vnd.oci.image.index.v1+json",
                "media type is",
            ),
        ] {
            let refused = of(layers, declared).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
        assert!(read(b"{", OCI_MANIFEST).is_err());
    }
}
