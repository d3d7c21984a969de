//! The artifact that holds one Wasm binary: CNCF's "Wasm OCI Artifact layout". Pure.

use serde::Serialize;

use super::{
    digest::Digest,
    manifest::{Descriptor, Manifest, TITLE, WASM_CONFIG, WASM_LAYER},
};
use crate::inspect::Inspection;

/// An artifact to be pushed: its two blobs are the binary and the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a str; 1],
    /// Of components only.
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<Component<'a>>,
}

#[derive(Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
    /// The world it was made for, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

/// Describes a binary. `created` is in RFC 3339's form, `file` what the binary is called.
pub(crate) fn artifact(
    binary: &Inspection,
    module: Digest,
    created: &str,
    file: &str,
) -> Result<Artifact, serde_json::Error> {
    let is_component = binary.kind == "component";
    let config = serde_json::to_vec(&Config {
        created,
        architecture: "wasm",
        os: if is_component { "wasip2" } else { "wasip1" },
        layer_digests: [&binary.digest],
        component: is_component.then(|| Component {
            exports: &binary.exports,
            imports: &binary.imports,
            target: binary.worlds.first().map(String::as_str),
        }),
    })?;
    let mut layer = Descriptor::new(WASM_LAYER, module, binary.size);
    layer.annotations.insert(TITLE.to_owned(), file.to_owned());
    let described = Descriptor::new(WASM_CONFIG, Digest::of(&config), config.len() as u64);
    let manifest = serde_json::to_vec(&Manifest::artifact(layer, described))?;
    Ok(Artifact { config, manifest })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::inspect::inspect;

    fn made(text: &str) -> (Value, Value) {
        let binary = wat::parse_str(text).unwrap();
        let found = inspect(&binary).unwrap();
        let artifact = artifact(&found, Digest::of(&binary), "2026-01-02T03:04:05Z", "a.wasm").unwrap();
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
        (read(&artifact.config), read(&artifact.manifest))
    }

    /// Without what changes with the text's encoding.
    fn shown(mut config: Value) -> Value {
        config["layerDigests"] = Value::Array(vec!["sha256:…".into()]);
        config
    }

    #[test]
    fn a_component_is_described_by_its_surface() {
        let (config, manifest) = made(
            r#"(component (import "wasi:io/poll@0.2.0" (instance)) (instance $h)
            (export "wasi:http/incoming-handler@0.2.0" (instance $h)))"#,
        );
        insta::assert_json_snapshot!(shown(config.clone()), @r#"
        {
          "architecture": "wasm",
          "component": {
            "exports": [
              "wasi:http/incoming-handler@0.2.0"
            ],
            "imports": [
              "wasi:io/poll@0.2.0"
            ],
            "target": "wasi:http/proxy@0.2.0"
          },
          "created": "2026-01-02T03:04:05Z",
          "layerDigests": [
            "sha256:…"
          ],
          "os": "wasip2"
        }
        "#);
        assert_eq!(manifest["config"]["mediaType"], WASM_CONFIG);
        assert_eq!(manifest["layers"][0]["mediaType"], WASM_LAYER);
        assert_eq!(manifest["layers"][0]["annotations"][TITLE], "a.wasm");
        assert_eq!(manifest["layers"][0]["digest"], config["layerDigests"][0]);
    }

    #[test]
    fn a_module_has_no_component() {
        let (config, _) = made(r#"(module (func (export "_start")))"#);
        assert_eq!((&config["os"], &config["component"]), (&"wasip1".into(), &Value::Null));
    }
}
