//! Pod: the one kind whose deletion takes time, since its node has to end it first.

mod binding;
pub(crate) mod defaults;
mod ephemeral_containers;
#[cfg(test)]
mod part_tests;
mod printer;
mod qos;
mod resize;
#[cfg(test)]
pub(crate) mod tests;

use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

pub use binding::bind;

use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta, pod as rules};

/// The mark of a pod that its node has from elsewhere.
const MIRROR: &str = "kubernetes.io/config.mirror";
const EPHEMERAL_CONTAINERS: Option<&str> = Some("ephemeralcontainers");
const RESIZE: Option<&str> = Some("resize");

pub(crate) fn resource() -> Resource {
    Resource::of::<Pod>()
        .short_names(&["po"])
        .categories(&["all"])
        .strategy(Pods)
        .printer(printer::definitions(), printer::cells)
        .field("spec.nodeName")
        .field("spec.restartPolicy")
        .field("spec.schedulerName")
        .field("spec.serviceAccountName")
        .field_or("spec.hostNetwork", "false")
        .field("status.phase")
        .field("status.podIP")
        .field("status.nominatedNodeName")
        .returns_deleted()
        .generation()
        .status()
        .pod_parts()
        .build()
}

struct Pods;

impl Strategy for Pods {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {
                set_defaults(new);
                new.set("status", first_status(new));
            }
            Operation::Update { old } if cx.subresource == EPHEMERAL_CONTAINERS => {
                ephemeral_containers::prepare(old, new);
            }
            Operation::Update { old } if cx.subresource == RESIZE => resize::prepare(old, new),
            Operation::Update { old } => {
                set_defaults(new);
                copy_field(old, new, "status");
            }
            Operation::UpdateStatus { old } => prepare_status(old, new),
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op {
            Operation::Create => rules::spec(&At::root(new, "spec"), &mut errors),
            Operation::Update { old } => {
                let spec = At::root(new, "spec");
                rules::spec(&spec, &mut errors);
                match cx.subresource {
                    EPHEMERAL_CONTAINERS => ephemeral_containers::rules(old, new, &mut errors),
                    RESIZE => resize::rules(old, new, &mut errors),
                    _ => rules::update::spec(&At::root(old, "spec"), &spec, &mut errors),
                }
            }
            Operation::UpdateStatus { old } => status_changes(old, new, &mut errors),
            Operation::Delete { .. } => {}
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        match op {
            Operation::Create | Operation::Update { .. } => rules::warnings(&At::root(new, "spec")),
            Operation::UpdateStatus { .. } | Operation::Delete { .. } => Vec::new(),
        }
    }

    /// What the caller asks for, else what the pod asks for; nothing for a pod that no node has, or that has ended.
    fn graceful(&self, old: &Object, requested: Option<i64>) -> Option<i64> {
        let unscheduled = old.str_at("spec.nodeName").unwrap_or_default().is_empty();
        let ended = matches!(old.str_at("status.phase"), Some("Succeeded" | "Failed"));
        if unscheduled || ended {
            return Some(0);
        }
        let period = requested
            .or(old.i64_at("spec.terminationGracePeriodSeconds"))
            .unwrap_or_default();
        Some(if period < 0 { 1 } else { period })
    }
}

/// Keeps what a write to a part of a pod may not touch.
fn keep_metadata(old: &Object, new: &mut Object) {
    for field in [
        "deletionTimestamp",
        "generation",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ] {
        copy_field(old, new, &format!("metadata.{field}"));
    }
}

fn set_defaults(pod: &mut Object) {
    if let Some(spec) = pod.at_mut("spec").and_then(Value::as_object_mut) {
        defaults::pod(spec);
    }
}

fn first_status(pod: &Object) -> Value {
    let class = qos::class(pod);
    if pod.list_at("spec.schedulingGates").is_empty() {
        return json!({"phase": "Pending", "qosClass": class});
    }
    let gated = json!({
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    });
    json!({"phase": "Pending", "qosClass": class, "conditions": [gated]})
}

/// A node reports status and nothing else; what the server knows better stays.
fn prepare_status(old: &Object, new: &mut Object) {
    copy_field(old, new, "spec");
    copy_field(old, new, "metadata.ownerReferences");
    if new.str_at("status.qosClass").unwrap_or_default().is_empty() {
        copy_field(old, new, "status.qosClass");
    }
}

/// A container that ended for good does not come back.
fn status_changes(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let policy = old.str_at("spec.restartPolicy").unwrap_or_default();
    if policy == "Always" {
        return;
    }
    let list = |pod| At::root(pod, "status").child("containerStatuses");
    let now = list(new);
    for (index, before) in list(old).items().iter().enumerate() {
        let ended = before.child("state").child("terminated");
        let failed = ended.child("exitCode").i64() != Some(0);
        if !ended.is_set() || (policy == "OnFailure" && failed) {
            continue;
        }
        let same = |status: &&At<'_>| status.child("name").str() == before.child("name").str();
        let revived = |status: &At<'_>| !status.child("state").child("terminated").is_set();
        if now.items().iter().find(same).is_some_and(revived) {
            let path = now.path().index(index).child("state");
            errors.push(api::FieldError::forbidden(
                &path,
                "may not be transitioned to non-terminated state",
            ));
        }
    }
}
