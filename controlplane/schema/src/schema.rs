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
    model::{Definition, Facts, Field, Struct, Type},
    structural::{Structural, metadata},
};

/// What a kind's objects may hold. Cheap to clone; compiled on first use and then shared by all who hold it.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

enum Inner {
    /// Compiled for the life of the process.
    BuiltIn {
        definition: &'static str,
        compile: fn(&str) -> Type,
        root: OnceLock<Type>,
        zero: OnceLock<Object>,
    },
    /// Of a CustomResourceDefinition; gone with it.
    Custom(Structural),
    Anything,
}

impl Schema {
    /// The schema of a k8s-openapi type, by its definition's name (`io.k8s.api.core.v1.Pod`).
    pub fn of<T: JsonSchema>(definition: &'static str) -> Self {
        Self(Arc::new(Inner::BuiltIn {
            definition,
            compile: compile::root::<T>,
            root: OnceLock::new(),
            zero: OnceLock::new(),
        }))
    }

    /// The schema of a custom resource.
    pub fn structural(structural: Structural) -> Self {
        Self(Arc::new(Inner::Custom(structural)))
    }

    /// A schema that keeps whatever it is given.
    pub fn preserve_unknown() -> Self {
        Self(Arc::new(Inner::Anything))
    }

    /// The definition's name, empty for a schema that keeps everything and for custom resources.
    pub fn definition(&self) -> &'static str {
        match &*self.0 {
            Inner::BuiltIn { definition, .. } => definition,
            Inner::Custom(_) | Inner::Anything => "",
        }
    }

    /// The schema as a CustomResourceDefinition gives it, if one does.
    pub fn custom(&self) -> Option<&Structural> {
        match &*self.0 {
            Inner::Custom(structural) => Some(structural),
            Inner::BuiltIn { .. } | Inner::Anything => None,
        }
    }

    pub(crate) fn root(&self) -> &Type {
        match &*self.0 {
            Inner::BuiltIn {
                definition,
                compile,
                root,
                ..
            } => root.get_or_init(|| compile(definition)),
            Inner::Custom(structural) => structural.type_(),
            Inner::Anything => &Type::Any,
        }
    }

    /// An object that says nothing, as Go holds it: with the structs and scalars that it always has.
    pub(crate) fn zero(&self) -> &Object {
        static EMPTY: OnceLock<Object> = OnceLock::new();
        let zero = match &*self.0 {
            Inner::BuiltIn { zero, .. } => zero,
            // What a custom resource has is what its author wrote.
            Inner::Custom(_) | Inner::Anything => return EMPTY.get_or_init(|| Object::new("", "")),
        };
        zero.get_or_init(|| {
            let map = self.root().definition().map(self::zero).unwrap_or_default();
            Object::from_value(map.into()).expect("a map is an object")
        })
    }

    /// What decoding goes by. Custom resources are decoded as they are, but for their metadata: what they hold is then
    /// pruned and validated, as Kubernetes does it.
    pub(crate) fn decoding(&self) -> &Type {
        match &*self.0 {
            Inner::Custom(_) => custom_resource(),
            Inner::BuiltIn { .. } | Inner::Anything => self.root(),
        }
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

fn custom_resource() -> &'static Type {
    static RESOURCE: OnceLock<Type> = OnceLock::new();
    RESOURCE.get_or_init(|| {
        let field = |name: &str, type_| Field {
            name: name.into(),
            type_,
            required: false,
            facts: Facts::NONE,
        };
        let fields = [
            field("apiVersion", Type::String),
            field("kind", Type::String),
            field("metadata", metadata()),
        ];
        Type::Struct(Arc::new(Definition {
            name: "unstructured.Unstructured".to_owned(),
            body: OnceLock::from(Struct {
                fields: fields.into(),
                open: true,
            }),
        }))
    })
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.definition()).finish()
    }
}
