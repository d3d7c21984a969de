//! Binding: the one write by which a pod gets its node. Pure; the `binding` subresource applies it in a compare-and-set.

use api::{GroupResource, Object, Status, time};
use serde_json::{Value, json};

/// Assigns `pod` to the node that `binding` names and says so in its conditions.
///
/// Errors: 400 for a binding that names no node, 409 for a pod that is being deleted, is bound already, waits for gates,
/// or is not the one the binding means (its uid).
pub fn bind(pod: &mut Object, binding: &Object, now: api::Timestamp) -> Result<(), Status> {
    let target = binding.str_at("target.name").unwrap_or_default();
    let kind = binding.str_at("target.kind").unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        return Err(Status::bad_request(format!(
            "invalid binding target kind {kind:?}: must be \"Node\""
        )));
    }
    if target.is_empty() {
        return Err(Status::bad_request("target.name: Required value".to_owned()));
    }
    refuse(pod, binding)?;
    pod.set("spec.nodeName", target);
    for field in ["annotations", "labels"] {
        let path = format!("metadata.{field}");
        let given: Vec<_> = binding
            .map_at(&path)
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (key, value) in given {
            let text = value.as_str().unwrap_or_default();
            if field == "labels" {
                pod.set_label(&key, text)
            } else {
                pod.set_annotation(&key, text)
            }
        }
    }
    set_scheduled(pod, now);
    Ok(())
}

fn refuse(pod: &Object, binding: &Object) -> Result<(), Status> {
    let name = pod.name();
    let conflict = |why: String| Err(Status::conflict(&GroupResource::new("", "pods/binding"), name, &why));
    let expected = binding.uid();
    if !expected.is_empty() && expected != pod.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {expected}, UID in object meta: {}",
            pod.uid()
        );
        return conflict(why);
    }
    if pod.is_deleting() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match pod.str_at("spec.nodeName") {
        None | Some("") => {}
        Some(node) => return conflict(format!("pod {name} is already assigned to node {node:?}")),
    }
    if !pod.list_at("spec.schedulingGates").is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

fn set_scheduled(pod: &mut Object, now: api::Timestamp) {
    let mut conditions: Vec<Value> = pod.list_at("status.conditions").to_vec();
    conditions.retain(|c| c.get("type").and_then(Value::as_str) != Some("PodScheduled"));
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time::rfc3339(now),
    }));
    pod.set("status.conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{now, object};

    fn pod() -> Object {
        object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u1"}, "spec": {}}))
    }

    fn binding(node: &str) -> Object {
        object(
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "annotations": {"a": "b"}},
            "target": {"kind": "Node", "name": node}}),
        )
    }

    #[test]
    fn assigns_node_annotations_and_condition() {
        let mut pod = pod();
        bind(&mut pod, &binding("n1"), now()).expect("binds");
        assert_eq!(pod.str_at("spec.nodeName"), Some("n1"));
        assert_eq!(pod.annotation("a"), Some("b"));
        assert_eq!(pod.list_at("status.conditions")[0]["status"], "True");
    }

    #[test]
    fn refuses_what_cannot_be_bound() {
        let message = |change: fn(&mut Object), binding: Object| {
            let mut pod = pod();
            change(&mut pod);
            bind(&mut pod, &binding, now()).expect_err("refused").message
        };
        let nothing: fn(&mut Object) = |_| {};
        assert_eq!(message(nothing, binding("")), "target.name: Required value");
        let mut other = binding("n1");
        other.set_uid("u2");
        assert!(message(nothing, other).contains("UID in precondition: u2, UID in object meta: u1"));
        assert!(
            message(|p| p.set("spec.nodeName", "n2"), binding("n1"))
                .contains("pod p is already assigned to node \"n2\"")
        );
        let dying: fn(&mut Object) = |p| p.set("metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        assert!(message(dying, binding("n1")).contains("pod p is being deleted, cannot be assigned to a host"));
    }
}
