//! What an autoscaler gets that says nothing of its own: a share of the CPU to aim at, and how fast to go there.

use api::Object;
use serde_json::{Map, Value, json};

/// The share of the requested CPU, in per cent, that is used when nothing is said about metrics.
const UTILIZATION: i64 = 80;

pub(super) fn complete(autoscaler: &mut Object) {
    if autoscaler.list_at("spec.metrics").is_empty() {
        autoscaler.set("spec.metrics", json!([cpu(UTILIZATION)]));
    }
    let Some(behavior) = autoscaler.at_mut("spec.behavior").and_then(Value::as_object_mut) else {
        return;
    };
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
    let down = json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
    rules(behavior, "scaleUp", &up);
    rules(behavior, "scaleDown", &down);
}

/// The metric that asks for a share of the requested CPU.
pub(super) fn cpu(utilization: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

fn rules(behavior: &mut Map<String, Value>, direction: &str, usual: &Value) {
    let given = behavior.entry(direction).or_insert(Value::Null);
    if given.is_null() {
        *given = Value::Object(Map::new());
    }
    let (Some(given), Some(usual)) = (given.as_object_mut(), usual.as_object()) else {
        return;
    };
    for (field, value) in usual {
        let field = given.entry(field.as_str()).or_insert(Value::Null);
        if field.is_null() {
            *field = value.clone();
        }
    }
}
