//! An object without some of its fields and items.

use serde_json::{Map, Value};

use super::{
    element::Element,
    set::{Node, Set},
    shape::{Fields, Items, Shape, Slot, root_fields},
};
use crate::schema::Schema;

/// Removes the paths of a set. A map or list that loses everything becomes null, which is not the same as absent until
/// the object is decoded again; so does an atomic one of which a part should go.
pub(super) fn remove(object: Map<String, Value>, paths: &Set<'_>, schema: &Schema) -> Map<String, Value> {
    maps(object, paths, root_fields(schema))
}

fn values(value: Value, paths: &Set<'_>, slot: Slot<'_>) -> Value {
    let filled = |empty: bool, value: Value| if empty { Value::Null } else { value };
    match (slot.shape(Some(&value)), value) {
        (Shape::Scalar, value) => value,
        (Shape::Fields(fields), Value::Object(map)) => {
            let left = maps(map, paths, fields);
            filled(left.is_empty(), Value::Object(left))
        }
        (Shape::Items(items), Value::Array(list)) => {
            let left = lists(list, paths, items);
            filled(left.is_empty(), Value::Array(left))
        }
        _ => Value::Null,
    }
}

fn maps(map: Map<String, Value>, paths: &Set<'_>, fields: Fields<'_>) -> Map<String, Value> {
    let keep = |(name, value): (String, Value)| {
        let slot = fields.slot_or_any(&name);
        let value = match paths.get(&Element::field(&name)) {
            Some(node) => below(value, node, slot)?,
            None => value,
        };
        Some((name, value))
    };
    map.into_iter().filter_map(keep).collect()
}

fn below(value: Value, node: &Node<'_>, slot: Slot<'_>) -> Option<Value> {
    match (node.member, node.children.is_empty()) {
        (true, _) => None,
        (false, true) => Some(value),
        (false, false) => Some(values(value, &node.children, slot)),
    }
}

fn lists(list: Vec<Value>, paths: &Set<'_>, items: Items<'_>) -> Vec<Value> {
    let keep = |item: Value| {
        let node = items.element(&item).ok().and_then(|element| paths.get(&element));
        match node {
            Some(node) => below(item, node, items.item),
            None => Some(item),
        }
    };
    list.into_iter().filter_map(keep).collect()
}

/// Adds to a set the fields that lead to its paths, where the schema names them: a Deployment's `spec`, but not a label's
/// map nor a list's item.
pub(super) fn with_named_fields<'a>(set: &Set<'a>, schema: &Schema) -> Set<'a> {
    named(set, Some(Shape::Fields(root_fields(schema))))
}

fn named<'a>(set: &Set<'a>, shape: Option<Shape<'_>>) -> Set<'a> {
    let mut out = Set::default();
    for node in set.nodes() {
        let (declared, slot) = match (&node.element, shape) {
            (Element::Field(name), Some(Shape::Fields(fields))) => (fields.declares(name), fields.slot(name)),
            (Element::Key(_), Some(Shape::Items(items))) => (false, Some(items.item)),
            _ => (false, None),
        };
        out.put(Node {
            element: node.element.clone(),
            member: node.member || (declared && !node.children.is_empty()),
            children: named(&node.children, slot.map(|slot| slot.granular())),
        });
    }
    out
}
