//! OCI manifests, as much of them as decides what an image is. Pure.
//!
//! Two forms hold Wasm: an artifact (CNCF's format: one layer `application/wasm`, configuration
//! `application/vnd.wasm.config.v0+json`) and an ordinary OCI image whose files include the `.wasm` that its entrypoint
//! names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

pub(crate) const WASM_LAYER: &str = "application/wasm";
/// What tools wrote before the format was agreed: wasm-to-oci, and the first of Bytecode Alliance's.
const OLD_WASM_LAYERS: [&str; 2] = [
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What a registry is asked for.
pub(crate) const MANIFESTS: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
/// BuildKit puts what it knows of a build beside the images of an index.
const ATTESTATION: &str = "vnd.docker.reference.type";
/// The operating systems of Wasm, the better first.
const WASM_SYSTEMS: [&str; 4] = ["wasip2", "wasip1", "wasi", "wasm"];
/// The annotation that names a layer's file.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// Annotations of an index by which a manifest is named, the more exact first.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// A manifest or an index: which, `manifests` or `layers` tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    /// Only whether there are any is asked: then it is an index.
    #[serde(default, skip_serializing)]
    manifests: Option<serde::de::IgnoredAny>,
}

/// The entry of an OCI layout, or an image for several platforms.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// A reference from one document to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
}

/// The configuration of an OCI image: how it is started.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) config: Execution,
}

/// What an image says about starting it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Execution {
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
}

/// Go writes an empty list as null.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Where an image's Wasm stands.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// The layer is the binary.
    Artifact { layer: Descriptor },
    /// The layers are tars, one above the other.
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// Why no image can be made of a manifest or index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the archive holds no image")]
    NoImage,
    #[error("the archive holds {count} images; name one of: {}", names.join(", "))]
    Ambiguous { count: usize, names: Vec<String> },
    #[error("the artifact has {count} Wasm layers; exactly one can run")]
    WasmLayers { count: usize },
    #[error("the manifest has no configuration")]
    NoConfig,
    #[error("the image is for {}, not for Wasm", platforms.join(", "))]
    NoPlatform { platforms: Vec<String> },
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    pub(crate) fn is_index(&self) -> bool {
        [OCI_INDEX, DOCKER_INDEX].contains(&self.media_type.as_str())
    }

    fn is_image(&self) -> bool {
        let manifest = ["", OCI_MANIFEST, DOCKER_MANIFEST].contains(&self.media_type.as_str());
        (manifest || self.is_index()) && !self.annotations.contains_key(ATTESTATION)
    }

    fn is_wasm_layer(&self) -> bool {
        self.media_type == WASM_LAYER || OLD_WASM_LAYERS.contains(&self.media_type.as_str())
    }

    /// How good a Wasm platform it is for, the lower the better; `None`: for none.
    fn wasm_rank(&self) -> Option<usize> {
        let platform = self.platform.as_ref()?;
        let known = WASM_SYSTEMS.iter().position(|system| *system == platform.os);
        known.or_else(|| platform.architecture.starts_with("wasm").then_some(WASM_SYSTEMS.len()))
    }

    fn name(&self) -> Option<&str> {
        NAMES
            .iter()
            .find_map(|key| self.annotations.get(*key))
            .map(String::as_str)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// Chooses the image of an index: the only one, else the one with this name, else the one for the best Wasm platform.
pub(crate) fn choose<'a>(index: &'a Index, wanted: &str) -> Result<&'a Descriptor, ManifestError> {
    let images: Vec<_> = index.manifests.iter().filter(|d| d.is_image()).collect();
    let named = |d: &&&Descriptor| {
        d.name()
            .is_some_and(|name| name == wanted || wanted.ends_with(&format!(":{name}")))
    };
    let best = images.iter().filter_map(|d| d.wasm_rank()).min();
    let wasm: Vec<_> = images
        .iter()
        .filter(|d| best.is_some() && d.wasm_rank() == best)
        .collect();
    match (images.as_slice(), images.iter().find(named), wasm.as_slice()) {
        ([], ..) => Err(ManifestError::NoImage),
        ([only], ..) => Ok(only),
        (_, Some(named), _) => Ok(named),
        (_, None, [only]) => Ok(only),
        (_, None, []) if images.iter().all(|d| d.platform.is_some()) => {
            let platforms = images.iter().filter_map(|d| Some(d.platform.as_ref()?.to_string()));
            let platforms = platforms.collect();
            Err(ManifestError::NoPlatform { platforms })
        }
        _ => {
            let names = images
                .iter()
                .map(|d| d.name().unwrap_or_else(|| d.digest.as_str()).to_owned())
                .collect();
            Err(ManifestError::Ambiguous {
                count: images.len(),
                names,
            })
        }
    }
}

impl Manifest {
    /// A manifest around one Wasm binary, in CNCF's artifact format.
    pub(crate) fn artifact(layer: Descriptor, config: Descriptor) -> Self {
        let media_type = Some(OCI_MANIFEST.to_owned());
        Self {
            schema_version: 2,
            media_type,
            config: Some(config),
            layers: vec![layer],
            manifests: None,
        }
    }

    /// Whether the document is an index after all.
    pub(crate) fn is_index(&self) -> bool {
        self.manifests.is_some()
    }

    /// Everything it consists of but itself.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }

    /// Tells an artifact from an image of layers.
    pub(crate) fn form(&self) -> Result<Form, ManifestError> {
        let wasm: Vec<_> = self.layers.iter().filter(|layer| layer.is_wasm_layer()).collect();
        let is_artifact = self
            .config
            .as_ref()
            .is_some_and(|config| config.media_type == WASM_CONFIG);
        match wasm.as_slice() {
            [layer] => Ok(Form::Artifact {
                layer: (*layer).clone(),
            }),
            [] if !is_artifact => {
                let config = self.config.clone().ok_or(ManifestError::NoConfig)?;
                Ok(Form::Image {
                    config,
                    layers: self.layers.clone(),
                })
            }
            several => Err(ManifestError::WasmLayers { count: several.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(byte: u8, extra: Value) -> Value {
        let mut value = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(&[byte]), "size": 1});
        value
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().cloned().unwrap());
        value
    }

    fn chosen(manifests: Vec<Value>, wanted: &str) -> Result<Digest, ManifestError> {
        let index: Index = serde_json::from_value(json!({ "manifests": manifests })).unwrap();
        choose(&index, wanted).map(|d| d.digest.clone())
    }

    #[test]
    fn chooses_the_only_the_named_or_the_wasm_image() {
        let plain = descriptor(1, json!({}));
        let tagged = descriptor(2, json!({"annotations": {"org.opencontainers.image.ref.name": "2"}}));
        let wasm = descriptor(3, json!({"platform": {"architecture": "wasm", "os": "wasip1"}}));
        let attestation = json!({"mediaType": "application/x", "digest": Digest::of(b"x"), "size": 1});
        let name = "docker.io/library/hello:2";
        assert_eq!(chosen(vec![plain.clone(), attestation], name), Ok(Digest::of(&[1])));
        assert_eq!(
            chosen(vec![plain.clone(), tagged.clone(), wasm.clone()], name),
            Ok(Digest::of(&[2]))
        );
        assert_eq!(chosen(vec![plain.clone(), wasm], name), Ok(Digest::of(&[3])));
        assert_eq!(chosen(vec![], name), Err(ManifestError::NoImage));
        let error = chosen(vec![plain, tagged], "docker.io/library/other:9").unwrap_err();
        assert!(matches!(error, ManifestError::Ambiguous { count: 2, .. }), "{error}");
    }

    #[test]
    fn of_several_platforms_the_best_for_wasm_is_chosen() {
        let of = |byte, os: &str, architecture: &str| {
            descriptor(byte, json!({"platform": {"os": os, "architecture": architecture}}))
        };
        let (linux, arm) = (of(1, "linux", "amd64"), of(2, "linux", "arm64"));
        let (old, new) = (of(3, "wasip1", "wasm"), of(4, "wasip2", "wasm"));
        let about = descriptor(
            5,
            json!({"annotations": {ATTESTATION: "attestation-manifest"},
                "platform": {"os": "unknown", "architecture": "unknown"}}),
        );
        let all = vec![linux.clone(), old, new, about.clone()];
        assert_eq!(chosen(all, "r/a:1"), Ok(Digest::of(&[4])));
        assert_eq!(chosen(vec![linux.clone(), about], "r/a:1"), Ok(Digest::of(&[1])));
        let error = chosen(vec![linux, arm], "r/a:1").unwrap_err().to_string();
        assert_eq!(error, "the image is for linux/amd64, linux/arm64, not for Wasm");
    }

    #[test]
    fn tells_artifacts_from_images() {
        let layer = |kind: &str| json!({"mediaType": kind, "digest": Digest::of(b"l"), "size": 1});
        let form = |config: &str, layers: Vec<Value>| {
            let manifest = json!({"schemaVersion": 2, "config": layer(config), "layers": layers});
            serde_json::from_value::<Manifest>(manifest).unwrap().form()
        };
        assert!(matches!(
            form(WASM_CONFIG, vec![layer(WASM_LAYER)]),
            Ok(Form::Artifact { .. })
        ));
        for old in OLD_WASM_LAYERS {
            assert!(matches!(
                form("any/config", vec![layer(old)]),
                Ok(Form::Artifact { .. })
            ));
        }
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        assert!(matches!(
            form("application/vnd.oci.image.config.v1+json", vec![layer(tar)]),
            Ok(Form::Image { .. })
        ));
        assert_eq!(
            form(WASM_CONFIG, vec![]).unwrap_err(),
            ManifestError::WasmLayers { count: 0 }
        );
        let two = vec![layer(WASM_LAYER), layer(WASM_LAYER)];
        assert_eq!(
            form(WASM_CONFIG, two).unwrap_err(),
            ManifestError::WasmLayers { count: 2 }
        );
    }

    #[test]
    fn reads_the_nulls_that_go_writes() {
        let config: ImageConfig =
            serde_json::from_value(json!({"config": {"Entrypoint": ["/a.wasm"], "Cmd": null, "Env": null}})).unwrap();
        assert_eq!(config.config.entrypoint, ["/a.wasm"]);
        assert!(config.config.cmd.is_empty());
    }
}
