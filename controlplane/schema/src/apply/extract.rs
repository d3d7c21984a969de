//! The set of paths that an object mentions: what an applier of it owns.

use serde_json::{Map, Value};

use super::{
    element::Element,
    set::{Node, Set},
    shape::{Fields, Items, Shape, Slot, root_fields},
};
use crate::schema::Schema;

/// Every leaf of an object, every list's item that can be told apart, and every entry of a map.
pub(super) fn extract<'a>(object: &'a Map<String, Value>, schema: &'a Schema) -> Set<'a> {
    of_map(object, root_fields(schema))
}

/// Whether a place itself is mentioned, and what below it is.
fn of_value<'a>(value: &'a Value, slot: Slot<'a>) -> (bool, Set<'a>) {
    match (slot.shape(Some(value)), value) {
        (Shape::Scalar | Shape::AtomicList | Shape::AtomicMap, _) => (true, Set::default()),
        (Shape::Items(items), Value::Array(list)) => (false, of_list(list, items)),
        (Shape::Fields(fields), Value::Object(map)) => (false, of_map(map, fields)),
        _ => (false, Set::default()),
    }
}

fn of_map<'a>(map: &'a Map<String, Value>, fields: Fields<'a>) -> Set<'a> {
    let mut set = Set::default();
    for (name, value) in map {
        let (leaf, children) = of_value(value, fields.slot_or_any(name));
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        set.put(Node {
            element: Element::field(name),
            member: leaf || empty || !fields.declares(name),
            children,
        });
    }
    set
}

/// Items that are there twice are mentioned as one, without what is in them. Items that cannot be told apart are not.
fn of_list<'a>(list: &'a [Value], items: Items<'a>) -> Set<'a> {
    let mut set = Set::default();
    for item in list {
        let Ok(element) = items.element(item) else { continue };
        let children = match set.get(&element) {
            Some(_) => Set::default(),
            None => of_value(item, items.item).1,
        };
        set.put(Node {
            element,
            member: true,
            children,
        });
    }
    set
}
