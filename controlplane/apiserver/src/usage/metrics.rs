//! `NodeMetrics` and `PodMetrics`: as objects, as tables and as schemas.

use std::borrow::Cow;

use api::Quantity;
use api::table::{Column, Row, Table};
use api::time::{Timestamp, rfc3339};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantitySchema;
use schema::openapi::schema_json;
use serde_json::{Map, Value, json};

use super::API_VERSION;
use super::history::Rate;
use crate::registry::reader::Selected;

/// `NodeMetrics` of a node.
pub(super) fn node(node: &Selected, rate: Rate, now: Timestamp) -> Value {
    let mut object = object("NodeMetrics", node, &rate, now);
    put(&mut object, "usage", usage(&rate));
    object
}

/// `PodMetrics` of a pod, if anything is known of its containers; its time is that of the one that was measured first.
pub(super) fn pod(pod: &Selected, containers: &[(&str, Rate)], now: Timestamp) -> Option<Value> {
    let (_, earliest) = containers.iter().min_by_key(|(_, rate)| rate.at)?;
    let mut object = object("PodMetrics", pod, earliest, now);
    let containers = containers.iter();
    let containers: Vec<Value> = containers
        .map(|(name, rate)| json!({"name": name, "usage": usage(rate)}))
        .collect();
    put(&mut object, "containers", containers.into());
    Some(object)
}

fn object(kind: &str, of: &Selected, rate: &Rate, now: Timestamp) -> Value {
    let mut metadata = json!({"name": &*of.name.name, "creationTimestamp": rfc3339(now)});
    if let Some(namespace) = &of.name.namespace {
        put(&mut metadata, "namespace", (&**namespace).into());
    }
    if !of.labels.is_empty() {
        let labels: Map<String, Value> = of.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
        put(&mut metadata, "labels", labels.into());
    }
    let at = Timestamp::from_nanosecond(rate.at.into()).unwrap_or(now);
    json!({"kind": kind, "apiVersion": API_VERSION, "metadata": metadata, "timestamp": rfc3339(at),
        "window": go_duration(rate.window)})
}

fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

fn usage(rate: &Rate) -> Value {
    json!({"cpu": cores(rate.cpu).to_string(), "memory": bytes(rate.memory).to_string()})
}

fn cores(nanos: u64) -> Quantity {
    Quantity::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

fn bytes(bytes: u64) -> Quantity {
    Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A duration as Go prints it: `1m0.5s`.
fn go_duration(nanoseconds: u64) -> String {
    let (hours, minutes) = (nanoseconds / 3_600_000_000_000, nanoseconds / 60_000_000_000 % 60);
    let (whole, part) = (nanoseconds / 1_000_000_000 % 60, nanoseconds % 1_000_000_000);
    let fraction = format!("{part:09}");
    let fraction = match fraction.trim_end_matches('0') {
        "" => Cow::Borrowed(""),
        digits => Cow::Owned(format!(".{digits}")),
    };
    match (hours, minutes) {
        // Go has smaller units below a second.
        (0, 0) if whole == 0 && part > 0 => match part {
            ..1_000 => format!("{part}ns"),
            1_000..1_000_000 => format!("{}µs", part as f64 / 1e3),
            _ => format!("{}ms", part as f64 / 1e6),
        },
        (0, 0) => format!("{whole}{fraction}s"),
        (0, minutes) => format!("{minutes}m{whole}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{whole}{fraction}s"),
    }
}

/// As metrics-server prints it: a pod's containers together. Without objects there are no columns either.
pub(super) fn table(objects: &[Value]) -> Table {
    let column = |name, format| Column::new(name, "string", "").format(format);
    let columns = vec![
        Column::new("Name", "string", "Name of the resource").format("name"),
        column("cpu", "quantity"),
        column("memory", "quantity"),
        column("Window", "duration"),
    ];
    Table {
        columns: if objects.is_empty() { Vec::new() } else { columns },
        rows: objects.iter().map(row).collect(),
        ..Table::default()
    }
}

fn row(object: &Value) -> Row {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let parts = object.get("containers").and_then(Value::as_array);
    let parts: Vec<&Value> = parts.map_or_else(|| vec![object], |parts| parts.iter().collect());
    let sum = |resource: &str| {
        let amounts = parts
            .iter()
            .filter_map(|part| part.get("usage")?.get(resource)?.as_str());
        let amounts = amounts.filter_map(|amount| amount.parse::<Quantity>().ok());
        amounts
            .fold(Quantity::default(), |sum, amount| sum + amount)
            .to_string()
    };
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    Row {
        cells: vec![
            text("/metadata/name").into(),
            sum("cpu").into(),
            sum("memory").into(),
            text("/window").into(),
        ],
        object: json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
    }
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const CONTAINER: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics";

pub(super) fn node_schema() -> Value {
    schema(
        "NodeMetrics tells what a node uses.",
        &["timestamp", "usage", "window"],
        ("usage", amounts()),
        None,
    )
}

pub(super) fn pod_schema() -> Value {
    let container = json!({
        "description": "ContainerMetrics tells what a container uses.",
        "type": "object",
        "required": ["name", "usage"],
        "properties": {
            "name": {"description": "The container's name, as the pod has it.", "type": "string"},
            "usage": amounts(),
        },
    });
    let containers = json!({
        "description": "What each container uses, measured within the window.",
        "type": "array",
        "items": {"$ref": format!("#/$defs/{CONTAINER}")},
    });
    schema(
        "PodMetrics tells what a pod's containers use.",
        &["containers", "timestamp", "window"],
        ("containers", containers),
        Some((CONTAINER, container)),
    )
}

fn amounts() -> Value {
    json!({
        "description": "How much of each resource: cpu in cores on average over the window, memory as the working set now.",
        "type": "object",
        "additionalProperties": {"$ref": format!("#/$defs/{QUANTITY}")},
    })
}

/// A kind's schema with all it refers to.
fn schema(about: &str, required: &[&str], own: (&str, Value), beside: Option<(&str, Value)>) -> Value {
    // Metadata and times come with any kind.
    let mut definitions = schema_json::<ConfigMap>().get("$defs").cloned().unwrap_or_default();
    let mut quantity = schema_json::<QuantitySchema>();
    if let Some(quantity) = quantity.as_object_mut() {
        quantity.remove("$defs");
    }
    put(&mut definitions, QUANTITY, quantity);
    if let Some((name, definition)) = beside {
        put(&mut definitions, name, definition);
    }
    let mut schema = json!({
        "description": about,
        "type": "object",
        "required": required,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": format!("#/$defs/{META}ObjectMeta")},
            "timestamp": {
                "description": "The end of the window.",
                "$ref": format!("#/$defs/{META}Time"),
            },
            "window": {"description": "How long was measured, as Go prints durations.", "type": "string"},
        },
        "$defs": definitions,
    });
    if let Some(properties) = schema.get_mut("properties") {
        put(properties, own.0, own.1);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does() {
        let cases = [
            (0, "0s"),
            (15_000_000_000, "15s"),
            (15_012_345_678, "15.012345678s"),
            (60_500_000_000, "1m0.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000, "1.5ms"),
            (1_500, "1.5µs"),
            (15, "15ns"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }

    #[test]
    fn amounts_are_whole_in_the_largest_unit_that_holds_them() {
        let rate = Rate {
            at: 0,
            window: 1,
            cpu: 12_345_678,
            memory: 5 << 20,
        };
        assert_eq!(usage(&rate), json!({"cpu": "12345678n", "memory": "5Mi"}));
        let idle = Rate {
            cpu: 0,
            memory: 0,
            ..rate
        };
        assert_eq!(usage(&idle), json!({"cpu": "0", "memory": "0"}));
    }
}
