//! Between `v2` and `v1`. What `v1` has no field for stands, in forms of its own, in annotations; those that cannot be read
//! are passed over, since anybody may have written them.

use api::Object;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::defaults::{complete, cpu};
use crate::resources::validation::quantity;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CARRIED: [&str; 6] = [
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// A field as `v1` and as `v2` know it, and what stands for nothing where `v1` cannot leave it out.
type Pair = (&'static str, &'static str, Option<&'static str>);

/// The fields of a metric by the part that its type names: what is wanted, and what is.
const SPECS: [(&str, &[Pair]); 5] = [
    (
        "object",
        &[
            ("target.kind", "describedObject.kind", None),
            ("target.name", "describedObject.name", None),
            ("target.apiVersion", "describedObject.apiVersion", None),
            ("metricName", "metric.name", None),
            ("selector", "metric.selector", None),
            ("targetValue", "target.value", Some("0")),
            ("averageValue", "target.averageValue", None),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name", None),
            ("selector", "metric.selector", None),
            ("targetAverageValue", "target.averageValue", Some("0")),
        ],
    ),
    ("resource", RESOURCE_SPEC),
    ("containerResource", RESOURCE_SPEC),
    (
        "external",
        &[
            ("metricName", "metric.name", None),
            ("metricSelector", "metric.selector", None),
            ("targetValue", "target.value", None),
            ("targetAverageValue", "target.averageValue", None),
        ],
    ),
];
const RESOURCE_SPEC: &[Pair] = &[
    ("name", "name", None),
    ("container", "container", None),
    ("targetAverageUtilization", "target.averageUtilization", None),
    ("targetAverageValue", "target.averageValue", None),
];
const STATUSES: [(&str, &[Pair]); 5] = [
    (
        "object",
        &[
            ("target.kind", "describedObject.kind", None),
            ("target.name", "describedObject.name", None),
            ("target.apiVersion", "describedObject.apiVersion", None),
            ("metricName", "metric.name", None),
            ("selector", "metric.selector", None),
            ("currentValue", "current.value", Some("0")),
            ("averageValue", "current.averageValue", None),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name", None),
            ("selector", "metric.selector", None),
            ("currentAverageValue", "current.averageValue", Some("0")),
        ],
    ),
    ("resource", RESOURCE_STATUS),
    ("containerResource", RESOURCE_STATUS),
    (
        "external",
        &[
            ("metricName", "metric.name", None),
            ("metricSelector", "metric.selector", None),
            ("currentValue", "current.value", Some("0")),
            ("currentAverageValue", "current.averageValue", None),
        ],
    ),
];
const RESOURCE_STATUS: &[Pair] = &[
    ("name", "name", None),
    ("container", "container", None),
    ("currentAverageUtilization", "current.averageUtilization", None),
    ("currentAverageValue", "current.averageValue", Some("0")),
];

/// The names of a behavior's fields, which stand in the annotation as Go spells them.
const BEHAVIOR_FIELDS: [(&str, &[&str]); 3] = [
    ("", &["ScaleUp", "ScaleDown"]),
    (
        "Scale",
        &["StabilizationWindowSeconds", "SelectPolicy", "Policies", "Tolerance"],
    ),
    ("Policies", &["Type", "Value", "PeriodSeconds"]),
];

/// Removes the annotations that carry fields of `v2`: in an object of `v2` they mean nothing.
pub(super) fn drop_annotations(object: &mut Object) {
    let Some(annotations) = object.at_mut("metadata.annotations").and_then(Value::as_object_mut) else {
        return;
    };
    annotations.retain(|key, _| !CARRIED.contains(&key.as_str()));
    if annotations.is_empty() {
        object.remove("metadata.annotations");
    }
}

pub(super) fn to_v2(object: &mut Object) {
    let target = object.remove("spec.targetCPUUtilizationPercentage");
    let own = target.as_ref().and_then(Value::as_i64).map(cpu);
    let mut metrics = carried(object, METRICS, specs_to_v2).unwrap_or_default();
    metrics.extend(own);
    if !metrics.is_empty() {
        object.set("spec.metrics", metrics);
    }
    if let Some(behavior) = carried_behavior(object) {
        object.set("spec.behavior", behavior);
    }
    if object.at("spec").is_some() {
        complete(object);
    }
    status_to_v2(object);
    drop_annotations(object);
}

fn status_to_v2(object: &mut Object) {
    let utilization = object.remove("status.currentCPUUtilizationPercentage");
    let current = carried(object, CURRENT, statuses_to_v2).or_else(|| {
        let utilization = utilization?.as_i64()?;
        let resource = json!({"name": "cpu", "current": {"averageUtilization": utilization}});
        Some(vec![json!({"type": "Resource", "resource": resource})])
    });
    let conditions = carried(object, CONDITIONS, |conditions| {
        typed::<Vec<HorizontalPodAutoscalerCondition>>(conditions)
    });
    if object.at("status").is_none() {
        return;
    }
    object.set("status.currentMetrics", current.map_or(Value::Null, Value::from));
    if let Some(conditions) = conditions {
        object.set("status.conditions", conditions);
    }
}

/// The list that an annotation carries, if it can be read.
fn carried(object: &Object, annotation: &str, read: fn(Value) -> Option<Value>) -> Option<Vec<Value>> {
    let value = serde_json::from_str(object.annotation(annotation)?).ok()?;
    match read(value)? {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn carried_behavior(object: &Object) -> Option<Value> {
    let value: Value = serde_json::from_str(object.annotation(BEHAVIOR)?).ok()?;
    let behavior = typed::<HorizontalPodAutoscalerBehavior>(recased(&value, "", false))?;
    Some(behavior).filter(|behavior| behavior.as_object().is_some_and(|map| !map.is_empty()))
}

/// A value as a type has it: without what the type does not know, and nothing if the value is not of the type.
fn typed<T: DeserializeOwned + Serialize>(value: Value) -> Option<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value).ok()?).ok()
}

fn specs_to_v2(metrics: Value) -> Option<Value> {
    let list = metrics
        .as_array()
        .filter(|list| list.iter().all(is_metric))?
        .iter()
        .map(|metric| {
            let mut metric = moved(metric, &SPECS, false);
            aim(&mut metric);
            metric
        });
    typed::<Vec<MetricSpec>>(list.collect())
}

/// Whether a value and its parts are maps.
fn is_metric(value: &Value) -> bool {
    let part = |part: &str| value.get(part).is_none_or(|part| part.is_object() || part.is_null());
    value.is_object() && SPECS.iter().all(|(name, _)| part(name))
}

fn statuses_to_v2(metrics: Value) -> Option<Value> {
    let list = metrics.as_array().filter(|list| list.iter().all(is_metric))?.iter();
    let list = list.map(|metric| moved(metric, &STATUSES, false));
    typed::<Vec<MetricStatus>>(list.collect())
}

/// Says what kind of target a metric has, which `v1` leaves to the reader.
fn aim(metric: &mut Value) {
    for (part, _) in SPECS {
        let Some(source) = metric.get_mut(part) else { continue };
        let has = |field: &str| source.pointer(&format!("/target/{field}")).is_some();
        let type_ = match part {
            "object" if has("averageValue") => "AverageValue",
            "object" => "Value",
            "external" if has("value") => "Value",
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        // `v1` cannot leave the value out: none stands there as zero, which nobody can aim at.
        let zero = source.pointer("/target/value").is_some_and(is_zero);
        if part == "object" && type_ == "AverageValue" && zero {
            remove(source, "target.value");
        }
        put(source, "target.type", type_.into());
    }
}

fn is_zero(value: &Value) -> bool {
    let object = Object::from_value(json!({ "value": value })).ok();
    let amount = object.and_then(|object| quantity::parse(&crate::resources::validation::At::root(&object, "value")));
    amount.is_some_and(|amount| amount.milli() == 0)
}

pub(super) fn to_v1(object: &mut Object) {
    drop_annotations(object);
    let metrics = object.remove("spec.metrics");
    let metrics = metrics
        .as_ref()
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if let Some(utilization) = metrics.iter().find_map(utilization_of_cpu) {
        object.set("spec.targetCPUUtilizationPercentage", utilization.clone());
    }
    let others = metrics.iter().filter(|metric| utilization_of_cpu(metric).is_none());
    carry(
        object,
        METRICS,
        others.map(|metric| moved(metric, &SPECS, true)).collect(),
    );
    if let Some(behavior) = object.remove("spec.behavior") {
        let text = recased(&behavior, "", true).to_string();
        object.set_annotation(BEHAVIOR, &text);
    }
    status_to_v1(object);
}

fn status_to_v1(object: &mut Object) {
    if object.at("status").is_none() {
        return;
    }
    let current = object.remove("status.currentMetrics");
    let current = current
        .as_ref()
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut utilization = current
        .iter()
        .filter(|metric| is_cpu(metric))
        .filter_map(|metric| metric.pointer("/resource/current/averageUtilization"));
    if let Some(utilization) = utilization.next_back() {
        object.set("status.currentCPUUtilizationPercentage", utilization.clone());
    }
    carry(
        object,
        CURRENT,
        current.iter().map(|metric| moved(metric, &STATUSES, true)).collect(),
    );
    let conditions = object.remove("status.conditions");
    let conditions = conditions
        .as_ref()
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    carry(object, CONDITIONS, conditions);
    for count in ["status.currentReplicas", "status.desiredReplicas"] {
        if object.at(count).is_none() {
            object.set(count, 0);
        }
    }
}

fn carry(object: &mut Object, annotation: &str, list: Vec<Value>) {
    if !list.is_empty() {
        object.set_annotation(annotation, &Value::Array(list).to_string());
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric.get("type").and_then(Value::as_str) == Some("Resource")
        && metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu")
}

/// What `v1` has a field for.
fn utilization_of_cpu(metric: &Value) -> Option<&Value> {
    let target = metric.pointer("/resource/target/averageUtilization")?;
    (is_cpu(metric) && !target.is_null()).then_some(target)
}

/// A metric with its fields where the other version has them.
fn moved(metric: &Value, parts: &[(&str, &[Pair])], to_v1: bool) -> Value {
    let mut out = json!({"type": metric.get("type").cloned().unwrap_or_default()});
    for (part, pairs) in parts {
        let Some(source) = metric.get(part).filter(|source| !source.is_null()) else {
            continue;
        };
        let mut to = Value::Object(Map::new());
        for (v1, v2, nothing) in *pairs {
            let (from, into) = if to_v1 { (v2, v1) } else { (v1, v2) };
            let value = source.pointer(&format!("/{}", from.replace('.', "/")));
            match (value.filter(|value| !value.is_null()), nothing) {
                (Some(value), _) => put(&mut to, into, value.clone()),
                (None, Some(nothing)) if to_v1 => put(&mut to, into, (*nothing).into()),
                (None, _) => {}
            }
        }
        put(&mut out, part, to);
    }
    out
}

/// Sets a field, or a field of a field, of a map.
fn put(map: &mut Value, path: &str, value: Value) {
    let Some(map) = map.as_object_mut() else { return };
    match path.split_once('.') {
        None => drop(map.insert(path.to_owned(), value)),
        Some((outer, rest)) => put(
            map.entry(outer).or_insert_with(|| Value::Object(Map::new())),
            rest,
            value,
        ),
    }
}

fn remove(map: &mut Value, path: &str) {
    let Some((outer, field)) = path.split_once('.') else {
        return;
    };
    if let Some(map) = map.get_mut(outer).and_then(Value::as_object_mut) {
        map.remove(field);
    }
}

/// A behavior as it stands in the annotation, all fields there and spelled in Go's way, or back in that of `v2`; Go reads
/// them in any case.
fn recased(value: &Value, within: &str, to_go: bool) -> Value {
    if let Value::Array(list) = value {
        return list.iter().map(|item| recased(item, within, to_go)).collect();
    }
    let fields = BEHAVIOR_FIELDS.iter().find(|(part, _)| match *part {
        "Scale" => within.starts_with("Scale"),
        part => part == within,
    });
    let (Some(map), Some((_, fields))) = (value.as_object(), fields) else {
        return value.clone();
    };
    let mut out = Map::new();
    for field in *fields {
        let found = map
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(field))
            .map(|(_, value)| value);
        let value = found.map_or(Value::Null, |value| recased(value, field, to_go));
        if to_go {
            out.insert((*field).to_owned(), value);
        } else if !value.is_null() {
            out.insert(lowered(field), value);
        }
    }
    Value::Object(out)
}

fn lowered(field: &str) -> String {
    let mut chars = field.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
