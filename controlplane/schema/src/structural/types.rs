//! A schema as a [`Type`]: for server-side apply and patches, which treat custom and built-in kinds alike.

use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Additional, JsonType, Node};
use crate::{
    compile,
    facts::{FieldFacts, ListKind},
    model::{Definition, Facts, Field, Struct, Type},
};

/// The type of a resource's root.
pub(super) fn root(node: &Node) -> Type {
    structure(node)
}

/// The type of `metadata`, shared with the built-in kinds.
pub(crate) fn metadata() -> Type {
    static METADATA: OnceLock<Type> = OnceLock::new();
    let make = || compile::root::<ObjectMeta>("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    METADATA.get_or_init(make).clone()
}

fn type_of(node: &Node) -> Type {
    match node.type_ {
        _ if node.int_or_string => Type::Any,
        Some(JsonType::Object) => match &node.additional {
            _ if node.embedded || !node.properties.is_empty() => structure(node),
            Additional::Schema(schema) => Type::Map(Box::new(type_of(schema))),
            Additional::Unsaid | Additional::Bool(_) => Type::Any,
        },
        Some(JsonType::Array) => Type::List(Box::new(node.items.as_deref().map_or(Type::Any, type_of))),
        Some(JsonType::String) => Type::String,
        Some(JsonType::Integer) => Type::Int64,
        Some(JsonType::Number) => Type::Double,
        Some(JsonType::Boolean) => Type::Bool,
        None => Type::Any,
    }
}

fn structure(node: &Node) -> Type {
    let mut fields: Vec<Field> = node
        .properties
        .iter()
        .filter(|(name, _)| !node.embedded || !matches!(&**name, "apiVersion" | "kind" | "metadata"))
        .map(|(name, property)| field(name, type_of(property), facts(property)))
        .collect();
    if node.embedded {
        fields.push(field("apiVersion", Type::String, None));
        fields.push(field("kind", Type::String, None));
        fields.push(field("metadata", metadata(), None));
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let definition = Definition {
        name: String::new(),
        body: OnceLock::from(Struct {
            fields: fields.into(),
            open: node.preserve,
        }),
    };
    Type::Struct(Arc::new(definition))
}

fn field(name: &str, type_: Type, facts: Option<FieldFacts>) -> Field {
    Field {
        name: name.into(),
        type_,
        required: false,
        facts: facts.map_or(Facts::NONE, |facts| Facts::Own(Box::new(facts))),
    }
}

/// What merging has to know of a field, if anything.
fn facts(node: &Node) -> Option<FieldFacts> {
    (node.list != ListKind::Unsaid || node.map_atomic || node.default.is_some()).then(|| FieldFacts {
        list: node.list.clone(),
        map_atomic: node.map_atomic,
        default: node.default.clone(),
        ..FieldFacts::default()
    })
}
