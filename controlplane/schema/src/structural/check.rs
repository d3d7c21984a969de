//! Whether a schema is structural: every value has a schema of its own, and what `allOf`, `anyOf`, `oneOf` and `not` say is
//! about values that are known without them. Worded as Kubernetes words it.
//!
//! Read off the JSON of the schema, since what is forbidden has no place in the compiled form.

use std::collections::BTreeMap;

use api::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};

use super::{Findings, Node, expressions, pattern, prune, rules, validate};

type Tree = Map<String, Value>;

/// Everything wrong with the schema of a version, which stands at `at`. `status` is whether the version has a status
/// subresource.
pub fn check(schema: &Value, at: &Path, status: bool) -> FieldErrors {
    let Some(map) = schema.as_object() else {
        return vec![FieldError::required(at, "")];
    };
    let mut errors = FieldErrors::new();
    if status {
        check_root_fields(map, at, &mut errors);
    }
    if flag(map, "nullable") {
        errors.push(FieldError::forbidden(
            &at.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let mut structural = FieldErrors::new();
    invariants(map, Level::Root, at, &mut structural);
    completeness(map, at, &mut structural);
    structural.sort_by_cached_key(ToString::to_string);
    if structural.is_empty() {
        let mut node = Node::read(schema, true);
        node.embedded = true;
        defaults(&node, false, at, &mut structural);
    }
    let sound = structural.is_empty();
    errors.append(&mut structural);
    let mut found = rules::check(map, at, sound);
    errors.append(&mut found);
    errors
}

/// As Go names the fields of a schema.
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
                       Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                       XPreserveUnknownFields XValidations]";
/// What may not stand at the root beside a status subresource.
const NOT_AT_ROOT: [&str; 22] = [
    "id",
    "$schema",
    "$ref",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "nullable",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

fn check_root_fields(map: &Tree, at: &Path, errors: &mut FieldErrors) {
    let type_ = text(map, "type");
    if !type_.is_empty() && type_ != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(&at.child("type"), type_, why));
        return;
    }
    let set = |name: &&str| {
        map.get(*name)
            .is_some_and(|value| *value != Value::Bool(false) && !value.is_null())
    };
    if NOT_AT_ROOT.iter().any(set) {
        let why =
            format!("only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled");
        errors.push(FieldError::invalid(at, Value::Object(map.clone()), why));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn flag(map: &Tree, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn text<'a>(map: &'a Tree, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn tree<'a>(map: &'a Tree, name: &str) -> Option<&'a Tree> {
    map.get(name).and_then(Value::as_object)
}

fn trees<'a>(map: &'a Tree, name: &str) -> impl Iterator<Item = (usize, &'a Tree)> {
    let list = map.get(name).and_then(Value::as_array).into_iter().flatten();
    list.enumerate()
        .filter_map(|(nth, value)| Some((nth, value.as_object()?)))
}

fn properties(map: &Tree) -> impl Iterator<Item = (&String, &Tree)> {
    let all = tree(map, "properties").into_iter().flatten();
    all.filter_map(|(name, value)| Some((name, value.as_object()?)))
}

fn property_path(at: &Path, name: &str) -> Path {
    at.child("properties").key(name)
}

fn invariants(map: &Tree, level: Level, at: &Path, errors: &mut FieldErrors) {
    let type_ = text(map, "type");
    if type_ == "array" && !map.contains_key("items") {
        errors.push(FieldError::required(&at.child("items"), "must be specified"));
    }
    if let Some(items) = tree(map, "items") {
        invariants(items, Level::Item, &at.child("items"), errors);
    }
    for (name, property) in properties(map) {
        invariants(property, Level::Field, &property_path(at, name), errors);
    }
    if map.get("additionalProperties").is_some_and(|value| !value.is_null()) {
        let path = at.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if let Some(additional) = tree(map, "additionalProperties") {
            invariants(additional, Level::Field, &path, errors);
        }
    }
    extensions(map, at, errors);
    let skip_any = is_int_or_string(map.get("anyOf"));
    let first = trees(map, "allOf").next().map(|(_, first)| first);
    let skip_first = first.is_some_and(|first| is_int_or_string(first.get("anyOf")));
    value_validation(map, skip_any, skip_first, at, errors);
    typed(map, level, at, errors);
    resource_fields(map, level, at, errors);
}

/// `anyOf: [{type: integer}, {type: string}]`, the one use of types in a combination.
fn is_int_or_string(any_of: Option<&Value>) -> bool {
    any_of == Some(&serde_json::json!([{ "type": "integer" }, { "type": "string" }]))
}

fn extensions(map: &Tree, at: &Path, errors: &mut FieldErrors) {
    if !flag(map, "x-kubernetes-int-or-string") {
        return;
    }
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(map, name) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&at.child(name), true, why));
        }
    }
}

fn typed(map: &Tree, level: Level, at: &Path, errors: &mut FieldErrors) {
    let (type_, path) = (text(map, "type"), at.child("type"));
    let embedded = flag(map, "x-kubernetes-embedded-resource");
    let free = flag(map, "x-kubernetes-int-or-string") || flag(map, "x-kubernetes-preserve-unknown-fields");
    if embedded && type_ != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match type_ {
            "" => FieldError::required(&path, why),
            type_ => FieldError::invalid(&path, type_, why),
        });
    } else if type_.is_empty() && !free {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&path, why));
    }
    if embedded && map.get("additionalProperties").is_some_and(|value| !value.is_null()) {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&at.child("additionalProperties"), why));
    }
    if level == Level::Root && !type_.is_empty() && type_ != "object" {
        errors.push(FieldError::invalid(&path, type_, "must be object at the root"));
    }
}

/// What resources have of themselves may be narrowed only in its names.
fn resource_fields(map: &Tree, level: Level, at: &Path, errors: &mut FieldErrors) {
    let embedded = flag(map, "x-kubernetes-embedded-resource");
    let resource = level == Level::Root || embedded;
    let all = tree(map, "properties");
    let property = |name: &str| all.and_then(|all| tree(all, name));
    for name in ["kind", "apiVersion"] {
        if let Some(property) = property(name).filter(|_| resource)
            && text(property, "type") != "string"
        {
            let path = property_path(at, name).child("type");
            errors.push(FieldError::invalid(&path, text(property, "type"), "must be string"));
        }
    }
    if let Some(metadata) = property("metadata") {
        let path = property_path(at, "metadata");
        if resource && text(metadata, "type") != "object" {
            errors.push(FieldError::invalid(
                &path.child("type"),
                text(metadata, "type"),
                "must be object",
            ));
        }
        if level == Level::Root && !restricts_names_only(metadata) {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    let preserves = flag(map, "x-kubernetes-preserve-unknown-fields");
    if embedded && !preserves && all.is_none_or(Map::is_empty) {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at.child("properties"), why));
    }
}

fn restricts_names_only(metadata: &Tree) -> bool {
    metadata.iter().all(|(word, value)| match word.as_str() {
        "type" | "default" => true,
        "properties" => value
            .as_object()
            .is_some_and(|all| all.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))),
        _ => value.is_null(),
    })
}

fn value_validation(map: &Tree, skip_any: bool, skip_first: bool, at: &Path, errors: &mut FieldErrors) {
    if !skip_any {
        for (nth, inner) in trees(map, "anyOf") {
            nested(inner, false, &at.child("anyOf").index(nth), errors);
        }
    }
    for (nth, inner) in trees(map, "allOf") {
        nested(inner, skip_first && nth == 0, &at.child("allOf").index(nth), errors);
    }
    for (nth, inner) in trees(map, "oneOf") {
        nested(inner, false, &at.child("oneOf").index(nth), errors);
    }
    if let Some(inner) = tree(map, "not") {
        nested(inner, false, &at.child("not"), errors);
    }
    let expression = text(map, "pattern");
    if !expression.is_empty()
        && let Err(why) = pattern::compile(expression)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&at.child("pattern"), expression, why));
    }
}

/// What no schema within a combination may say, and the words for it.
const NOT_NESTED: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

fn nested(map: &Tree, skip_any: bool, at: &Path, errors: &mut FieldErrors) {
    value_validation(map, skip_any, false, at, errors);
    if let Some(items) = tree(map, "items") {
        nested(items, false, &at.child("items"), errors);
    }
    for (name, property) in properties(map) {
        nested(property, false, &property_path(at, name), errors);
    }
    let said = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    for (word, why) in NOT_NESTED {
        let always = word == "additionalProperties" || word == "default";
        if map
            .get(word)
            .is_some_and(|value| said(value) || (always && !value.is_null()))
        {
            errors.push(FieldError::forbidden(&at.child(word), why));
        }
    }
    if map.get("x-kubernetes-validations").is_some_and(said) {
        let path = at.child("x-kubernetes-validations");
        errors.push(FieldError::forbidden(&path, "must be empty to be structural"));
    }
    if tree(map, "properties").is_some_and(|all| all.contains_key("metadata")) {
        let path = property_path(at, "metadata");
        errors.push(FieldError::forbidden(
            &path,
            "must not be specified in a nested context",
        ));
    }
}

/// What combinations speak of must be specified outside of them.
fn completeness(map: &Tree, at: &Path, errors: &mut FieldErrors) {
    complete(map, Some(map), at, at, errors);
}

fn complete(validation: &Tree, spine: Option<&Tree>, at: &Path, from: &Path, errors: &mut FieldErrors) {
    for word in ["allOf", "anyOf", "oneOf"] {
        for (nth, inner) in trees(validation, word) {
            complete_nested(inner, spine, at, &from.child(word).index(nth), errors);
        }
    }
    if let Some(inner) = tree(validation, "not") {
        complete_nested(inner, spine, at, &from.child("not"), errors);
    }
}

fn complete_nested(validation: &Tree, spine: Option<&Tree>, at: &Path, from: &Path, errors: &mut FieldErrors) {
    let Some(spine) = spine else {
        errors.push(FieldError::required(at, format!("because it is defined in {from}")));
        return;
    };
    complete(validation, Some(spine), at, from, errors);
    if let Some(items) = tree(validation, "items") {
        complete_nested(
            items,
            tree(spine, "items"),
            &at.child("items"),
            &from.child("items"),
            errors,
        );
    }
    for (name, property) in properties(validation) {
        let (at, from) = (property_path(at, name), property_path(from, name));
        let known = tree(spine, "properties").and_then(|all| tree(all, name));
        complete_nested(property, known, &at, &from, errors);
    }
}

/// Defaults must be what the schema would accept and keep.
fn defaults(node: &Node, in_metadata: bool, at: &Path, errors: &mut FieldErrors) {
    if let Some(default) = &node.default {
        let path = at.child("default");
        if !in_metadata && prune::would_change(default, node) {
            errors.push(FieldError::invalid(
                &path,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let mut found = Findings {
            errors: validate::alone(node, default, &path),
            ..Findings::default()
        };
        if found.errors.is_empty() {
            expressions::run_alone(node, default, &path, &mut found);
        }
        errors.append(&mut found.errors);
    }
    if let Some(items) = &node.items {
        defaults(items, in_metadata, &at.child("items"), errors);
    }
    for (name, property) in &node.properties {
        let meta = node.embedded && matches!(&**name, "metadata" | "apiVersion" | "kind");
        defaults(property, in_metadata || meta, &property_path(at, name), errors);
    }
}

/// The schema at a simple JSON path (`.spec.size`) of a schema, and the path as field selectors name it.
///
/// # Errors
/// With what is wrong with the path, in Kubernetes' words.
pub fn field_at<'a>(schema: &'a Value, path: &str) -> Result<(String, &'a Value), String> {
    if path.contains('[') {
        return Err("array notation is not allowed".to_owned());
    }
    let mut at = schema;
    let mut fields = Vec::new();
    let Some(rest) = path.strip_prefix('.') else {
        return Err(format!("expected [ or . but got: {path}"));
    };
    for name in rest.split('.') {
        if name.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        at = below(at, name).ok_or("does not refer to a valid field")?.0;
        fields.push(name);
    }
    Ok((fields.join("."), at))
}

/// The schema below a name, and whether that is a field rather than a key.
fn below<'a>(schema: &'a Value, name: &str) -> Option<(&'a Value, bool)> {
    if let Some(properties) = schema
        .get("properties")
        .and_then(Value::as_object)
        .filter(|all| !all.is_empty())
    {
        return properties.get(name).map(|schema| (schema, true));
    }
    schema
        .get("additionalProperties")
        .filter(|value| value.is_object())
        .map(|schema| (schema, false))
}

/// The suffix that a rule's `fieldPath` adds to the path of its value: `.a.b`, `.a[key]`.
pub(super) fn field_path(schema: &Tree, path: &str) -> Result<String, String> {
    let schema = Value::Object(schema.clone());
    let mut at = &schema;
    let mut out = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (name, left) = token(rest)?;
        let (schema, named) = below(at, &name).ok_or("does not refer to a valid field")?;
        match named {
            true => out.push_str(&format!(".{name}")),
            false => out.push_str(&format!("[{name}]")),
        }
        at = schema;
        rest = left;
    }
    Ok(out)
}

/// The first step of a path, `.name` or `['name']`, and the rest.
fn token(path: &str) -> Result<(String, &str), String> {
    if let Some(rest) = path.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
        return match name {
            "" => Err("unexpected end of JSON path".to_owned()),
            name => Ok((name.to_owned(), rest)),
        };
    }
    let Some(rest) = path.strip_prefix("['") else {
        return Err(format!("expected [ or . but got: {path}"));
    };
    let mut name = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, escaped) = chars.next().ok_or("unexpected end of JSON path")?;
                let plain: BTreeMap<char, char> =
                    BTreeMap::from([('n', '\n'), ('r', '\r'), ('t', '\t'), ('\'', '\''), ('\\', '\\')]);
                let plain = plain.get(&escaped).ok_or(format!("invalid escape char \\{escaped}"))?;
                name.push(*plain);
            }
            '\'' => {
                let rest = rest.get(at + 1..).and_then(|rest| rest.strip_prefix(']'));
                return rest.map(|rest| (name, rest)).ok_or_else(|| "expected ]".to_owned());
            }
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}
