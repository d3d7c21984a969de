//! RuntimeClass: a pod's class must be there, and brings its overhead and its conditions on nodes along.

use api::{GroupResource, Object, Status};
use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{Admission, AdmissionRequest, creates_pod};
use crate::registry::resource::{Operation, Resource};

pub(super) struct RuntimeClasses;

#[async_trait]
impl Admission for RuntimeClasses {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        creates_pod(operation, resource, subresource)
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(pod) = request.object.as_deref() else {
            return Ok(());
        };
        let name = pod.str_at("spec.runtimeClassName").unwrap_or_default().to_owned();
        let kind = GroupResource::new("node.k8s.io", "runtimeclasses");
        let class = match name.is_empty() {
            true => None,
            false => match request.reader.get(&kind, None, &name) {
                Some(class) => Some(class),
                None => match request.reader.get_fresh(&kind, None, &name).await? {
                    Some(class) => Some(class),
                    None => return Err(request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"))),
                },
            },
        };
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        merge(pod, class.as_deref()).map_err(|why| request.forbidden(&why))
    }
}

/// Applies a class to a pod; the error says what contradicts what.
fn merge(pod: &mut Object, class: Option<&Object>) -> Result<(), String> {
    overhead(
        pod,
        class
            .and_then(|class| class.at("overhead.podFixed"))
            .filter(|o| !is_empty(o)),
    )?;
    let Some(class) = class else { return Ok(()) };
    let mut selector = pod.map_at("spec.nodeSelector").cloned().unwrap_or_default();
    for (key, value) in class.map_at("scheduling.nodeSelector").unwrap_or(&Map::new()) {
        match selector.get(key) {
            Some(own) if own != value => {
                let (ours, theirs) = (own.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {theirs}; pod.spec.nodeSelector[{key}] = {ours}"
                ));
            }
            _ => drop(selector.insert(key.clone(), value.clone())),
        }
    }
    if !selector.is_empty() {
        pod.set("spec.nodeSelector", selector);
    }
    let mut tolerations = pod.list_at("spec.tolerations").to_vec();
    for toleration in class.list_at("scheduling.tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if !tolerations.is_empty() {
        pod.set("spec.tolerations", tolerations);
    }
    Ok(())
}

fn overhead(pod: &mut Object, fixed: Option<&Value>) -> Result<(), String> {
    let given = pod.at("spec.overhead").filter(|o| !is_empty(o));
    match (given, fixed) {
        (Some(_), None) => {
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned())
        }
        (Some(given), Some(fixed)) if given != fixed => {
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned())
        }
        (None, Some(fixed)) => {
            pod.set("spec.overhead", fixed.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty)
}
