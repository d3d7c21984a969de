//! Defaulting: first the facts' static defaults of a definition, then what follows from its other fields, then the same
//! for what it holds, as Kubernetes does. Because defaults belong to definitions, templates get them too.
//!
//! Absent here are defaults that need more than the tree: addresses, identities, what admission adds.

mod computed;
#[cfg(test)]
mod tests;

use api::Object;
use serde_json::{Map, Value};

use crate::{
    model::{Definition, Type},
    schema::Schema,
};

/// Fills in what Kubernetes fills in. Doing it twice changes nothing more.
pub fn default(object: &mut Object, schema: &Schema) {
    if let Some(structural) = schema.custom() {
        structural.default(object);
    } else if let Some(definition) = schema.root().definition() {
        fill_struct(object.map_mut(), definition);
    }
}

fn fill(value: &mut Value, type_: &Type) {
    match (type_, value) {
        (Type::Struct(link), Value::Object(map)) => fill_struct(map, link),
        (Type::List(item), Value::Array(list)) => list.iter_mut().for_each(|value| fill(value, item)),
        (Type::Map(inner), Value::Object(map)) => map.values_mut().for_each(|value| fill(value, inner)),
        _ => {}
    }
}

fn fill_struct(map: &mut Map<String, Value>, definition: &Definition) {
    for field in &definition.body().fields {
        if let Some(default) = &field.facts.default
            && is_unset(map.get(&*field.name), default)
        {
            map.insert(field.name.to_string(), default.clone());
        }
    }
    if let Some(compute) = computed::of(&definition.name) {
        compute(map);
    }
    for (name, value) in map.iter_mut() {
        if let Some(field) = definition.body().field(name) {
            fill(value, &field.type_);
        }
    }
}

/// In Go an empty text is no different from none.
fn is_unset(value: Option<&Value>, default: &Value) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty() && default.is_string(),
        Some(_) => false,
    }
}
