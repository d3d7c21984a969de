//! ReplicaSet: so many pods of one template.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Map, Value, json};

use super::workload;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::core::pod::defaults;
use crate::resources::defaults::set_default;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<ReplicaSet>()
        .short_names(&["rs"])
        .categories(&["all"])
        .strategy(ReplicaSets)
        .printer(definitions(), cells)
        .field_or("status.replicas", "0")
        .generation()
        .status()
        .scale("spec.replicas", "status.replicas", "spec.selector")
        .build()
}

struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => new.set("status", json!({"replicas": 0})),
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => return,
        }
        if let Some(spec) = new.at_mut("spec").and_then(Value::as_object_mut) {
            set_defaults(spec);
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        match op {
            Operation::UpdateStatus { .. } => status(&At::root(new, "status"), &mut errors),
            Operation::Create | Operation::Delete { .. } => rules(&spec, &mut errors),
            Operation::Update { old } => {
                rules(&spec, &mut errors);
                spec.child("selector")
                    .immutable(&mut errors, &At::root(old, "spec").child("selector"));
            }
        }
        errors
    }

    /// Of the template, where it is new.
    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        workload::warnings(op, new)
    }
}

fn set_defaults(spec: &mut Map<String, Value>) {
    set_default(spec, "replicas", 1);
    defaults::template(spec.get_mut("template"));
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.child("replicas").non_negative(errors);
    spec.child("minReadySeconds").non_negative(errors);
    workload::selector_and_template(spec, errors);
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    let count = |field: &str| at.child(field).i64().unwrap_or_default();
    for field in [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ] {
        at.child(field).non_negative(errors);
    }
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if count(field) > count("replicas") {
            errors.push(at.child(field).invalid("cannot be greater than status.replicas"));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(
            at.child("availableReplicas")
                .invalid("cannot be greater than readyReplicas"),
        );
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Desired|integer||How many pods are wanted.",
        "Current|integer||How many pods there are.",
        "Ready|integer||How many of them are ready.",
        "Age|string",
        "Containers|string||Names of each container in the template.|wide",
        "Images|string||Images referenced by each container in the template.|wide",
        "Selector|string||Labels that the pods carry.|wide",
    ])
}

fn cells(set: &Object, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| Value::from(set.i64_at(path).unwrap_or_default());
    let mut cells = vec![
        set.name().into(),
        count("spec.replicas"),
        count("status.replicas"),
        count("status.readyReplicas"),
        age(set.creation_timestamp(), now),
    ];
    cells.extend(workload::wide_cells(set));
    cells
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let set = |extra: Value| workload::sample("ReplicaSet", &extra);
    let mut shown = set(json!({"replicas": 3}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["status"] = json!({"replicas": 2, "readyReplicas": 1});
    crate::resources::testing::Cases {
        valid: vec![set(json!({}))],
        invalid: vec![
            (
                set(json!({"selector": {"matchLabels": {"app": "other"}}, "minReadySeconds": -1})),
                vec![
                    "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                set(json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Is", "values": ["web"]}]}})),
                vec![
                    "spec.selector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
                    "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Is\",\"values\":[\"web\"]}]}: \
                     invalid label selector",
                ],
            ),
        ],
        table: vec![shown],
    }
}
