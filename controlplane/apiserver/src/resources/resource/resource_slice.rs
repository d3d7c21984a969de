//! ResourceSlice: devices that a driver offers, on a node or for several.

use api::table::Column;
use api::time::{Timestamp, rfc3339};
use api::{FieldErrors, Object};
use k8s_openapi::api::resource::v1::ResourceSlice;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use super::lists::set;
use super::{device, names};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, driver, meta, pod};

const MAX_DEVICES: usize = 128;
/// Where devices have taints or consume counters.
const MAX_INTRICATE_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
/// Behind feature gates that are closed in Kubernetes 1.36.
const GATED: &str = "nodeAllocatableResourceMappings";
const GATED_VALUES: [&str; 4] = ["bools", "ints", "strings", "versions"];

pub(crate) fn resource() -> Resource {
    Resource::of::<ResourceSlice>()
        .strategy(Slices)
        .printer(definitions(), cells)
        .field("spec.nodeName")
        .field("spec.driver")
        .generation()
        .build()
}

struct Slices;

impl Strategy for Slices {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        if matches!(op, Operation::Delete { .. }) {
            return;
        }
        let old = op.old();
        let keep_mappings = old.is_some_and(|old| devices(old).any(|device| device.get(GATED).is_some()));
        let keep_lists = old.is_some_and(|old| devices(old).any(has_lists));
        let list = new.at_mut("spec.devices").and_then(Value::as_array_mut);
        for device in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            if !keep_mappings {
                device.remove(GATED);
            }
            let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
            let attributes = attributes.into_iter().flat_map(|map| map.values_mut());
            for attribute in attributes.filter_map(Value::as_object_mut).filter(|_| !keep_lists) {
                attribute.retain(|field, _| !GATED_VALUES.contains(&field.as_str()));
            }
            let taints = device.get_mut("taints").and_then(Value::as_array_mut);
            for taint in taints.into_iter().flatten().filter_map(Value::as_object_mut) {
                let time = taint.entry("timeAdded").or_insert(Value::Null);
                if time.is_null() {
                    *time = rfc3339(cx.now).into();
                }
            }
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        let old = op.old().map(|old| At::root(old, "spec"));
        driver::name(&spec.child("driver"), &mut errors);
        pool(&spec.child("pool"), &mut errors);
        if let Some(old) = &old {
            let name = |spec: &At<'_>| spec.child("pool").child("name").value().cloned();
            if name(&spec) != name(old) {
                errors.push(spec.child("pool").child("name").invalid("field is immutable"));
            }
            for field in ["driver", "nodeName"] {
                spec.child(field).immutable(&mut errors, &old.child(field));
            }
        }
        place(&spec, &mut errors);
        contents(&spec, old.as_ref(), &mut errors);
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        let driver = new.str_at("spec.driver").unwrap_or_default();
        if driver == driver.to_lowercase() {
            return Vec::new();
        }
        vec![format!(
            "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
        )]
    }
}

fn devices(slice: &Object) -> impl Iterator<Item = &Value> {
    slice.list_at("spec.devices").iter()
}

fn has_lists(device: &Value) -> bool {
    let attributes = device
        .get("attributes")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    attributes
        .into_iter()
        .any(|(_, attribute)| GATED_VALUES.iter().any(|field| attribute.get(field).is_some()))
}

fn pool(at: &At<'_>, errors: &mut FieldErrors) {
    names::pool(&at.child("name"), errors);
    let (count, generation) = (at.child("resourceSliceCount"), at.child("generation"));
    let number = count.i64().unwrap_or_default();
    if number <= 0 {
        errors.push(count.invalid_as(number, "must be greater than zero"));
    }
    if generation.i64().is_some_and(|generation| generation < 0) {
        errors.push(generation.invalid("must be greater than or equal to zero"));
    }
}

/// Where the devices can be used: said in one way.
fn place(spec: &At<'_>, errors: &mut FieldErrors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut given = Vec::new();
    let (name, selector) = (spec.child("nodeName"), spec.child("nodeSelector"));
    if name.is_set() && name.is_empty() {
        errors.push(name.invalid("must be either unset or set to a non-empty string"));
    } else if name.is_set() {
        given.push("`nodeName`");
        name.check(errors, is_dns1123_subdomain);
    }
    if selector.is_set() {
        given.push("`nodeSelector`");
        pod::node_selector_terms(&selector, errors);
        let terms = selector.child("nodeSelectorTerms");
        if terms.len() != 1 {
            errors.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (field, word) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        let flag = spec.child(field);
        if flag.bool() {
            given.push(word);
        } else if flag.is_set() {
            errors.push(flag.invalid("must be either unset or set to true"));
        }
    }
    match given.len() {
        0 => errors.push(spec.required(ONE)),
        1 => {}
        _ => errors.push(spec.invalid_as(
            format!("{{{}}}", given.join(", ")),
            format!("{ONE}, but multiple fields are set"),
        )),
    }
}

/// The devices, or the counters that devices of other slices of the pool share.
fn contents(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut FieldErrors) {
    let (devices, counters) = (spec.child("devices"), spec.child("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        errors.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let intricate = |at: &At<'_>| {
        let lists = at.value().is_some_and(has_lists);
        lists
            || ["taints", "consumesCounters"]
                .iter()
                .any(|field| !at.child(field).is_empty())
    };
    let max = match devices.items().iter().any(intricate) {
        true => MAX_INTRICATE_DEVICES,
        false => MAX_DEVICES,
    };
    let per_device = spec.child("perDeviceNodeSelection").bool();
    let before = old.map(|old| old.child("devices").items()).unwrap_or_default();
    let name = |at: &At<'_>| at.child("name").str().to_owned();
    set(&devices, max, name, errors, |at, errors| {
        let known = before.iter().find(|old| name(old) == name(at));
        device::rules(at, known, per_device, errors);
    });
    set(&counters, MAX_COUNTER_SETS, name, errors, |at, errors| {
        at.child("name").require(errors, is_dns1123_label);
        device::counters(at, errors);
    });
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Node|string||The node that has the devices.",
        "Driver|string||The driver that offers them.",
        "Pool|string||The pool they belong to.",
        "Age|string",
    ])
}

fn cells(slice: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| Value::from(slice.str_at(path).unwrap_or_default());
    vec![
        slice.name().into(),
        text("spec.nodeName"),
        text("spec.driver"),
        text("spec.pool.name"),
        age(slice.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let slice = |spec: Value| {
        let mut whole = json!({"driver": "gpu.example.com", "pool": {"name": "n1", "resourceSliceCount": 1}});
        let (map, spec) = (whole.as_object_mut().expect("a map"), spec.as_object().cloned());
        map.extend(spec.unwrap_or_default());
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "one",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": whole})
    };
    let gpu = json!({"name": "gpu0", "attributes": {"example.com/numa": {"int": 0}, "driverVersion": {"version": "1.2.3"}},
        "capacity": {"memory": {"value": "80Gi"}}, "taints": [{"key": "hot", "effect": "NoSchedule"}]});
    let shared = json!({"name": "gpu1", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "10Gi",
        "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "max": "10Gi", "step": "1Gi"}}}}});
    let odd = json!({"name": "odd", "attributes": {"a-b": {}, "v": {"version": "1", "bool": true}},
        "capacity": {"m": {"value": "1Gi", "requestPolicy": {"default": "1Gi"}}}, "nodeName": "n1",
        "bindingConditions": ["ready"], "taints": [{"key": "k", "effect": "Burn"}]});
    let picky = json!({"name": "picky", "allowMultipleAllocations": true, "capacity": {"m": {"value": "4",
        "requestPolicy": {"default": "3", "validValues": ["2", "1", "8"]}}}});
    crate::resources::testing::Cases {
        valid: vec![slice(json!({"nodeName": "n1", "devices": [gpu.clone(), shared]}))],
        invalid: vec![
            (
                slice(
                    json!({"driver": "", "pool": {"name": "", "resourceSliceCount": 0, "generation": -1},
                    "nodeName": "n1", "allNodes": true}),
                ),
                vec![
                    "spec.driver: Required value",
                    "spec.pool.name: Required value",
                    "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                    "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
                    "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
                     `perDeviceNodeSelection` is required, but multiple fields are set",
                ],
            ),
            (
                slice(json!({"nodeName": "n1", "devices": [odd, gpu.clone(), gpu]})),
                vec![
                    "spec.devices[0].attributes: Invalid value: \"a-b\": a valid C identifier must start with alphabetic \
                     character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or \
                     'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
                    "spec.devices[0].attributes[a-b]: Invalid value: \"\": exactly one value must be specified",
                    "spec.devices[0].attributes[v].version: Invalid value: \"1\": must be a string compatible with semver.org \
                     spec 2.0.0",
                    "spec.devices[0].attributes[v]: Invalid value: {\"bool\":true,\"version\":\"1\"}: exactly one value must be \
                     specified",
                    "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
                    "spec.devices[0].taints[0].effect: Unsupported value: \"Burn\": supported values: \"NoExecute\", \
                     \"NoSchedule\", \"None\"",
                    "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if \
                     `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                    "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use \
                     bindingConditions",
                    "spec.devices[2]: Duplicate value: \"gpu0\"",
                ],
            ),
            (
                slice(json!({"perDeviceNodeSelection": true, "devices": [picky], "sharedCounters": []})),
                vec![
                    "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
                    "spec.devices[0].capacity[m].requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in \
                     ascending order",
                    "spec.devices[0].capacity[m].requestPolicy.validValues[2]: Invalid value: \"8\": option is larger than \
                     capacity value: 4",
                    "spec.devices[0].capacity[m].requestPolicy.validValues: Invalid value: \"3\": default value is not valid \
                     according to the requestPolicy",
                    "spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                     `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                ],
            ),
        ],
        table: vec![slice(json!({"nodeName": "n1"}))],
    }
}
