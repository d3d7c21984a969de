//! The public handle of a compiled schema.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use api::Object;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::{
    compile,
    model::{Definition, Field, Type},
};

/// What a kind's objects may hold. Cheap to clone; compiled on first use and then shared by the whole process.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    definition: &'static str,
    compile: fn(&str) -> Type,
    root: OnceLock<Type>,
    zero: OnceLock<Object>,
}

impl Schema {
    /// The schema of a k8s-openapi type, by its definition's name (`io.k8s.api.core.v1.Pod`).
    pub fn of<T: JsonSchema>(definition: &'static str) -> Self {
        Self(Arc::new(Inner {
            definition,
            compile: compile::root::<T>,
            root: OnceLock::new(),
            zero: OnceLock::new(),
        }))
    }

    /// A schema that keeps whatever it is given.
    pub fn preserve_unknown() -> Self {
        Self(Arc::new(Inner {
            definition: "",
            compile: |_| Type::Any,
            root: OnceLock::new(),
            zero: OnceLock::new(),
        }))
    }

    /// The definition's name, empty for a schema that keeps everything.
    pub fn definition(&self) -> &'static str {
        self.0.definition
    }

    pub(crate) fn root(&self) -> &Type {
        self.0.root.get_or_init(|| (self.0.compile)(self.0.definition))
    }

    /// An object that says nothing, as Go holds it: with the structs and scalars that it always has.
    pub(crate) fn zero(&self) -> &Object {
        self.0.zero.get_or_init(|| {
            let map = self.root().definition().map(zero).unwrap_or_default();
            Object::from_value(map.into()).expect("a map is an object")
        })
    }
}

fn zero(definition: &Definition) -> Map<String, Value> {
    let value = |field: &Field| match (&field.facts.zero, field.type_.definition()) {
        (Some(Value::Object(_)), Some(inner)) => Some(Value::Object(zero(inner))),
        (None, Some(_)) if &*field.name == "metadata" => Some(Value::Object(Map::new())),
        (known, _) => known.clone(),
    };
    let fields = definition.body().fields.iter();
    fields
        .filter_map(|field| Some((field.name.to_string(), value(field)?)))
        .collect()
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.definition).finish()
    }
}
