//! A configuration merged into an object by a policy: nobody comes to own it, and it may not replace a list or map that
//! changes only as a whole, since what it leaves out would be gone.

use api::Object;
use serde_json::{Map, Value};

use super::element::Element;
use super::merge::merge;
use super::shape::{Fields, Shape, Slot, root_fields};
use super::validate::validate;
use crate::schema::Schema;

/// The object that `config` makes of `live`, both of this schema.
///
/// # Errors
/// When the configuration does not fit the schema, or touches something that changes only as a whole.
pub fn mutate(live: &Object, config: &Object, schema: &Schema) -> Result<Object, String> {
    if let Some(why) = validate(config.map(), schema) {
        return Err(format!("failed to convert patch object to typed object: {why}"));
    }
    let mut found = Atomics::default();
    found.map(config.map(), root_fields(schema));
    if !found.places.is_empty() {
        let places = found.places.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}"
        ));
    }
    let merged = merge(live.map(), config.map(), schema).map_err(|why| format!("failed to merge patch: {why}"))?;
    Object::from_value(Value::Object(merged)).map_err(|error| error.to_string())
}

/// What a configuration touches that changes only as a whole.
#[derive(Default)]
struct Atomics {
    path: String,
    places: Vec<String>,
}

impl Atomics {
    fn map(&mut self, map: &Map<String, Value>, fields: Fields<'_>) {
        for (name, value) in map {
            if let Some(slot) = fields.slot(name) {
                self.below(&Element::field(name), value, slot);
            }
        }
    }

    fn below(&mut self, element: &Element<'_>, value: &Value, slot: Slot<'_>) {
        let mark = self.path.len();
        self.path.push_str(&element.to_string());
        self.value(value, slot);
        self.path.truncate(mark);
    }

    fn value(&mut self, value: &Value, slot: Slot<'_>) {
        if value.is_null() || slot.is_any() {
            return;
        }
        match (slot.shape(Some(value)), value) {
            (Shape::AtomicList | Shape::AtomicMap, _) => self.places.push(self.path.clone()),
            (Shape::Fields(fields), Value::Object(map)) => self.map(map, fields),
            (Shape::Items(items), Value::Array(list)) => {
                for (index, item) in list.iter().enumerate() {
                    let index = i64::try_from(index).unwrap_or(i64::MAX);
                    self.below(&Element::Index(index), item, items.item);
                }
            }
            _ => {}
        }
    }
}
