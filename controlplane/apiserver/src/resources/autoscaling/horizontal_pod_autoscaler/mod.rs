//! HorizontalPodAutoscaler: as many replicas of something as its metrics ask for. Stored as `autoscaling/v2`; what `v1` has
//! no fields for its objects carry in annotations.

mod convert;
mod defaults;
mod metrics;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler as V1;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler as V2;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<V2>()
        .also_served_as::<V1>(convert::to_v2, convert::to_v1)
        .short_names(&["hpa"])
        .categories(&["all"])
        .strategy(Autoscalers)
        .printer(definitions(), cells)
        .status()
        .build()
}

struct Autoscalers;

impl Strategy for Autoscalers {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => new.set("status", json!({"currentMetrics": null, "desiredReplicas": 0})),
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => return,
        }
        convert::drop_annotations(new);
        defaults::complete(new);
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op {
            Operation::UpdateStatus { .. } => {
                let status = At::root(new, "status");
                status.child("currentReplicas").non_negative(&mut errors);
                status.child("desiredReplicas").non_negative(&mut errors);
            }
            _ => rules::spec(op.old(), new, &mut errors),
        }
        errors
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Reference|string||What is scaled.",
        "Targets|string||The metrics, as they are and as they should be.",
        "MinPods|string||The fewest replicas.",
        "MaxPods|string||The most replicas.",
        "Replicas|string||How many replicas there are.",
        "Age|string",
    ])
}

fn cells(autoscaler: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| autoscaler.str_at(path).unwrap_or_default();
    let count = |path: &str| Value::from(autoscaler.i64_at(path).unwrap_or_default());
    let least = autoscaler.i64_at("spec.minReplicas");
    vec![
        autoscaler.name().into(),
        format!(
            "{}/{}",
            text("spec.scaleTargetRef.kind"),
            text("spec.scaleTargetRef.name")
        )
        .into(),
        metrics::shown(autoscaler).into(),
        least
            .map_or_else(|| "<unset>".to_owned(), |least| least.to_string())
            .into(),
        count("spec.maxReplicas"),
        count("status.currentReplicas"),
        age(autoscaler.creation_timestamp(), now),
    ]
}
