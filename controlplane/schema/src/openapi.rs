//! OpenAPI documents as clients read them: v3, one per group and version, for `kubectl apply` (merge keys, and which
//! operations take `fieldValidation`) and `kubectl explain`; and [`V2Document`], one for all, for older ways of asking.
//!
//! Descriptions and types come from k8s-openapi, extensions from the facts. A document is large and asked for seldom:
//! it is built when asked for, and the caller keeps its bytes, not its tree.

mod components;
mod paths;
#[cfg(test)]
mod tests;
mod v2;

use std::{fmt, sync::Arc};

use api::GroupVersion;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

pub use v2::{V2Document, V2Format, relevant};

use crate::compile;

/// A resource as one group and version serve it.
#[derive(Clone, Debug)]
pub struct Described<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub plural: &'a str,
    pub namespaced: bool,
    /// The name of the kind's definition (`io.k8s.api.core.v1.Pod`).
    pub definition: &'a str,
    /// The verbs as discovery names them (`get`, `list`, `watch`, `create`, …).
    pub verbs: &'a [&'a str],
    pub subresources: Vec<Subresource<'a>>,
    /// The kind's JSON schema with its definitions.
    pub schema_json: Source,
}

/// Where a kind's JSON schema, with the definitions that it refers to in `$defs`, comes from when it is asked for.
#[derive(Clone)]
pub enum Source {
    /// A built-in kind's: [`schema_json`].
    BuiltIn(fn() -> Value),
    /// A custom resource's: what its definition says, before [`custom_json`] completes it.
    Custom(Arc<dyn Fn() -> Value + Send + Sync>),
}

impl Source {
    fn get(&self) -> Value {
        match self {
            Self::BuiltIn(make) => make(),
            Self::Custom(read) => custom_json(read()),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// Completes the schema of a custom resource: every object has a version, a kind and metadata.
fn custom_json(mut schema: Value) -> Value {
    if !schema.is_object() {
        schema = json!({ "x-kubernetes-preserve-unknown-fields": true });
    }
    let mut generator = compile::generator();
    let metadata = generator.subschema_for::<ObjectMeta>();
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    map.insert("type".to_owned(), "object".into());
    let properties = map.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let Some(properties) = properties.as_object_mut() {
        let word = |text: &str| json!({ "type": "string", "description": text });
        properties.insert("apiVersion".to_owned(), word(API_VERSION));
        properties.insert("kind".to_owned(), word(KIND));
        let mut metadata = Value::from(metadata);
        if let Some(map) = metadata.as_object_mut() {
            map.insert("description".to_owned(), METADATA.into());
        }
        properties.insert("metadata".to_owned(), metadata);
    }
    map.insert("$defs".to_owned(), Value::Object(generator.take_definitions(false)));
    schema
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert \
                           recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
                           https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from \
                    the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
                    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

const METADATA: &str = "Standard object's metadata. More info: \
                        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// A subresource, with the kind that it takes and gives.
#[derive(Clone, Debug)]
pub struct Subresource<'a> {
    /// The last part of the path (`status`).
    pub name: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub verbs: &'a [&'a str],
}

/// A k8s-openapi type's JSON schema; the definitions it refers to stand in `$defs`.
pub fn schema_json<T: JsonSchema>() -> Value {
    let mut generator = compile::generator();
    let mut root: Value = T::json_schema(&mut generator).into();
    if let Some(map) = root.as_object_mut() {
        map.insert("$defs".to_owned(), Value::Object(generator.take_definitions(false)));
    }
    root
}

/// The path of a group and version below `/openapi/v3/`, `/api…` and `/apis…` alike: `api/v1`, `apis/apps/v1`.
pub fn document_path(version: &GroupVersion) -> String {
    if version.group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{version}")
    }
}

/// The answer to `/openapi/v3`: where each document is. The hash changes with the document, so that clients may cache.
pub fn v3_index<'a>(documents: impl IntoIterator<Item = (&'a GroupVersion, &'a str)>) -> Value {
    let entry = |(version, hash): (&GroupVersion, &str)| {
        let path = document_path(version);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, json!({ "serverRelativeURL": url }))
    };
    json!({ "paths": documents.into_iter().map(entry).collect::<Map<_, _>>() })
}

/// The document of one group and version.
pub fn v3_document(version: &GroupVersion, resources: &[Described<'_>]) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths::paths(&format!("/{}", document_path(version)), resources),
        "components": { "schemas": components::schemas(resources) },
    })
}
