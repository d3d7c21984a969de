//! From k8s-openapi's JSON schema and the facts to the compiled form.
//!
//! Compiled definitions are kept for the life of the process, by name: a Deployment, a ReplicaSet and a Pod share one
//! PodSpec. A kind is compiled when it is first used.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock},
};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::{
    facts::{self, DefinitionFacts},
    model::{Definition, Facts, Field, Link, Struct, Type},
};

const PREFIX: &str = "#/$defs/";

/// A generator whose references are `#/$defs/<definition>`.
pub(crate) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.meta_schema = None)
        .into_generator()
}

/// Compiles a kind and all definitions it refers to.
pub(crate) fn root<T: JsonSchema>(definition: &str) -> Type {
    let mut generator = generator();
    let root: Value = T::json_schema(&mut generator).into();
    let definitions = generator.take_definitions(false);
    Registry::with(|registry| {
        let opaque = definitions.iter().filter(|(_, schema)| !has_fields(schema));
        registry.opaque.extend(opaque.map(|(name, _)| name.clone()));
        for (name, schema) in &definitions {
            registry.define(name, schema);
        }
        registry.define(definition, &root);
        registry.type_of_reference(definition)
    })
}

#[derive(Default)]
struct Registry {
    definitions: HashMap<String, Link>,
    /// Definitions without fields: anything may stand there.
    opaque: HashSet<String>,
}

impl Registry {
    fn with<R>(act: impl FnOnce(&mut Self) -> R) -> R {
        static ALL: OnceLock<Mutex<Registry>> = OnceLock::new();
        let mut registry = match ALL.get_or_init(Mutex::default).lock() {
            Ok(registry) => registry,
            // Each step leaves the registry whole: a definition is filled at once or not at all.
            Err(poisoned) => poisoned.into_inner(),
        };
        act(&mut registry)
    }

    fn link(&mut self, name: &str) -> Link {
        if let Some(link) = self.definitions.get(name) {
            return Arc::clone(link);
        }
        let link = Arc::new(Definition {
            name: name.to_owned(),
            body: OnceLock::new(),
        });
        self.definitions.insert(name.to_owned(), Arc::clone(&link));
        link
    }

    fn define(&mut self, name: &str, schema: &Value) {
        if special(name).is_some() || !has_fields(schema) {
            return;
        }
        let link = self.link(name);
        if link.body.get().is_none() {
            let body = self.structure(name, schema);
            link.body.get_or_init(|| body);
        }
    }

    fn structure(&mut self, name: &str, schema: &Value) -> Struct {
        let facts = facts::of(name);
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let field = |(field, schema): (&String, &Value)| {
            let facts = facts.and_then(|facts: &'static DefinitionFacts| facts.fields.get(field.as_str()));
            let facts = facts.unwrap_or(&facts::NONE);
            // k8s-openapi calls every object's metadata required; Kubernetes supplies it.
            let listed = field != "metadata" && required.iter().any(|name| name == field);
            Field {
                name: field.as_str().into(),
                type_: self.type_of(schema),
                required: facts.required.unwrap_or(listed),
                facts: Facts::Known(facts),
            }
        };
        let mut fields: Vec<Field> = properties.iter().map(field).collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Struct {
            fields: fields.into(),
            open: false,
        }
    }

    fn type_of(&mut self, schema: &Value) -> Type {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.type_of_reference(reference.strip_prefix(PREFIX).unwrap_or(reference));
        }
        let text = |key| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("type"), text("format")) {
            ("boolean", _) => Type::Bool,
            ("integer", "int32") => Type::Int32,
            ("integer", _) => Type::Int64,
            ("number", _) => Type::Double,
            ("string", "byte") => Type::Bytes,
            ("string", "date-time") => Type::Time,
            ("string", _) => Type::String,
            ("array", _) => Type::List(Box::new(self.inner(schema, "items"))),
            ("object", _) if schema.get("additionalProperties").is_some() => {
                Type::Map(Box::new(self.inner(schema, "additionalProperties")))
            }
            _ => Type::Any,
        }
    }

    fn inner(&mut self, schema: &Value, key: &str) -> Type {
        schema.get(key).map_or(Type::Any, |inner| self.type_of(inner))
    }

    fn type_of_reference(&mut self, name: &str) -> Type {
        match special(name) {
            Some(type_) => type_,
            None if self.opaque.contains(name) => Type::Any,
            None => Type::Struct(self.link(name)),
        }
    }
}

fn has_fields(schema: &Value) -> bool {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|fields| !fields.is_empty())
}

/// Definitions that are values of their own kind rather than maps of fields.
fn special(name: &str) -> Option<Type> {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Some(Type::Quantity),
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Some(Type::IntOrString),
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Some(Type::Time),
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Some(Type::MicroTime),
        _ => None,
    }
}
