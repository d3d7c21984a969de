//! Priority: which pods may push others aside. Only the two classes that every cluster has are known; PriorityClass objects
//! are not served.

use api::{Object, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};

const CLASSES: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];
const PREEMPTION: &str = "PreemptLowerPriority";

pub(super) struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        is_core(resource, "pods") && subresource.is_none() && writes
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let old = request.old;
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let done = match old {
            Some(old) => {
                keep(old, pod);
                Ok(())
            }
            None => decide(pod),
        };
        done.map_err(|why| request.forbidden(&why))
    }
}

/// A pod keeps the priority it was born with.
fn keep(old: &Object, pod: &mut Object) {
    for field in ["spec.priority", "spec.preemptionPolicy"] {
        if let (None, Some(value)) = (pod.at(field), old.at(field).cloned()) {
            pod.set(field, value);
        }
    }
}

fn decide(pod: &mut Object) -> Result<(), String> {
    let name = pod.str_at("spec.priorityClassName").unwrap_or_default();
    let value = match CLASSES.iter().find(|(class, _)| *class == name) {
        _ if name.is_empty() => 0,
        Some((_, value)) => *value,
        None => return Err(format!("no PriorityClass with name {name} was found")),
    };
    if let Some(given) = pod.i64_at("spec.priority").filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {value} from the given PriorityClass name"
        ));
    }
    pod.set("spec.priority", value);
    if pod.at("spec.preemptionPolicy").is_none() {
        pod.set("spec.preemptionPolicy", PREEMPTION);
    }
    Ok(())
}
