//! What Kubernetes asks of a schema beyond its being structural: which words it may use, how list and map types go
//! together, and that its rules compile.

use api::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};

use super::{Node, check::field_path, expressions, lists::has_repeats, strings};
use crate::cel::{CompileError, ESTIMATE_LIMIT, Program, Type};

type Tree = Map<String, Value>;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// All that is wrong; rules are compiled only if the schema around them is `sound`.
pub(super) fn check(schema: &Tree, at: &Path, sound: bool) -> FieldErrors {
    let mut errors = Errors::default();
    let place = Place {
        root: true,
        rules: sound,
        count: Some(1),
        ..Place::default()
    };
    visit(schema, at, &place, &mut errors);
    errors.schema.append(&mut errors.rules);
    errors.schema
}

#[derive(Default)]
struct Errors {
    schema: FieldErrors,
    rules: FieldErrors,
}

/// Where in the schema we are.
#[derive(Clone, Default)]
struct Place {
    root: bool,
    /// In the metadata, version or kind of a resource.
    in_metadata: bool,
    /// Why there may be no default, if there may not.
    no_defaults: Option<String>,
    /// The outermost value above that cannot be compared with what it was.
    uncorrelatable: Option<Path>,
    /// Whether rules are compiled here.
    rules: bool,
    /// How many values there may be here in one object; `None` where the schema sets no bound.
    count: Option<u64>,
}

impl Place {
    fn below(&self) -> Self {
        Self {
            root: false,
            ..self.clone()
        }
    }

    /// Within `allOf`, `anyOf`, `oneOf` and `not`.
    fn nested(&self) -> Self {
        Self {
            rules: false,
            ..self.below()
        }
    }

    /// Below a list or a map.
    fn many(mut self, schema: &Tree, items: bool) -> Self {
        let word = if items { "maxItems" } else { "maxProperties" };
        let most = schema.get(word).and_then(Value::as_u64);
        self.count = self.count.zip(most).map(|(count, most)| count.saturating_mul(most));
        self
    }

    fn cannot_compare(mut self, at: &Path, if_so: bool) -> Self {
        if if_so && self.uncorrelatable.is_none() {
            self.uncorrelatable = Some(at.clone());
        }
        self
    }
}

fn text<'a>(map: &'a Tree, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(map: &Tree, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn tree<'a>(map: &'a Tree, name: &str) -> Option<&'a Tree> {
    map.get(name).and_then(Value::as_object)
}

fn is_set(map: &Tree, name: &str) -> bool {
    match map.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    }
}

fn visit(schema: &Tree, at: &Path, place: &Place, errors: &mut Errors) {
    let before = errors.schema.len();
    words(schema, at, place, &mut errors.schema);
    maps(schema, at, place, errors);
    for word in ["allOf", "oneOf", "anyOf"] {
        let list = schema.get(word).and_then(Value::as_array).into_iter().flatten();
        for (nth, inner) in list.enumerate() {
            if let Some(inner) = inner.as_object() {
                visit(inner, &at.child(word).index(nth), &place.nested(), errors);
            }
        }
    }
    if let Some(not) = tree(schema, "not") {
        visit(not, &at.child("not"), &place.nested(), errors);
    }
    if let Some(items) = tree(schema, "items") {
        let list_map = text(schema, "x-kubernetes-list-type") == "map";
        let below = place.below().many(schema, true).cannot_compare(at, !list_map);
        visit(items, &at.child("items"), &below, errors);
    }
    kinds(schema, at, &mut errors.schema);
    list_maps(schema, at, &mut errors.schema);
    rules(schema, at, &mut errors.schema);
    if errors.schema.len() == before && place.rules {
        compile(schema, at, place, &mut errors.rules);
    }
}

/// Words that a schema may not use, or not so.
fn words(schema: &Tree, at: &Path, place: &Place, errors: &mut FieldErrors) {
    let type_ = text(schema, "type");
    if !type_.is_empty() && !TYPES.contains(&type_) {
        errors.push(FieldError::not_supported(&at.child("type"), type_, &TYPES));
    }
    if let Some(reason) = place.no_defaults.as_ref().filter(|_| is_set(schema, "default")) {
        errors.push(FieldError::forbidden(
            &at.child("default"),
            format!("must not be set {reason}"),
        ));
    }
    for word in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if is_set(schema, word) {
            errors.push(FieldError::forbidden(
                &at.child(word),
                format!("{word} is not supported"),
            ));
        }
    }
    if type_ == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&at.child("type"), why));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&at.child("items"), why));
    }
    if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let path = at.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&path, "must not be used inside of resource meta"));
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), why));
    }
}

fn maps(schema: &Tree, at: &Path, place: &Place, errors: &mut Errors) {
    let properties = tree(schema, "properties").filter(|all| !all.is_empty());
    if let Some(additional) = schema.get("additionalProperties").filter(|value| !value.is_null()) {
        let path = at.child("additionalProperties");
        if properties.is_some() && *additional != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.schema.push(FieldError::forbidden(&path, why));
        }
        if let Some(additional) = additional.as_object() {
            let mut below = place.below().many(schema, false);
            if place.in_metadata {
                below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
            }
            visit(additional, &path, &below, errors);
        }
    }
    let resource = place.root || flag(schema, "x-kubernetes-embedded-resource");
    let atomic = text(schema, "x-kubernetes-map-type") == "atomic";
    for (name, property) in properties.into_iter().flatten() {
        let Some(property) = property.as_object() else { continue };
        let mut below = place.below().cannot_compare(at, atomic);
        if resource && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            below.in_metadata = true;
            if place.root {
                below.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        visit(property, &at.child("properties").key(name), &below, errors);
    }
}

/// `x-kubernetes-preserve-unknown-fields`, `-map-type` and `-list-type`.
fn kinds(schema: &Tree, at: &Path, errors: &mut FieldErrors) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let path = at.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&path, false, "must be true or undefined"));
    }
    let type_ = text(schema, "type");
    let typed = |wanted: &str, word: &str, errors: &mut FieldErrors| {
        let why = format!("must be {wanted} if {word} is specified");
        errors.push(match type_ {
            "" => FieldError::required(&at.child("type"), why),
            type_ => FieldError::invalid(&at.child("type"), type_, why),
        });
    };
    if let Some(kind) = schema.get("x-kubernetes-map-type").and_then(Value::as_str) {
        if type_ != "object" {
            typed("object", "x-kubernetes-map-type", errors);
        }
        if !["atomic", "granular"].contains(&kind) {
            let path = at.child("x-kubernetes-map-type");
            errors.push(FieldError::not_supported(&path, kind, &["atomic", "granular"]));
        }
    }
    if let Some(kind) = schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        if type_ != "array" {
            typed("array", "x-kubernetes-list-type", errors);
        } else if kind == "set" {
            set_items(schema, at, errors);
        }
        if !["atomic", "set", "map"].contains(&kind) {
            let path = at.child("x-kubernetes-list-type");
            errors.push(FieldError::not_supported(&path, kind, &["atomic", "set", "map"]));
        }
    }
}

/// The items of a set are compared as wholes.
fn set_items(schema: &Tree, at: &Path, errors: &mut FieldErrors) {
    let Some(items) = tree(schema, "items") else { return };
    let (word, implied) = match text(items, "type") {
        "array" => ("x-kubernetes-list-type", true),
        "object" => ("x-kubernetes-map-type", false),
        _ => return,
    };
    let kind = text(items, word);
    if kind != "atomic" && !(kind.is_empty() && implied) {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let shown = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&at.child("items").child(word), shown, why));
    }
}

fn list_maps(schema: &Tree, at: &Path, errors: &mut FieldErrors) {
    let kind = text(schema, "x-kubernetes-list-type");
    let keys: Vec<&str> = strings(schema, "x-kubernetes-list-map-keys").collect();
    if !keys.is_empty() && kind != "map" {
        let path = at.child("x-kubernetes-list-type");
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match kind {
            "" => FieldError::required(&path, why),
            kind => FieldError::invalid(&path, kind, why),
        });
    }
    let items = tree(schema, "items");
    if kind == "map" {
        keyed(schema, &keys, items, at, errors);
    }
    let Some(items) = items.filter(|_| matches!(kind, "map" | "set")) else {
        return;
    };
    let path = at.child("items");
    if flag(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(&path.child("nullable"), why));
    }
    let required: Vec<&str> = strings(items, "required").collect();
    for key in keys.iter().filter(|_| kind == "map") {
        let Some(property) = tree(items, "properties").and_then(|all| tree(all, key)) else {
            continue;
        };
        let path = path.child("properties").key(key);
        if !required.contains(key) && !is_set(property, "default") {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&path.child("default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&path.child("nullable"), why));
        }
    }
}

fn keyed(schema: &Tree, keys: &[&str], items: Option<&Tree>, at: &Path, errors: &mut FieldErrors) {
    let path = at.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(
            &path,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    if !schema.contains_key("items") {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&at.child("items"), why));
    }
    let Some(items) = items else { return };
    let type_ = text(items, "type");
    if type_ != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&at.child("items").child("type"), type_, why));
        return;
    }
    for key in keys {
        match tree(items, "properties").and_then(|all| tree(all, key)) {
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&path, keys.to_vec(), why));
            }
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let path = at.child("items").child("properties").key(key).child("type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&path, type_, why));
            }
            Some(_) => {}
        }
    }
    if has_repeats(keys.iter().copied()) {
        errors.push(FieldError::invalid(
            &path,
            keys.to_vec(),
            "must not contain duplicate entries",
        ));
    }
}

fn rule_list(schema: &Tree) -> impl Iterator<Item = (usize, &Tree)> {
    let list = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let list = list.into_iter().flatten().enumerate();
    list.filter_map(|(nth, rule)| Some((nth, rule.as_object()?)))
}

/// The words of rules, without their meaning.
fn rules(schema: &Tree, at: &Path, errors: &mut FieldErrors) {
    let broken = |text: &str| text.contains(['\n', '\r']);
    for (nth, rule) in rule_list(schema) {
        let at = at.child("x-kubernetes-validations").index(nth);
        let field = |name: &str| (text(rule, name), at.child(name));
        let (body, path) = field("rule");
        let (message, message_path) = field("message");
        if body.trim().is_empty() {
            errors.push(FieldError::required(&path, "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(
                &message_path,
                message,
                "must be non-empty if specified",
            ));
        } else if broken(message.trim()) {
            errors.push(FieldError::invalid(
                &message_path,
                message,
                "must not contain line breaks",
            ));
        } else if broken(body.trim()) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&message_path, why));
        }
        let (expression, path) = field("messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.push(FieldError::required(
                &path,
                "messageExpression must be non-empty if specified",
            ));
        }
        let (reason, path) = field("reason");
        if !reason.is_empty() && !REASONS.contains(&reason) {
            errors.push(FieldError::not_supported(&path, reason, &REASONS));
        }
        let (target, path) = field("fieldPath");
        if target.is_empty() {
            continue;
        }
        if target.trim().is_empty() {
            errors.push(FieldError::invalid(&path, target, "must be non-empty if specified"));
        }
        if broken(target) {
            errors.push(FieldError::invalid(&path, target, "must not contain line breaks"));
        }
        if field_path(schema, target).is_err() {
            errors.push(FieldError::invalid(&path, target, "must be a valid path"));
        }
    }
}

/// What is said of a rule that could cost more than there is, and how much more.
fn too_costly(what: &str, cost: u64) -> String {
    let factor = cost as f64 / ESTIMATE_LIMIT as f64;
    let factor = match factor {
        _ if factor > 100.0 => "more than 100x".to_owned(),
        _ if factor < 1.5 => format!("{factor:.6}x"),
        _ => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// Compiles the rules of one schema against the type of its value.
fn compile(schema: &Tree, at: &Path, place: &Place, errors: &mut FieldErrors) {
    let mut node = None;
    for (nth, rule) in rule_list(schema) {
        let node = node.get_or_insert_with(|| {
            let mut node = Node::read(&Value::Object(schema.clone()), false);
            node.embedded |= place.root;
            node
        });
        let at = at.child("x-kubernetes-validations").index(nth);
        let optional = rule.get("optionalOldSelf");
        let self_type = expressions::type_of(node).unwrap_or(Type::Dyn);
        let old_type = match optional.and_then(Value::as_bool) {
            Some(true) => Type::Optional(self_type.clone().into()),
            _ => self_type.clone(),
        };
        let variables = [("self", self_type), ("oldSelf", old_type)];
        let (body, expression) = (text(rule, "rule"), text(rule, "messageExpression"));
        let wanted = (&Type::Bool, "cel expression must evaluate to a bool");
        let shown = || Value::Object(rule.clone());
        let compiled = match Program::compile(body, &variables, Some(wanted)) {
            Ok(program) => Some(program),
            Err(error) => {
                errors.push(FieldError::invalid(&at.child("rule"), shown(), error.to_string()));
                None
            }
        };
        let mut uses_old = compiled.as_ref().is_some_and(|program| program.uses("oldSelf"));
        if !expression.is_empty() {
            let wanted = (&Type::String, "messageExpression must evaluate to a string");
            match Program::compile(expression, &variables, Some(wanted)) {
                Ok(program) => uses_old |= program.uses("oldSelf"),
                Err(error @ CompileError::Result(_)) => {
                    errors.push(FieldError::invalid(
                        &at.child("messageExpression"),
                        shown(),
                        error.to_string(),
                    ));
                }
                Err(error) => {
                    let why = format!("messageExpression {error}");
                    errors.push(FieldError::invalid(&at.child("messageExpression"), shown(), why));
                }
            }
        }
        let count = place.count.unwrap_or_else(|| node.most_in_request());
        for (field, source, what) in [
            ("rule", body, "estimated rule cost"),
            ("messageExpression", expression, "estimated messageExpression cost"),
        ] {
            let cost = Program::estimate(source, &[("self", &*node), ("oldSelf", &*node)]);
            let cost = if field == "rule" {
                cost.saturating_mul(count)
            } else {
                cost
            };
            if cost > ESTIMATE_LIMIT {
                errors.push(FieldError::forbidden(&at.child(field), too_costly(what, cost)));
            }
        }
        match (&place.uncorrelatable, uses_old, optional) {
            (Some(above), true, _) => {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {above}");
                errors.push(FieldError::invalid(&at.child("rule"), body, why));
            }
            (_, false, Some(given)) if compiled.is_some() => {
                let why = "may not be set if oldSelf is not used in rule";
                errors.push(FieldError::invalid(&at.child("optionalOldSelf"), given.clone(), why));
            }
            _ => {}
        }
    }
}
