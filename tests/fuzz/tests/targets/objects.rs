//! Objects and patches, as functions of bytes and a schema.

use std::sync::OnceLock;

use api::{Object, Quantity};
use k8s_openapi::api::apps::v1::Deployment;
use schema::apply::{Versions, Writer};
use schema::{Decoded, Schema, decode_json, decode_yaml, patch};
use serde_json::Value;

pub const WORDS: &[&str] = &[
    "metadata",
    "name",
    "spec",
    "containers",
    "template",
    "$patch",
    "$setElementOrder/containers",
    "$retainKeys",
    "$deleteFromPrimitiveList/finalizers",
    "delete",
    "replace",
    "merge",
    "op",
    "add",
    "remove",
    "move",
    "copy",
    "test",
    "path",
    "from",
    "value",
    "/metadata/labels/a",
    "/spec/template/spec/containers/0",
    "/-",
    "~1",
    "null",
    "{}",
    "[]",
    "\"\"",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "&a ",
    "*a",
    "<<: *a",
    "- ",
    "!!int ",
    "1e9",
    "0x10",
    "---\n",
    "\t",
    "matchLabels",
    "replicas",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
    "resourceVersion",
];

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment"))
}

/// What was decoded is decoded again from its own text to the same, without further problems.
fn stable(decoded: Decoded) {
    let text = decoded.object.to_vec();
    let again = decode_json(&text, schema()).expect("what was decoded can be decoded");
    assert_eq!(again.object, decoded.object);
    assert_eq!(again.problems, Vec::<String>::new());
    let mut defaulted = decoded.object;
    schema::default(&mut defaulted, schema());
    let mut twice = defaulted.clone();
    schema::default(&mut twice, schema());
    assert_eq!(twice, defaulted, "defaults of what has its defaults change nothing");
    drop(schema::validate(&defaulted, schema()));
}

pub fn json(input: &[u8]) {
    decode_json(input, schema()).into_iter().for_each(stable);
}

pub fn yaml(input: &[u8]) {
    decode_yaml(input, schema()).into_iter().for_each(stable);
}

/// A good object to patch.
fn object() -> Value {
    static TEXT: &str = include_str!("../../corpus/decode_json/deployment.json");
    serde_json::from_str(TEXT).expect("a good object")
}

/// A patched tree can be made fit or is refused.
fn fits(mut tree: Value) {
    if schema::check(&mut tree, schema()).is_ok() {
        let again = schema::check(&mut tree.clone(), schema()).expect("what fits, fits");
        assert_eq!(again, Vec::<String>::new());
    }
}

pub fn patch_json(input: &[u8]) {
    let mut tree = object();
    match patch::json(&mut tree, input) {
        Ok(()) => fits(tree),
        Err(error) => drop(error.to_string()),
    }
}

pub fn patch_merge(input: &[u8]) {
    let Ok(change) = serde_json::from_slice(input) else {
        return;
    };
    let mut tree = object();
    patch::merge(&mut tree, &change);
    let mut twice = tree.clone();
    patch::merge(&mut twice, &change);
    assert_eq!(twice, tree, "a merge that was done changes nothing");
    fits(tree);
}

pub fn patch_strategic(input: &[u8]) {
    let Ok(change) = serde_json::from_slice(input) else {
        return;
    };
    let mut tree = object();
    match patch::strategic(&mut tree, &change, schema()) {
        Ok(()) => fits(tree),
        Err(error) => drop(error.to_string()),
    }
}

/// A Deployment has one version here.
struct OneVersion;

impl Versions for OneVersion {
    fn schema(&self, _: &str) -> Option<&Schema> {
        None
    }

    fn convert(&self, object: &Object, _: &str, _: &str) -> Object {
        object.clone()
    }
}

/// A configuration, and managed fields, from the same bytes: what can be applied can be applied again, and changes nothing
/// then.
pub fn apply(input: &[u8]) {
    let Ok(decoded) = decode_yaml(input, &Schema::preserve_unknown()) else {
        return;
    };
    let mut config = decoded.object;
    let sent = config.remove("metadata.managedFields");
    let writer = Writer {
        name: "me",
        version: "apps/v1",
        subresource: "",
        schema: schema(),
        versions: &OneVersion,
        reset: &["status"],
        now: "2026-01-01T00:00:00Z",
    };
    let mut live = Object::from_value(object()).expect("a map");
    live.set("metadata.uid", "u");
    live.set(
        "metadata.managedFields",
        schema::apply::update(&writer, None, &live, sent.as_ref()),
    );
    let Ok(once) = schema::apply::apply(&writer, Some(&live), &config, true) else {
        return;
    };
    let twice = schema::apply::apply(&writer, Some(&once), &config, true).expect("what was applied can be applied");
    assert_eq!(twice, once);
}

pub fn quantities(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    let printed = quantity.to_string();
    let again: Quantity = printed.parse().expect("what is printed can be read");
    assert_eq!(again.to_string(), printed, "the canonical form is its own");
    assert_eq!(
        (again.milli(), again.value()),
        (quantity.milli(), quantity.value()),
        "{text} is {printed}"
    );
}
