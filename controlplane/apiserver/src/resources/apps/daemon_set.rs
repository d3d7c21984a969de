//! DaemonSet: a pod of one template on every node that fits.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

use super::workload;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::print::{columns, label_list};
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::share::{amount, at_most_all, count_or_percent};
use crate::resources::validation::{At, labels, meta, pod};

/// How often the template has changed; `extensions/v1beta1` had a field for it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn resource() -> Resource {
    Resource::of::<DaemonSet>()
        .short_names(&["ds"])
        .categories(&["all"])
        .strategy(DaemonSets)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct DaemonSets;

impl Strategy for DaemonSets {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {
                new.set("status", first_status());
                let given = template_generation(new).filter(|n| *n > 0);
                new.set_annotation(TEMPLATE_GENERATION, &given.unwrap_or(1).to_string());
            }
            Operation::Update { old } => {
                copy_field(old, new, "status");
                let changed = old.at("spec.template") != new.at("spec.template");
                let count = template_generation(old).unwrap_or_default() + i64::from(changed);
                new.set_annotation(TEMPLATE_GENERATION, &count.to_string());
            }
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        match op {
            Operation::UpdateStatus { old } => {
                status(&At::root(new, "status"), &mut errors);
                workload::collisions(old, new, &mut errors);
            }
            Operation::Create | Operation::Delete { .. } => rules(&spec, &mut errors),
            Operation::Update { old } => {
                rules(&spec, &mut errors);
                spec.child("selector")
                    .immutable(&mut errors, &At::root(old, "spec").child("selector"));
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        workload::warnings(op, new)
    }
}

fn first_status() -> Value {
    json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
}

fn template_generation(set: &Object) -> Option<i64> {
    set.annotation(TEMPLATE_GENERATION)?.parse().ok()
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    let (selector, template) = (spec.child("selector"), spec.child("template"));
    labels::selector(&selector, errors);
    if let Some(Ok(parsed)) = selector.value().map(api::LabelSelector::from_json) {
        workload::labels_match(&template, &parsed, errors);
    }
    if selector.is_set() && labels::selects_all(&selector) {
        errors.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    pod::template(&template, errors);
    workload::runs_forever(&template, "DaemonSet", errors);
    spec.child("minReadySeconds").non_negative(errors);
    strategy(&spec.child("updateStrategy"), errors);
    spec.child("revisionHistoryLimit").non_negative(errors);
}

fn strategy(at: &At<'_>, errors: &mut FieldErrors) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").str() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errors.push(rolling.required("")),
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.push(at.not_supported(&["RollingUpdate", "OnDelete"])),
    }
}

/// Either pods go first (`maxUnavailable`) or new ones come first (`maxSurge`), not both.
fn rolling_update(at: &At<'_>, errors: &mut FieldErrors) {
    let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    for share in [&unavailable, &surge] {
        count_or_percent(share, errors);
    }
    for share in [&unavailable, &surge] {
        at_most_all(share, errors);
    }
    let some = |share: &At<'_>| amount(share).unwrap_or_default() != 0;
    match (some(&unavailable), some(&surge)) {
        (true, true) => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
        (false, false) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        at.child(field).non_negative(errors);
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Desired|integer||On how many nodes a pod is wanted.",
        "Current|integer||On how many of them there is one.",
        "Ready|integer||On how many of them it is ready.",
        "Up-to-date|integer||On how many of them it has the newest template.",
        "Available|integer||On how many of them it has been ready long enough.",
        "Node Selector|string||Labels of the nodes.",
        "Age|string",
        "Containers|string||Names of each container in the template.|wide",
        "Images|string||Images referenced by each container in the template.|wide",
        "Selector|string||Labels that the pods carry.|wide",
    ])
}

fn cells(set: &Object, now: Timestamp) -> Vec<Value> {
    let count = |field: &str| Value::from(set.i64_at(&format!("status.{field}")).unwrap_or_default());
    let mut cells = vec![
        set.name().into(),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        label_list(set.at("spec.template.spec.nodeSelector")),
        age(set.creation_timestamp(), now),
    ];
    cells.extend(workload::wide_cells(set));
    cells
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let set = |extra: Value| workload::sample("DaemonSet", &extra);
    let mut shown = set(json!({}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    shown["status"] = json!({"desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
        "updatedNumberScheduled": 2, "numberAvailable": 1});
    crate::resources::testing::Cases {
        valid: vec![set(json!({})), set(json!({"updateStrategy": {"type": "OnDelete"}}))],
        invalid: vec![
            (
                set(
                    json!({"selector": {"matchLabels": {"app": "other"}}, "minReadySeconds": -1, "updateStrategy": {"type": "Never"}}),
                ),
                vec![
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                    "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
                    "spec.updateStrategy: Unsupported value: {\"type\":\"Never\"}: supported values: \"RollingUpdate\", \"OnDelete\"",
                ],
            ),
            (
                set(
                    json!({"selector": {}, "updateStrategy": {"rollingUpdate": {"maxUnavailable": "20%", "maxSurge": 1}}}),
                ),
                vec![
                    "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                set(json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}})),
                vec![
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
        ],
        table: vec![shown, set(json!({}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn counts_changes_of_the_template_whatever_the_client_says() {
        let mut old = object(workload::sample("DaemonSet", &json!({})));
        context(Some("ns"), |cx| DaemonSets.prepare(cx, &Operation::Create, &mut old));
        assert_eq!(old.annotation(TEMPLATE_GENERATION), Some("1"));
        let mut same = old.clone();
        same.set_annotation(TEMPLATE_GENERATION, "7");
        let mut changed = old.clone();
        changed.set("spec.template.metadata.labels.app", "new");
        for (mut new, expected) in [(same, "1"), (changed, "2")] {
            context(Some("ns"), |cx| {
                DaemonSets.prepare(cx, &Operation::Update { old: &old }, &mut new);
            });
            assert_eq!(new.annotation(TEMPLATE_GENERATION), Some(expected));
        }
    }

    #[test]
    fn collisions_are_not_counted_down() {
        let of = |count: Value| {
            let mut set = workload::sample("DaemonSet", &json!({}));
            set["status"] = json!({"collisionCount": count});
            object(set)
        };
        let (old, new) = (of(json!(2)), of(json!(1)));
        let found = context(Some("ns"), |cx| {
            messages(DaemonSets.validate(cx, &Operation::UpdateStatus { old: &old }, &new))
        });
        assert_eq!(
            found,
            ["status.collisionCount: Invalid value: 1: cannot be decremented"]
        );
    }
}
