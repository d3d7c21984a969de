//! Defaults of a schema: for properties that are absent, or null where null may not be. What is null after that and may
//! not be goes.

use serde_json::{Map, Value};

use super::{Additional, Node};

pub(super) fn object(map: &mut Map<String, Value>, root: &Node) {
    fill_map(map, root);
    drop_nulls(map, root);
}

fn fill(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => fill_map(map, node),
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for item in list {
                supply(item, items);
                fill(item, items);
            }
        }
        _ => {}
    }
}

fn fill_map(map: &mut Map<String, Value>, node: &Node) {
    for (name, property) in &node.properties {
        let Some(default) = &property.default else { continue };
        if map.get(&**name).is_none_or(|value| property.refuses(value)) {
            map.insert(name.to_string(), default.clone());
        }
    }
    for (name, value) in map.iter_mut() {
        match (node.property(name), &node.additional) {
            (Some(property), _) => fill(value, property),
            (None, Additional::Schema(schema)) => {
                supply(value, schema);
                fill(value, schema);
            }
            _ => {}
        }
    }
}

fn supply(value: &mut Value, node: &Node) {
    if let Some(default) = node.default.as_ref().filter(|_| node.refuses(value)) {
        *value = default.clone();
    }
}

fn drop_nulls(map: &mut Map<String, Value>, node: &Node) {
    map.retain(|name, value| {
        let Some(schema) = node.at_key(name) else { return true };
        if schema.refuses(value) {
            return false;
        }
        drop_nulls_below(value, schema);
        true
    });
}

fn drop_nulls_below(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => drop_nulls(map, node),
        Value::Array(list) => {
            if let Some(items) = &node.items {
                list.iter_mut().for_each(|item| drop_nulls_below(item, items));
            }
        }
        _ => {}
    }
}
