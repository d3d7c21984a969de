//! The quality of service a pod gets from what its containers ask for.

use api::{Object, Quantity};
use serde_json::Value;

/// `Guaranteed`, `Burstable` or `BestEffort`. Only processor and memory count.
pub(super) fn class(pod: &Object) -> &'static str {
    let containers = || {
        pod.list_at("spec.containers")
            .iter()
            .chain(pod.list_at("spec.initContainers"))
    };
    let asked = |kind, resource| {
        containers()
            .filter_map(move |c| amount(c, kind, resource))
            .any(|q| q.milli() > 0)
    };
    let nothing = ["requests", "limits"]
        .iter()
        .all(|kind| ["cpu", "memory"].iter().all(|r| !asked(*kind, *r)));
    if nothing {
        return "BestEffort";
    }
    let fixed = |c: &Value| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = amount(c, "limits", resource).filter(|q| q.milli() > 0);
            limit.is_some() && amount(c, "requests", resource) == limit
        })
    };
    if containers().all(fixed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn amount(container: &Value, kind: &str, resource: &str) -> Option<Quantity> {
    match container.get("resources")?.get(kind)?.get(resource)? {
        Value::String(text) => text.parse().ok(),
        number => number.to_string().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_follow_requests_and_limits() {
        let cases = [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}), "Burstable"),
            (json!({"requests": {"example.com/gpu": "1"}}), "BestEffort"),
        ];
        for (resources, expected) in cases {
            let mut pod = Object::new("v1", "Pod");
            pod.set("spec.containers", json!([{"name": "c", "resources": resources}]));
            assert_eq!(class(&pod), expected, "{resources}");
        }
    }
}
