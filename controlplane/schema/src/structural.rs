//! Structural schemas: what a CustomResourceDefinition says of its objects, compiled.
//!
//! A schema is checked once, when its definition is written ([`check`]), and compiled when its kind is served
//! ([`Structural::compile`]). Objects are pruned, defaulted and validated by walking the compiled [`Node`]s; server-side
//! apply and patches see the same schema as a [`Type`](crate::model::Type). Nothing here outlives the last holder of the
//! [`Structural`]: a definition that goes takes its schema along.

mod check;
mod expressions;
mod extent;
mod fill;
mod format;
mod lists;
mod pattern;
mod prune;
mod rules;
#[cfg(test)]
mod tests;
mod types;
mod validate;

use std::sync::Arc;

use api::{FieldError, FieldErrors, Object, Path};
use serde_json::{Map, Value};

pub use check::{check, field_at};
pub use format::is_known as is_known_format;
pub(crate) use types::metadata;
pub use validate::Part;

use self::{expressions::Rule, pattern::Pattern};
use crate::{facts::ListKind, model::Type};

/// A compiled schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Structural(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Node,
    type_: Type,
}

/// What was found wrong with an object, and what is only told: errors in what an update did not change.
#[derive(Debug, Default)]
pub struct Findings {
    pub errors: FieldErrors,
    pub warnings: Vec<String>,
}

impl Structural {
    /// Compiles a schema that [`check`] found nothing wrong with; what it would have refused is left out.
    pub fn compile(schema: &Value) -> Self {
        let mut root = Node::read(schema, true);
        // The root is a resource, as if it were embedded.
        root.embedded = true;
        let type_ = types::root(&root);
        Self(Arc::new(Inner { root, type_ }))
    }

    pub(crate) fn root(&self) -> &Node {
        &self.0.root
    }

    pub(crate) fn type_(&self) -> &Type {
        &self.0.type_
    }

    /// The type of objects as expressions see them.
    pub(crate) fn cel_type(&self) -> Option<crate::cel::Type> {
        expressions::type_of(&self.0.root)
    }

    /// Whether there are rules in CEL, which take time.
    pub fn has_rules(&self) -> bool {
        self.root().has_rules
    }

    /// Removes what the schema does not know; returns the paths removed.
    pub fn prune(&self, object: &mut Object) -> Vec<String> {
        prune::object(object.map_mut(), self.root())
    }

    /// Fills in defaults, and drops nulls where they may not be.
    pub fn default(&self, object: &mut Object) {
        fill::object(object.map_mut(), self.root());
    }

    /// Everything wrong with an object, or with its status alone. What equals the old object is not held against it.
    pub fn validate(&self, object: &Object, old: Option<&Object>, part: Part) -> Findings {
        validate::object(self.root(), object, old, part)
    }
}

/// The JSON types of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl JsonType {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What may stand under keys that are not named.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    /// Nothing was said: such keys are pruned.
    #[default]
    Unsaid,
    Bool(bool),
    Schema(Box<Node>),
}

/// One schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) type_: Option<JsonType>,
    pub(crate) nullable: bool,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    pub(crate) int_or_string: bool,
    pub(crate) map_atomic: bool,
    pub(crate) list: ListKind,
    pub(crate) items: Option<Box<Node>>,
    /// Sorted by name.
    pub(crate) properties: Box<[(Box<str>, Node)]>,
    pub(crate) additional: Additional,
    pub(crate) default: Option<Value>,
    pub(crate) limits: Option<Box<Limits>>,
    pub(crate) rules: Box<[Rule]>,
    /// Whether this schema or one below it has CEL rules.
    pub(crate) has_rules: bool,
}

/// The value validations of a schema.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) format: Option<Box<str>>,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) values: Option<Box<[Value]>>,
    pub(crate) required: Box<[Box<str>]>,
    pub(crate) all_of: Box<[Node]>,
    pub(crate) any_of: Box<[Node]>,
    pub(crate) one_of: Box<[Node]>,
    pub(crate) not: Option<Box<Node>>,
}

impl Node {
    /// Reads a schema. `spine` is false inside `allOf`, `anyOf`, `oneOf` and `not`, which hold no rules.
    pub(crate) fn read(schema: &Value, spine: bool) -> Self {
        let Some(map) = schema.as_object() else {
            return Self::default();
        };
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or_default();
        let text = |name: &str| map.get(name).and_then(Value::as_str);
        let mut properties: Vec<(Box<str>, Node)> = map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str().into(), Node::read(schema, spine)))
            .collect();
        properties.sort_by(|a, b| a.0.cmp(&b.0));
        let mut node = Node {
            type_: text("type").and_then(JsonType::parse),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            map_atomic: text("x-kubernetes-map-type") == Some("atomic"),
            list: list_kind(map),
            items: map.get("items").map(|items| Box::new(Node::read(items, spine))),
            properties: properties.into(),
            additional: match map.get("additionalProperties") {
                None | Some(Value::Null) => Additional::Unsaid,
                Some(Value::Bool(allowed)) => Additional::Bool(*allowed),
                Some(schema) => Additional::Schema(Box::new(Node::read(schema, spine))),
            },
            default: map.get("default").filter(|value| !value.is_null()).cloned(),
            limits: Limits::read(map),
            ..Node::default()
        };
        if spine {
            node.rules = expressions::read(map);
        }
        node.has_rules = !node.rules.is_empty() || node.children().any(|child| child.has_rules);
        node
    }

    fn children(&self) -> impl Iterator<Item = &Node> {
        let additional = match &self.additional {
            Additional::Schema(schema) => Some(&**schema),
            _ => None,
        };
        let properties = self.properties.iter().map(|(_, node)| node);
        properties.chain(self.items.as_deref()).chain(additional)
    }

    pub(crate) fn property(&self, name: &str) -> Option<&Node> {
        let at = self
            .properties
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()?;
        self.properties.get(at).map(|(_, node)| node)
    }

    /// The schema of what stands under a key.
    pub(crate) fn at_key(&self, name: &str) -> Option<&Node> {
        match (self.property(name), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// Whether a null may not stand here.
    pub(crate) fn refuses(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }
}

fn list_kind(map: &Map<String, Value>) -> ListKind {
    match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(
            strings(map, "x-kubernetes-list-map-keys")
                .map(|key| key.to_owned().into())
                .collect(),
        ),
        Some("atomic") => ListKind::Atomic,
        _ => ListKind::Unsaid,
    }
}

fn strings<'a>(map: &'a Map<String, Value>, field: &str) -> impl Iterator<Item = &'a str> {
    map.get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

impl Limits {
    fn read(map: &Map<String, Value>) -> Option<Box<Self>> {
        const WORDS: [&str; 19] = [
            "format",
            "minimum",
            "exclusiveMinimum",
            "maximum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "pattern",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "enum",
            "required",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !WORDS.iter().any(|word| map.contains_key(*word)) {
            return None;
        }
        let number = |name: &str| map.get(name).and_then(Value::as_f64);
        let count = |name: &str| map.get(name).and_then(Value::as_u64);
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or_default();
        let text = |name: &str| map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let all = |name: &str| {
            let list = map.get(name).and_then(Value::as_array).into_iter().flatten();
            list.map(|schema| Node::read(schema, false)).collect()
        };
        Some(Box::new(Limits {
            format: text("format").map(Into::into),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: text("pattern").map(Pattern::new),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            values: map
                .get("enum")
                .and_then(Value::as_array)
                .map(|list| list.clone().into()),
            required: strings(map, "required").map(Into::into).collect(),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: map.get("not").map(|schema| Box::new(Node::read(schema, false))),
        }))
    }
}

/// Kubernetes names the root of an object so.
pub(crate) const ROOT: &str = "<nil>";

/// The root's path as errors name it.
fn shown(path: &Path) -> Path {
    match path.as_str() {
        "" => Path::root(ROOT),
        _ => path.clone(),
    }
}

fn push(errors: &mut FieldErrors, error: FieldError) {
    /// More than this nobody reads, and a hostile object could have millions.
    const MAX: usize = 1000;
    if errors.len() < MAX {
        errors.push(error);
    }
}
