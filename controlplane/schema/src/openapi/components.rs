//! The schemas of a document, with Kubernetes' extensions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Status};
use serde_json::{Map, Value, json};

use super::Described;
use crate::{
    compile,
    facts::{self, DefinitionFacts, FieldFacts, ListKind},
};

type Tree = Map<String, Value>;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Where a definition stands in the document.
pub(super) fn reference(definition: &str) -> String {
    format!("#/components/schemas/{definition}")
}

/// All definitions that the resources need, by name.
pub(super) fn schemas(resources: &[Described<'_>]) -> Tree {
    let mut all = shared();
    for resource in resources {
        let mut root = resource.schema_json.get();
        let definitions = root.as_object_mut().and_then(|map| map.remove("$defs"));
        if let Some(Value::Object(definitions)) = definitions {
            all.extend(definitions);
        }
        all.insert(resource.definition.to_owned(), root);
    }
    for (name, schema) in &mut all {
        finish(name, schema);
    }
    for resource in resources {
        let (name, list) = list_of(resource);
        all.insert(name, list);
        name_kind(&mut all, resource);
    }
    all
}

/// What every document refers to, whatever its kinds.
fn shared() -> Tree {
    let mut generator = compile::generator();
    generator.subschema_for::<ListMeta>();
    generator.subschema_for::<DeleteOptions>();
    generator.subschema_for::<Status>();
    generator.take_definitions(false)
}

/// The name of a kind's list.
pub(super) fn list_name(resource: &Described<'_>) -> String {
    format!("{}List", resource.definition)
}

fn list_of(resource: &Described<'_>) -> (String, Value) {
    let list = json!({
        "description": format!("{0}List is a list of {0} objects.", resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "allOf": [{ "$ref": reference(&format!("{META}ListMeta")) }], "default": {} },
            "items": {
                "type": "array",
                "items": { "allOf": [{ "$ref": reference(resource.definition) }], "default": {} },
            },
        },
        "x-kubernetes-group-version-kind": [
            { "group": resource.group, "version": resource.version, "kind": format!("{}List", resource.kind) },
        ],
    });
    (list_name(resource), list)
}

/// Clients find a kind's schema by this; kinds that are not Kubernetes' own have no facts that would say it.
fn name_kind(all: &mut Tree, resource: &Described<'_>) {
    if let Some(schema) = all.get_mut(resource.definition).and_then(Value::as_object_mut) {
        let kind = json!([{ "group": resource.group, "version": resource.version, "kind": resource.kind }]);
        schema.insert("x-kubernetes-group-version-kind".to_owned(), kind);
    }
}

fn finish(name: &str, schema: &mut Value) {
    match name.strip_prefix("io.k8s.apimachinery.pkg.") {
        Some("util.intstr.IntOrString") => return say_either(schema, &["integer", "string"], Some("int-or-string")),
        Some("api.resource.Quantity") => return say_either(schema, &["string", "number"], None),
        _ => {}
    }
    let facts = facts::of(name);
    let Some(map) = schema.as_object_mut() else { return };
    require(map, facts);
    extend_definition(map, facts);
    for (field, schema) in map
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        rewrite(schema);
        if let (Some(facts), Some(map)) = (
            facts.and_then(|facts| facts.fields.get(field.as_str())),
            schema.as_object_mut(),
        ) {
            extend_field(map, facts);
        }
    }
}

fn say_either(schema: &mut Value, types: &[&str], format: Option<&str>) {
    let Some(map) = schema.as_object_mut() else { return };
    map.remove("x-kubernetes-int-or-string");
    map.insert(
        "oneOf".to_owned(),
        types.iter().map(|name| json!({ "type": name })).collect(),
    );
    if let Some(format) = format {
        map.insert("format".to_owned(), format.into());
    }
}

/// k8s-openapi asks for metadata everywhere, and for a few names that may be left out.
fn require(map: &mut Tree, facts: Option<&DefinitionFacts>) {
    let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) else {
        return;
    };
    let said = |field: &str| facts.and_then(|facts| facts.fields.get(field)?.required);
    required.retain(|field| {
        field
            .as_str()
            .is_some_and(|field| field != "metadata" && said(field) != Some(false))
    });
    for (field, facts) in facts.into_iter().flat_map(|facts| &facts.fields) {
        if facts.required == Some(true) && !required.iter().any(|listed| listed == field) {
            required.push(Value::from(*field));
        }
    }
    if required.is_empty() {
        map.remove("required");
    }
}

fn extend_definition(map: &mut Tree, facts: Option<&DefinitionFacts>) {
    let Some(facts) = facts else { return };
    if facts.atomic {
        map.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if let Some(kind) = facts.kind {
        let kind = json!([{ "group": kind.group, "version": kind.version, "kind": kind.kind }]);
        map.insert("x-kubernetes-group-version-kind".to_owned(), kind);
    }
}

/// A reference beside other words stands in `allOf`: OpenAPI ignores what is beside a bare one.
fn rewrite(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            rewrite(inner);
        }
    }
    for alternative in map.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        rewrite(alternative);
    }
    let Some(target) = map.get("$ref").and_then(Value::as_str) else {
        return;
    };
    let target = Value::from(reference(target.strip_prefix("#/$defs/").unwrap_or(target)));
    if map.len() == 1 {
        map.insert("$ref".to_owned(), target);
    } else {
        map.remove("$ref");
        map.insert("allOf".to_owned(), json!([{ "$ref": target }]));
    }
}

fn extend_field(map: &mut Tree, facts: &FieldFacts) {
    let mut say = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
    match &facts.list {
        ListKind::Unsaid => {}
        ListKind::Atomic => say("x-kubernetes-list-type", "atomic".into()),
        ListKind::Set => say("x-kubernetes-list-type", "set".into()),
        ListKind::Map(keys) => {
            say("x-kubernetes-list-type", "map".into());
            say("x-kubernetes-list-map-keys", json!(keys));
        }
    }
    if facts.map_atomic {
        say("x-kubernetes-map-type", "atomic".into());
    }
    let strategies: Vec<&str> = [("merge", facts.merge), ("retainKeys", facts.retain_keys)]
        .into_iter()
        .filter_map(|(name, said)| said.then_some(name))
        .collect();
    if !strategies.is_empty() {
        say("x-kubernetes-patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = facts.merge_key {
        say("x-kubernetes-patch-merge-key", key.into());
    }
    if let Some(default) = &facts.default {
        say("default", default.clone());
    }
    if !facts.values.is_empty() {
        say("enum", facts.values.clone().into());
    }
}
