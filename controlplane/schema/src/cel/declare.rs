//! The types of what a schema describes, for expressions that are checked against it.

use std::collections::HashMap;

use super::{Type, check, escape};
use crate::model::{self, Definition};
use crate::schema::Schema;
use crate::structural::Structural;

/// The type of a kind's objects as expressions see them. Nothing is said of what may be text or a number.
pub fn declare(schema: &Schema) -> Type {
    match schema.custom() {
        Some(structural) => custom(structural),
        None => Declaring::default().type_(schema.root()),
    }
}

/// A custom resource; of its metadata nothing is said.
fn custom(structural: &Structural) -> Type {
    match structural.cel_type() {
        Some(Type::Object(fields)) => {
            let mut fields = (*fields).clone();
            fields.insert("metadata".to_owned(), Type::Dyn);
            check::object(fields)
        }
        _ => Type::Dyn,
    }
}

/// Definitions that are done; one that contains itself is not looked into twice.
#[derive(Default)]
struct Declaring(HashMap<String, Type>);

impl Declaring {
    fn type_(&mut self, of: &model::Type) -> Type {
        match of {
            model::Type::Any | model::Type::Quantity | model::Type::IntOrString => Type::Dyn,
            model::Type::Bool => Type::Bool,
            model::Type::Int32 | model::Type::Int64 => Type::Int,
            model::Type::Double => Type::Double,
            model::Type::String => Type::String,
            model::Type::Bytes => Type::Bytes,
            model::Type::Time | model::Type::MicroTime => Type::Timestamp,
            model::Type::List(item) => Type::List(self.type_(item).into()),
            model::Type::Map(value) => Type::Map(self.type_(value).into()),
            model::Type::Struct(link) => self.definition(link),
        }
    }

    fn definition(&mut self, of: &Definition) -> Type {
        if let Some(known) = self.0.get(&of.name) {
            return known.clone();
        }
        self.0.insert(of.name.clone(), Type::Dyn);
        let body = of.body();
        let declared = if body.open {
            Type::Dyn
        } else {
            let fields = body.fields.iter();
            let fields = fields.filter_map(|field| Some((escape(&field.name)?, self.type_(&field.type_))));
            let fields: Vec<_> = fields.collect();
            check::object(fields)
        };
        self.0.insert(of.name.clone(), declared.clone());
        declared
    }
}
