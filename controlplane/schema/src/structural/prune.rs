//! Pruning: what a schema does not name goes, unless it says that unknown fields stay.
//!
//! The metadata of a resource, its version and kind are never pruned by the schema: they are checked as such.

use api::Path;
use serde_json::{Map, Value};

use super::{Additional, Node};

/// More paths than this are not remembered.
const MAX_PATHS: usize = 100;

/// Prunes an object; returns what went.
pub(super) fn object(map: &mut Map<String, Value>, root: &Node) -> Vec<String> {
    let mut gone = Vec::new();
    prune_map(map, Some(root), root.preserve, &Path::default(), &mut gone);
    gone
}

/// Whether a value holds something that pruning would remove.
pub(super) fn would_change(value: &Value, node: &Node) -> bool {
    let mut copy = value.clone();
    let mut gone = Vec::new();
    prune(&mut copy, Some(node), &Path::default(), &mut gone);
    copy != *value
}

fn prune(value: &mut Value, node: Option<&Node>, at: &Path, gone: &mut Vec<String>) {
    let keep = node.is_some_and(|node| node.preserve);
    match value {
        Value::Object(map) => prune_map(map, node, keep, at, gone),
        Value::Array(list) => {
            let items = node.and_then(|node| node.items.as_deref());
            if keep && items.is_none() {
                return;
            }
            for (index, item) in list.iter_mut().enumerate() {
                prune(item, items, &at.index(index), gone);
            }
        }
        _ => {}
    }
}

fn prune_map(map: &mut Map<String, Value>, node: Option<&Node>, keep: bool, at: &Path, gone: &mut Vec<String>) {
    let resource = node.is_some_and(|node| node.embedded);
    map.retain(|key, value| {
        if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let known = node.and_then(|node| node.property(key));
        let additional = node.map_or(&Additional::Unsaid, |node| &node.additional);
        match (known, additional) {
            (Some(node), _) => prune(value, Some(node), &at.child(key), gone),
            (None, Additional::Schema(node)) => prune(value, Some(node), &at.child(key), gone),
            (None, _) if keep => {}
            (None, Additional::Bool(true)) => prune(value, None, &at.child(key), gone),
            (None, _) => {
                if gone.len() < MAX_PATHS {
                    gone.push(at.child(key).to_string());
                }
                return false;
            }
        }
        true
    });
}
