//! The `Targets` column: what the metrics are, out of what they should be.

use api::Object;
use serde_json::Value;

const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(super) fn shown(autoscaler: &Object) -> String {
    let specs = autoscaler.list_at("spec.metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = autoscaler.list_at("status.currentMetrics");
    let list = specs
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, spec)| one(spec, statuses.get(index)));
    let head = list.collect::<Vec<_>>().join(", ");
    match specs.len() > SHOWN {
        true => format!("{head} + {} more...", specs.len() - SHOWN),
        false => head,
    }
}

fn one(spec: &Value, status: Option<&Value>) -> String {
    let part = match spec.get("type").and_then(Value::as_str) {
        Some("External") => "external",
        Some("Pods") => "pods",
        Some("Object") => "object",
        Some("Resource") => "resource",
        Some("ContainerResource") => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let metric = Metric {
        spec: spec.get(part),
        status: status.and_then(|status| status.get(part)),
    };
    match part {
        "pods" => metric.of("averageValue"),
        "external" | "object" => match metric.target("averageValue") {
            Some(_) => format!("{} (avg)", metric.of("averageValue")),
            None => metric.of("value"),
        },
        _ => {
            let name = spec
                .pointer(&format!("/{part}/name"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            match metric.target("averageValue") {
                Some(_) => format!("{name}: {}", metric.of("averageValue")),
                None => format!("{name}: {}", metric.utilization()),
            }
        }
    }
}

struct Metric<'a> {
    spec: Option<&'a Value>,
    status: Option<&'a Value>,
}

impl Metric<'_> {
    fn target(&self, field: &str) -> Option<String> {
        text(self.spec?.get("target")?.get(field)?)
    }

    fn current(&self, field: &str) -> Option<String> {
        text(self.status?.get("current")?.get(field)?)
    }

    fn of(&self, field: &str) -> String {
        let current = self.current(field).unwrap_or_else(|| UNKNOWN.to_owned());
        format!("{current}/{}", self.target(field).unwrap_or_default())
    }

    fn utilization(&self) -> String {
        let percent = |share: Option<String>, otherwise: &str| {
            share.map_or_else(|| otherwise.to_owned(), |share| format!("{share}%"))
        };
        let field = "averageUtilization";
        format!(
            "{}/{}",
            percent(self.current(field), UNKNOWN),
            percent(self.target(field), "<auto>")
        )
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
