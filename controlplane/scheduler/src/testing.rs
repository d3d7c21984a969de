//! Pods and nodes for this crate's tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::view::{Node, Pod};

pub(crate) fn node_with(name: &str, more: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut value, more);
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn node(name: &str, cpu: &str, memory: &str) -> Arc<Node> {
    node_with(name, json!({"status": {"allocatable": {"cpu": cpu, "memory": memory}}}))
}

pub(crate) fn pod_with(name: &str, more: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "web"}},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c"}]},
    });
    merge(&mut value, more);
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn pod(name: &str, cpu: &str, memory: &str) -> Arc<Pod> {
    let requests = json!({"requests": {"cpu": cpu, "memory": memory}});
    pod_with(
        name,
        json!({"spec": {"containers": [{"name": "c", "resources": requests}]}}),
    )
}

fn merge(target: &mut Value, more: Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, more) => *target = more,
    }
}
