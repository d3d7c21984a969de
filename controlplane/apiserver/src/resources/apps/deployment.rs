//! Deployment: replicas of a template, and how to get from one template to the next.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::apps::v1::Deployment;
#[cfg(test)]
use serde_json::json;
use serde_json::{Map, Value};

use super::workload;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::core::pod::defaults;
use crate::resources::defaults::{ensure_map, set_default};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::share::{amount, at_most_all, count_or_percent};
use crate::resources::validation::{At, meta};

const REVISION_HISTORY: i64 = 10;
const PROGRESS_DEADLINE_SECONDS: i64 = 600;

pub(crate) fn resource() -> Resource {
    Resource::of::<Deployment>()
        .short_names(&["deploy"])
        .categories(&["all"])
        .strategy(Deployments)
        .printer(definitions(), cells)
        .generation_when(|old, new| {
            old.at("spec") != new.at("spec") || old.at("metadata.annotations") != new.at("metadata.annotations")
        })
        .status()
        .scale("spec.replicas", "status.replicas", "spec.selector")
        .build()
}

struct Deployments;

impl Strategy for Deployments {
    fn reset_fields(&self, subresource: Option<&str>) -> Option<&'static [&'static str]> {
        let of_status: &[&str] = &["spec", "metadata.labels"];
        (subresource == Some("status")).then_some(of_status)
    }

    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => new.set("status", Map::new()),
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => {
                copy_field(old, new, "spec");
                copy_field(old, new, "metadata.labels");
            }
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
    set_default(spec, "revisionHistoryLimit", REVISION_HISTORY);
    set_default(spec, "progressDeadlineSeconds", PROGRESS_DEADLINE_SECONDS);
    if let Some(strategy) = ensure_map(spec, "strategy") {
        set_default(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            set_default(rolling, "maxUnavailable", "25%");
            set_default(rolling, "maxSurge", "25%");
        }
    }
    defaults::template(spec.get_mut("template"));
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.child("replicas").non_negative(errors);
    workload::selector_and_template(spec, errors);
    strategy(&spec.child("strategy"), errors);
    spec.child("minReadySeconds").non_negative(errors);
    spec.child("revisionHistoryLimit").non_negative(errors);
    let deadline = spec.child("progressDeadlineSeconds");
    deadline.non_negative(errors);
    if deadline
        .i64()
        .is_some_and(|n| n <= spec.child("minReadySeconds").i64().unwrap_or_default())
    {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
}

fn strategy(at: &At<'_>, errors: &mut FieldErrors) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").str() {
        "Recreate" if rolling.is_set() => {
            errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.push(at.child("type").not_supported(&["Recreate", "RollingUpdate"])),
    }
}

fn rolling_update(at: &At<'_>, errors: &mut FieldErrors) {
    let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    count_or_percent(&unavailable, errors);
    count_or_percent(&surge, errors);
    if amount(&unavailable) == Some(0) && amount(&surge) == Some(0) {
        errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    at_most_all(&unavailable, errors);
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
    ] {
        at.child(field).non_negative(errors);
    }
    let count = |field: &str| at.child(field).i64().unwrap_or_default();
    for (field, bound) in [
        ("updatedReplicas", "replicas"),
        ("readyReplicas", "replicas"),
        ("availableReplicas", "replicas"),
        ("availableReplicas", "readyReplicas"),
    ] {
        if count(field) > count(bound) {
            let words = if bound == "replicas" { "status.replicas" } else { bound };
            errors.push(at.child(field).invalid(format!("cannot be greater than {words}")));
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Ready|string||How many of the wanted pods are ready.",
        "Up-to-date|string||How many pods have the newest template.",
        "Available|string||How many pods have been ready long enough.",
        "Age|string",
        "Containers|string||Names of each container in the template.|wide",
        "Images|string||Images referenced by each container in the template.|wide",
        "Selector|string||Labels that the pods carry.|wide",
    ])
}

fn cells(deployment: &Object, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| deployment.i64_at(path).unwrap_or_default();
    let mut cells = vec![
        deployment.name().into(),
        format!("{}/{}", count("status.readyReplicas"), count("spec.replicas")).into(),
        count("status.updatedReplicas").into(),
        count("status.availableReplicas").into(),
        age(deployment.creation_timestamp(), now),
    ];
    cells.extend(workload::wide_cells(deployment));
    cells
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let deployment = |extra: Value| workload::sample("Deployment", &extra);
    let mut shown = deployment(json!({"replicas": 3}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["status"] = json!({"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
    crate::resources::testing::Cases {
        valid: vec![
            deployment(json!({})),
            deployment(json!({"strategy": {"type": "Recreate"}})),
        ],
        invalid: vec![
            (
                deployment(json!({"selector": {"matchLabels": {"app": "other"}}, "replicas": -1})),
                vec![
                    "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                deployment(json!({"selector": {}})),
                vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                deployment(
                    json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
                ),
                vec![
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                deployment(
                    json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}, "minReadySeconds": 700}),
                ),
                vec![
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                    "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
                ],
            ),
            (
                deployment(json!({"template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"restartPolicy": "Never", "containers": []}}})),
                vec![
                    "spec.template.spec.containers: Required value",
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
        ],
        table: vec![shown],
    }
}
