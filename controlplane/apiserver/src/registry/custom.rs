//! Custom resources: the kind that a CustomResourceDefinition describes, as the same [`Resource`] that built-in kinds have.
//!
//! Every version of such a kind has a schema, columns and subresources of its own, and objects are worked on in the version
//! that the request names. They rest in the storage version; what was stored in another version, or under another schema,
//! is made to fit when it is read ([`Normal`]), or by the webhook that the definition names ([`convert`]).

mod columns;
pub(crate) mod convert;
pub(crate) mod jsonpath;
mod strategy;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::{Object, Status};
use schema::Schema;
use schema::openapi::Source;
use schema::structural::Structural;
use serde_json::Value;
use store::{Expect, Key};
use tokio_util::sync::CancellationToken;

use super::catalog::Registry;
use super::index::parse;
use super::resource::{ALL_VERBS, Name, Resource, Scope, SelectableField, Served, Subresource, View};
use super::verbs::Call;
use crate::extensions;
use crate::http::respond::store_error;
use crate::webhook;
use convert::Converter;

/// What a kind still answers to while its definition is being deleted.
pub(crate) const TERMINATING_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];

/// What a CustomResourceDefinition adds to a kind.
pub(crate) struct Custom {
    pub(crate) converter: Converter,
    /// Where the definition is stored: writes of its objects are guarded by it.
    pub(crate) definition: Key,
    /// Differs when the kind has to be built anew.
    pub(crate) fingerprint: u64,
    normal: Arc<Normal>,
    established: AtomicBool,
    terminating: AtomicBool,
    /// The revision at which the definition was last seen not to be going.
    alive_at: AtomicU64,
    ended: CancellationToken,
}

impl Custom {
    pub(crate) fn is_established(&self) -> bool {
        self.established.load(Ordering::Acquire)
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.terminating.load(Ordering::Acquire)
    }

    /// Takes over the state of the definition; tells whether that has changed.
    pub(crate) fn update(&self, established: bool, terminating: bool) -> bool {
        let before = (self.is_established(), self.is_terminating());
        self.established.store(established, Ordering::Release);
        self.terminating.store(terminating, Ordering::Release);
        before != (established, terminating)
    }

    pub(super) fn normal(&self) -> Arc<Normal> {
        self.normal.clone()
    }

    /// The token that ends the kind's cache: by [`Custom::end`], or with the server.
    pub(super) fn lifetime(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The condition under which an object may come into being: that the definition is still what it is.
    pub(crate) fn guard(&self, registry: &Registry, call: &Call<'_>, name: &str) -> Result<(Key, Expect), Status> {
        let definitions = registry.kind(extensions::GROUP, extensions::PLURAL);
        let found = definitions.and_then(|kind| kind.cache.get(&self.definition));
        let Some(found) = found else {
            return Err(Status::no_such_path());
        };
        // Definitions are large: each of their revisions is looked at once.
        let alive = || self.alive_at.load(Ordering::Acquire) == found.revision.0 || !parse(&found.bytes).is_deleting();
        if self.is_terminating() || !alive() {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(&call.endpoint.group_resource(), name, why));
        }
        self.alive_at.store(found.revision.0, Ordering::Release);
        Ok((self.definition.clone(), Expect::At(found.revision)))
    }

    /// Ends the kind's cache and the watches on it.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}

/// Returns when the definitions are known here as the store has them.
pub(crate) async fn catch_up(registry: &Registry) -> Result<(), Status> {
    match registry.kind(extensions::GROUP, extensions::PLURAL) {
        Some(definitions) => definitions.cache.fresh().await.map(drop).map_err(store_error),
        None => Ok(()),
    }
}

/// How stored objects are made to fit what their definition says now.
pub(crate) struct Normal {
    storage: Name,
    /// Whether other versions differ in their name alone.
    by_name: bool,
    versions: Vec<(Name, Structural)>,
}

impl Normal {
    /// Brings an object into the storage version where that needs no webhook; prunes and defaults it.
    pub(crate) fn apply(&self, object: &mut Object) {
        if self.by_name && object.api_version() != self.storage {
            object.set("apiVersion", self.storage.as_ref());
        }
        self.fit(object);
    }

    /// Prunes and defaults an object by the schema of its version.
    pub(crate) fn fit(&self, object: &mut Object) {
        let found = self
            .versions
            .iter()
            .find(|(version, _)| object.api_version() == version);
        if let Some((_, structural)) = found {
            structural.prune(object);
            structural.default(object);
        }
    }
}

/// The names a definition has been granted, and what else the kind is built from.
#[derive(Debug)]
pub(crate) struct Definition<'a> {
    pub(crate) object: &'a Object,
    pub(crate) bytes: bytes::Bytes,
    pub(crate) key: Key,
}

impl Definition<'_> {
    /// What the kind is built from, as a number: two definitions with the same one make the same kind.
    pub(crate) fn fingerprint(&self) -> u64 {
        let parts = [
            self.object.at("spec"),
            self.object.at("status.acceptedNames"),
            self.object.at("metadata.uid"),
        ];
        let text: String = parts.into_iter().flatten().map(Value::to_string).collect();
        BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
    }

    fn group(&self) -> &str {
        self.object.str_at("spec.group").unwrap_or_default()
    }

    fn name(&self, field: &str) -> Name {
        let path = format!("status.acceptedNames.{field}");
        self.object.str_at(&path).unwrap_or_default().to_owned().into()
    }

    fn names(&self, field: &str) -> Vec<Name> {
        let path = format!("status.acceptedNames.{field}");
        let list = self.object.list_at(&path).iter().filter_map(Value::as_str);
        list.map(|name| name.to_owned().into()).collect()
    }

    /// The kind, to be launched; it lives until `ended`.
    pub(crate) fn build(&self, hooks: &Arc<webhook::Caller>, ended: CancellationToken) -> (Resource, Custom) {
        let versions = self.object.list_at("spec.versions");
        let storage = |version: &&Value| version.get("storage") == Some(&Value::Bool(true));
        let (stored, others): (Vec<&Value>, Vec<&Value>) = versions.iter().partition(storage);
        let mut built = Vec::new();
        for version in stored.into_iter().chain(others) {
            let is_served = version.get("served") == Some(&Value::Bool(true));
            if is_served || version.get("storage") == Some(&Value::Bool(true)) {
                built.push(self.version(version, !is_served));
            }
        }
        let by_version = built
            .iter()
            .map(|v| (v.served.api_version.clone(), v.structural.clone()));
        let converter = Converter::of(self.object, hooks);
        let normal = Normal {
            storage: built.first().map(|v| v.served.api_version.clone()).unwrap_or_default(),
            by_name: matches!(converter, Converter::None),
            versions: by_version.collect(),
        };
        let strategy = strategy::Strategy::new(&built);
        let mut fields: Vec<SelectableField> = Vec::new();
        for name in built.iter().flat_map(|v| &v.fields) {
            if !fields.iter().any(|field| field.name == *name) {
                fields.push(SelectableField {
                    name: name.clone(),
                    paths: vec![name.clone()],
                    absent: Name::default(),
                });
            }
        }
        let namespaced = self.object.str_at("spec.scope") == Some("Namespaced");
        let resource = Resource {
            group: self.group().to_owned().into(),
            plural: self.name("plural"),
            singular: self.name("singular"),
            kind: self.name("kind"),
            list_kind: self.name("listKind"),
            scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
            short_names: self.names("shortNames"),
            categories: self.names("categories"),
            served: built.into_iter().map(|v| v.served).collect(),
            strategy: Arc::new(strategy),
            effects: None,
            columns: super::printer::default_columns(),
            cells: Arc::new(super::printer::default_cells),
            fields,
            subresources: Vec::new(),
            generation: Some(strategy::bumps_generation),
            verbs: ALL_VERBS,
            encrypted: false,
            returns_deleted: false,
            orphans_dependents: false,
            ttl: None,
            deprecated: None,
        };
        let custom = Custom {
            converter,
            definition: self.key.clone(),
            fingerprint: self.fingerprint(),
            normal: Arc::new(normal),
            established: AtomicBool::new(false),
            terminating: AtomicBool::new(false),
            alive_at: AtomicU64::new(0),
            ended,
        };
        (resource, custom)
    }

    fn version(&self, version: &Value, hidden: bool) -> Version {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        let schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
        let structural = match self.object.bool_at("spec.preserveUnknownFields") {
            Some(true) => Structural::compile(&preserving(schema)),
            _ => Structural::compile(&schema),
        };
        let (subresources, scale) = subresources(version);
        let fields = version
            .get("selectableFields")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let fields: Vec<Name> = fields
            .filter_map(|field| field.get("jsonPath")?.as_str()?.strip_prefix('.'))
            .map(|path| path.to_owned().into())
            .collect();
        let (columns, cells) = columns::of(version);
        let view = View {
            columns,
            cells,
            subresources,
            fields: fields.clone(),
            deprecated: self.deprecation(version, name),
        };
        let mut served = Served::custom(
            self.group(),
            name,
            definition_name(self.group(), name, &self.name("kind")),
            self.source(name),
            Schema::structural(structural.clone()),
            view,
        );
        served.hidden = hidden;
        Version {
            served,
            structural,
            fields,
            scale,
        }
    }

    /// Reads the schema of a version from the definition's bytes whenever somebody wants it described.
    fn source(&self, version: &str) -> Source {
        let (bytes, version) = (self.bytes.clone(), version.to_owned());
        Source::Custom(Arc::new(move || {
            let definition = parse(&bytes);
            let versions = definition.list_at("spec.versions");
            let found = versions
                .iter()
                .find(|v| v.get("name").and_then(Value::as_str) == Some(&version));
            found
                .and_then(|v| v.pointer("/schema/openAPIV3Schema"))
                .cloned()
                .unwrap_or_default()
        }))
    }

    fn deprecation(&self, version: &Value, name: &str) -> Option<String> {
        if version.get("deprecated") != Some(&Value::Bool(true)) {
            return None;
        }
        if let Some(words) = version.get("deprecationWarning").and_then(Value::as_str) {
            return Some(words.to_owned());
        }
        let (group, kind) = (self.group(), self.object.str_at("spec.names.kind").unwrap_or_default());
        let words = format!("{group}/{name} {kind} is deprecated");
        let is = |version: &Value, word: &str| version.get(word) == Some(&Value::Bool(true));
        let better = self
            .object
            .list_at("spec.versions")
            .iter()
            .filter(|v| is(v, "served") && !is(v, "deprecated"));
        let better = better.filter_map(|v| v.get("name")?.as_str());
        let best = better
            .filter(|other| api::names::version_priority(other) > api::names::version_priority(name))
            .max_by_key(|other| api::names::version_priority(other));
        Some(match best {
            Some(best) => format!("{words}; use {group}/{best} {kind}"),
            None => words,
        })
    }
}

/// One version, built.
struct Version {
    served: Served,
    structural: Structural,
    fields: Vec<Name>,
    scale: Option<strategy::Scale>,
}

/// The OpenAPI definition of a custom resource: its group backwards.
fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

/// Definitions of old may keep everything.
fn preserving(schema: Value) -> Value {
    let mut map = match schema {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    map.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    Value::Object(map)
}

fn subresources(version: &Value) -> (Vec<Subresource>, Option<strategy::Scale>) {
    let mut found = Vec::new();
    let given = version.get("subresources");
    if given
        .and_then(|all| all.get("status"))
        .is_some_and(|status| !status.is_null())
    {
        found.push(Subresource::Status);
    }
    let Some(scale) = given.and_then(|all| all.get("scale")).filter(|scale| scale.is_object()) else {
        return (found, None);
    };
    let path = |name: &str| {
        let path = scale.get(name).and_then(Value::as_str).unwrap_or_default();
        Name::from(path.strip_prefix('.').unwrap_or(path).to_owned())
    };
    let paths = strategy::Scale {
        spec: path("specReplicasPath"),
        status: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    };
    found.push(Subresource::Scale {
        spec_replicas: paths.spec.clone(),
        status_replicas: paths.status.clone(),
        selector: paths.selector.clone(),
    });
    (found, Some(paths))
}
