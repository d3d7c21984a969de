//! CSINode: the storage drivers of a node, as its agent reports them.

use std::collections::HashSet;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::storage::v1::CSINode;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_subdomain, is_qualified_name};
use crate::resources::validation::{At, driver, meta};

const MAX_ID: usize = 256;

pub(crate) fn resource() -> Resource {
    Resource::of::<CSINode>()
        .strategy(Nodes)
        .printer(definitions(), cells)
        .build()
}

struct Nodes;

impl Strategy for Nodes {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let drivers = At::root(new, "spec").child("drivers");
        let mut names = HashSet::new();
        for one in drivers.items() {
            rules(&one, &mut errors);
            if !names.insert(one.child("name").str()) {
                errors.push(one.child("name").duplicate());
            }
            topology_keys(&one, &mut errors);
        }
        if let Some(old) = op.old() {
            unchanged(old.list_at("spec.drivers"), &drivers, &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn rules(at: &At<'_>, errors: &mut FieldErrors) {
    driver::name(&at.child("name"), errors);
    let id = at.child("nodeID");
    if id.is_empty() {
        errors.push(id.required(""));
    }
    if id.str().len() > MAX_ID {
        errors.push(id.invalid(format!("must be {MAX_ID} characters or less")));
    }
    at.child("allocatable").child("count").non_negative(errors);
}

/// Kubernetes reports a key's faults at its driver.
fn topology_keys(at: &At<'_>, errors: &mut FieldErrors) {
    let mut known = HashSet::new();
    for key in at.child("topologyKeys").items() {
        if key.is_empty() {
            errors.push(at.required(""));
        }
        if !known.insert(key.str()) {
            errors.push(at.duplicate_as(key.str()));
        }
        let messages = is_qualified_name(key.str()).into_iter();
        errors.extend(messages.map(|message| at.invalid_as(key.str(), message)));
    }
}

/// Of a driver that stays, only what it can still take may change.
fn unchanged(old: &[Value], new: &At<'_>, errors: &mut FieldErrors) {
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        driver.as_object_mut().and_then(|map| map.remove("allocatable"));
        driver
    };
    for before in old.iter().map(fixed) {
        let after = new.items().into_iter().filter_map(|at| at.value().map(fixed));
        for changed in after.filter(|after| after.get("name") == before.get("name") && *after != before) {
            errors.push(new.invalid_as(changed, "field is immutable"));
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Drivers|integer||How many drivers the node has.",
        "Age|string",
    ])
}

fn cells(node: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        node.name().into(),
        node.list_at("spec.drivers").len().into(),
        age(node.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let node = |drivers: Value| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n1",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"drivers": drivers}})
    };
    let good =
        json!({"name": "disk.example.com", "nodeID": "i-1", "topologyKeys": ["zone"], "allocatable": {"count": 8}});
    crate::resources::testing::Cases {
        valid: vec![node(json!([good.clone()]))],
        invalid: vec![(
            node(
                json!([good.clone(), {"name": "disk.example.com", "nodeID": "", "topologyKeys": ["a", "a"],
                "allocatable": {"count": -1}}]),
            ),
            vec![
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers[1].name: Duplicate value: \"disk.example.com\"",
                "spec.drivers[1]: Duplicate value: \"a\"",
            ],
        )],
        table: vec![node(json!([good]))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn a_driver_keeps_its_identity_and_may_change_its_capacity() {
        let node = |id: &str, count: i64| {
            object(json!({"metadata": {"name": "n"}, "spec": {"drivers": [
                {"name": "a.b", "nodeID": id, "allocatable": {"count": count}}]}}))
        };
        let found = |old: &Object, new: &Object| {
            context(None, |cx| messages(Nodes.validate(cx, &Operation::Update { old }, new)))
        };
        assert!(found(&node("1", 1), &node("1", 2)).is_empty());
        assert_eq!(
            found(&node("1", 1), &node("2", 1)),
            ["spec.drivers: Invalid value: {\"name\":\"a.b\",\"nodeID\":\"2\"}: field is immutable"]
        );
    }
}
