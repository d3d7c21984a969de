//! ReplicationController: what ReplicaSet was before it had expressive selectors.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::apps::workload;
use crate::resources::keep_status_apart;
use crate::resources::print::{columns, containers, label_list};
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta, pod};

pub(crate) fn resource() -> Resource {
    Resource::of::<ReplicationController>()
        .short_names(&["rc"])
        .categories(&["all"])
        .strategy(Controllers)
        .printer(definitions(), cells)
        .field_or("status.replicas", "0")
        .generation()
        .status()
        .scale("spec.replicas", "status.replicas", "spec.selector")
        .orphans_dependents()
        .build()
}

struct Controllers;

impl Strategy for Controllers {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({"replicas": 0}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op {
            Operation::UpdateStatus { .. } => status(&At::root(new, "status"), &mut errors),
            _ => rules(&At::root(new, "spec"), &mut errors),
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        let mut found = workload::name_warnings(op, new);
        found.extend(workload::warnings(op, new));
        found
    }
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.child("minReadySeconds").non_negative(errors);
    let (selector, template) = (spec.child("selector"), spec.child("template"));
    if selector.is_empty() {
        errors.push(selector.required(""));
    }
    spec.child("replicas").non_negative(errors);
    if !template.is_set() {
        return errors.push(template.required(""));
    }
    let wanted = selector.map().into_iter().flatten();
    let labels = template.child("metadata").child("labels");
    let has = |key: &str, value: &Value| labels.map().and_then(|map| map.get(key)) == Some(value);
    if !wanted.into_iter().all(|(key, value)| has(key, value)) {
        let shown = labels.value().cloned().unwrap_or(Value::Null);
        errors.push(labels.invalid_as(shown, "`selector` does not match template `labels`"));
    }
    pod::template(&template, errors);
    workload::runs_forever(&template, "ReplicationController", errors);
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ] {
        at.child(field).non_negative(errors);
    }
    let all = "status.replicas";
    let bounds = [
        ("fullyLabeledReplicas", "replicas", all),
        ("readyReplicas", "replicas", all),
        ("availableReplicas", "replicas", all),
        ("availableReplicas", "readyReplicas", "readyReplicas"),
    ];
    workload::at_most(at, &bounds, errors);
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

fn cells(controller: &Object, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| Value::from(controller.i64_at(path).unwrap_or_default());
    let [names, images] = containers(controller.list_at("spec.template.spec.containers"));
    vec![
        controller.name().into(),
        count("spec.replicas"),
        count("status.replicas"),
        count("status.readyReplicas"),
        age(controller.creation_timestamp(), now),
        names,
        images,
        label_list(controller.at("spec.selector")),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let controller = |spec: Value| {
        let mut controller = json!({"apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": "web", "namespace": "ns"}, "spec": {"template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "reg/web:1"}]}}}});
        if let (Some(map), Value::Object(spec)) = (controller["spec"].as_object_mut(), spec) {
            map.extend(spec);
        }
        controller
    };
    let mut shown = controller(json!({"replicas": 3, "selector": {"app": "web", "tier": "front"}}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["status"] = json!({"replicas": 2, "readyReplicas": 1});
    let mut bare = controller(json!({"replicas": -1}));
    bare["spec"].as_object_mut().expect("a map").remove("template");
    crate::resources::testing::Cases {
        valid: vec![
            controller(json!({})),
            controller(json!({"selector": {"app": "web"}, "replicas": 0})),
        ],
        invalid: vec![
            (
                bare,
                vec![
                    "spec.selector: Required value",
                    "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                    "spec.template: Required value",
                ],
            ),
            (
                controller(json!({"selector": {"app": "other"}, "minReadySeconds": -1})),
                vec![
                    "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
        ],
        table: vec![shown],
    }
}
