//! The public handle of a compiled schema.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use schemars::JsonSchema;

use crate::{compile, model::Type};

/// What a kind's objects may hold. Cheap to clone; compiled on first use and then shared by the whole process.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    definition: &'static str,
    compile: fn(&str) -> Type,
    root: OnceLock<Type>,
}

impl Schema {
    /// The schema of a k8s-openapi type, by its definition's name (`io.k8s.api.core.v1.Pod`).
    pub fn of<T: JsonSchema>(definition: &'static str) -> Self {
        Self(Arc::new(Inner {
            definition,
            compile: compile::root::<T>,
            root: OnceLock::new(),
        }))
    }

    /// A schema that keeps whatever it is given.
    pub fn preserve_unknown() -> Self {
        Self(Arc::new(Inner {
            definition: "",
            compile: |_| Type::Any,
            root: OnceLock::new(),
        }))
    }

    /// The definition's name, empty for a schema that keeps everything.
    pub fn definition(&self) -> &'static str {
        self.0.definition
    }

    pub(crate) fn root(&self) -> &Type {
        self.0.root.get_or_init(|| (self.0.compile)(self.0.definition))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.definition).finish()
    }
}
