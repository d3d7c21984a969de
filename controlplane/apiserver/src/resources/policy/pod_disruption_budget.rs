//! PodDisruptionBudget: how many of some pods must be there whatever people do to nodes. The disruption controller keeps
//! its status; the `eviction` endpoint of pods spends it.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::share::{at_most_all, count_or_percent};
use crate::resources::validation::{At, labels, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<PodDisruptionBudget>()
        .short_names(&["pdb"])
        .strategy(Budgets)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct Budgets;

impl Strategy for Budgets {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(
            op,
            new,
            || json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        );
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op {
            Operation::UpdateStatus { .. } => status(&At::root(new, "status"), &mut errors),
            _ => rules(&At::root(new, "spec"), &mut errors),
        }
        errors
    }

    /// Who changes a budget must have read it.
    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    let (available, unavailable) = (spec.child("minAvailable"), spec.child("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for share in [available, unavailable] {
        count_or_percent(&share, errors);
        at_most_all(&share, errors);
    }
    labels::selector(&spec.child("selector"), errors);
    spec.child("unhealthyPodEvictionPolicy")
        .one_of(errors, &["AlwaysAllow", "IfHealthyBudget"]);
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        at.child(field).non_negative(errors);
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Min Available|string||How many of the pods must be there, or which share.",
        "Max Unavailable|string||How many of the pods may be missing, or which share.",
        "Allowed Disruptions|integer||How many pods may be evicted now.",
        "Age|string",
    ])
}

fn cells(budget: &Object, now: Timestamp) -> Vec<Value> {
    let share = |path: &str| match budget.at(path) {
        Some(Value::String(text)) => text.clone().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ => Value::from("N/A"),
    };
    vec![
        budget.name().into(),
        share("spec.minAvailable"),
        share("spec.maxUnavailable"),
        budget.i64_at("status.disruptionsAllowed").unwrap_or_default().into(),
        age(budget.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let budget = |spec: Value| {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let mut shown = budget(json!({"maxUnavailable": 1}));
    shown["status"] = json!({"disruptionsAllowed": 1});
    crate::resources::testing::Cases {
        valid: vec![
            budget(json!({"minAvailable": "50%", "selector": {"matchLabels": {"app": "web"}}})),
            budget(json!({"maxUnavailable": 0, "unhealthyPodEvictionPolicy": "AlwaysAllow"})),
        ],
        invalid: vec![
            (
                budget(json!({"minAvailable": 1, "maxUnavailable": "101%", "unhealthyPodEvictionPolicy": "Never"})),
                vec![
                    "spec: Invalid value: {\"maxUnavailable\":\"101%\",\"minAvailable\":1,\"unhealthyPodEvictionPolicy\":\"Never\"}: \
                     minAvailable and maxUnavailable cannot be both set",
                    "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
            (
                budget(json!({"minAvailable": "half"})),
                vec![
                    "spec.minAvailable: Invalid value: \"half\": a valid percent string must be a numeric string followed by an \
                     ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ],
            ),
        ],
        table: vec![budget(json!({"minAvailable": "50%"})), shown],
    }
}
