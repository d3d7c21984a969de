//! LimitRanger: what containers get by default, and how much containers, pods and claims may ask for, by the LimitRanges of
//! their namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{GroupResource, Object, Quantity, Status};
use async_trait::async_trait;
use serde_json::{Map, Value};

use super::amounts::{Amounts, amounts, of_container, of_pod};
use super::{Admission, AdmissionRequest, creates_pod, is_core};
use crate::registry::resource::{Operation, Resource};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Beyond this an amount is compared in whole units.
const MAX_MILLI: i64 = i64::MAX / 1000;

pub(super) struct LimitRanger;

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let claim = is_core(resource, "persistentvolumeclaims") && subresource.is_none();
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        creates_pod(operation, resource, subresource) || claim && writes
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !is_core(request.resource, "pods") {
            return Ok(());
        }
        for range in ranges(request) {
            if let Some(pod) = request.object.as_deref_mut() {
                set_defaults(pod, &range);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(object) = request.object.as_deref() else {
            return Ok(());
        };
        if request.old.is_some_and(Object::is_deleting) {
            return Ok(());
        }
        for range in ranges(request) {
            let mut found = match &*request.resource.plural {
                "pods" => pod_faults(object, &range),
                _ => claim_faults(object, &range),
            };
            // Of containers that all do the same wrong, it is said once.
            let mut said = std::collections::HashSet::new();
            found.retain(|fault| said.insert(fault.clone()));
            match found.as_slice() {
                [] => {}
                [one] => return Err(request.forbidden(one)),
                many => return Err(request.forbidden(&format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn ranges(request: &AdmissionRequest<'_>) -> Vec<Arc<Object>> {
    request
        .reader
        .list(&GroupResource::new("", "limitranges"), request.namespace)
}

/// The limits of a range that are of a type.
fn limits<'a>(range: &'a Object, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let is = move |limit: &&Value| limit.get("type").and_then(Value::as_str) == Some(kind);
    range.list_at("spec.limits").iter().filter(is)
}

/// Gives containers what they do not ask for; the pod's annotation says so.
fn set_defaults(pod: &mut Object, range: &Object) {
    let (mut requests, mut limits_) = (Amounts::new(), Amounts::new());
    for limit in limits(range, "Container") {
        requests.extend(amounts(limit.get("defaultRequest")));
        limits_.extend(amounts(limit.get("default")));
    }
    let mut notes = Vec::new();
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.at_mut(&format!("spec.{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let name = container
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &limits_, "limit")] {
                let set = complete(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        pod.set_annotation(ANNOTATION, &format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// Adds what `resources.field` lacks; the names of what was added, in order.
fn complete(container: &mut Map<String, Value>, field: &str, defaults: &Amounts) -> Vec<String> {
    let known = amounts(container.get("resources").and_then(|resources| resources.get(field)));
    let missing: Vec<(&String, &Quantity)> = defaults.iter().filter(|(name, _)| !known.contains_key(*name)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let resources = map_in(container, "resources");
    let Some(map) = resources.and_then(|resources| map_in(resources, field)) else {
        return Vec::new();
    };
    for (name, amount) in &missing {
        map.insert((*name).clone(), amount.to_string().into());
    }
    missing.into_iter().map(|(name, _)| name.clone()).collect()
}

fn map_in<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = map.entry(field).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Map::new().into();
    }
    entry.as_object_mut()
}

fn pod_faults(pod: &Object, range: &Object) -> Vec<String> {
    let mut found = Vec::new();
    for limit in limits(range, "Container") {
        for list in ["spec.containers", "spec.initContainers"] {
            for container in pod.list_at(list) {
                let (requests, limits) = (of_container(container, "requests"), of_container(container, "limits"));
                Check::new(limit, "Container").all(&requests, &limits, &mut found);
            }
        }
    }
    let empty = Map::new();
    let spec = pod.map_at("spec").unwrap_or(&empty);
    for limit in limits(range, "Pod") {
        Check::new(limit, "Pod").all(&of_pod(spec, "requests"), &of_pod(spec, "limits"), &mut found);
    }
    found
}

fn claim_faults(claim: &Object, range: &Object) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = amounts(claim.at("spec.resources.requests"));
    let mut found = Vec::new();
    for limit in limits(range, KIND) {
        let check = Check::new(limit, KIND);
        check.min(&requests, &Amounts::new(), &mut found);
        check.max_request(&requests, &mut found);
    }
    found
}

/// One limit, and what it is for.
struct Check<'a> {
    kind: &'a str,
    min: Amounts,
    max: Amounts,
    ratio: Amounts,
}

impl<'a> Check<'a> {
    fn new(limit: &Value, kind: &'a str) -> Self {
        Check {
            kind,
            min: amounts(limit.get("min")),
            max: amounts(limit.get("max")),
            ratio: amounts(limit.get("maxLimitRequestRatio")),
        }
    }

    fn all(&self, requests: &Amounts, limits: &Amounts, found: &mut Vec<String>) {
        self.min(requests, limits, found);
        self.max(requests, limits, found);
        self.ratio(requests, limits, found);
    }

    fn min(&self, requests: &Amounts, limits: &Amounts, found: &mut Vec<String>) {
        for (name, bound) in &self.min {
            let head = format!("minimum {name} usage per {} is {bound}", self.kind);
            match (requests.get(name), limits.get(name)) {
                (None, _) => found.push(format!("{head}.  No request is specified")),
                (Some(request), _) if request < bound => found.push(format!("{head}, but request is {request}")),
                (_, Some(limit)) if limit < bound => found.push(format!("{head}, but limit is {limit}")),
                _ => {}
            }
        }
    }

    fn max(&self, requests: &Amounts, limits: &Amounts, found: &mut Vec<String>) {
        for (name, bound) in &self.max {
            let head = format!("maximum {name} usage per {} is {bound}", self.kind);
            match (requests.get(name), limits.get(name)) {
                (_, None) => found.push(format!("{head}.  No limit is specified")),
                (_, Some(limit)) if limit > bound => found.push(format!("{head}, but limit is {limit}")),
                (Some(request), _) if request > bound => found.push(format!("{head}, but request is {request}")),
                _ => {}
            }
        }
    }

    fn max_request(&self, requests: &Amounts, found: &mut Vec<String>) {
        for (name, bound) in &self.max {
            let head = format!("maximum {name} usage per {} is {bound}", self.kind);
            match requests.get(name) {
                None => found.push(format!("{head}.  No request is specified")),
                Some(request) if request > bound => found.push(format!("{head}, but request is {request}")),
                Some(_) => {}
            }
        }
    }

    fn ratio(&self, requests: &Amounts, limits: &Amounts, found: &mut Vec<String>) {
        for (name, bound) in &self.ratio {
            let head = format!("{name} max limit to request ratio per {} is {bound}", self.kind);
            let some =
                |amounts: &BTreeMap<String, Quantity>| amounts.get(name).filter(|q| !q.is_zero()).map(comparable);
            match (some(requests), some(limits)) {
                (None, _) => found.push(format!("{head}, but no request is specified or request is 0")),
                (_, None) => found.push(format!("{head}, but no limit is specified or limit is 0")),
                (Some(request), Some(limit)) if limit / request > bound.as_f64() => {
                    found.push(format!("{head}, but provided ratio is {:.6}", limit / request));
                }
                _ => {}
            }
        }
    }
}

/// An amount for division: exact to the thousandth where it is not huge.
#[allow(clippy::cast_precision_loss, reason = "a ratio is compared, to six digits")]
fn comparable(amount: &Quantity) -> f64 {
    if amount.value() <= MAX_MILLI {
        amount.milli() as f64
    } else {
        amount.value() as f64 * 1000.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    fn range(limit: Value) -> Object {
        object(json!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"limits": [limit]}}))
    }

    fn pod(resources: Value) -> Object {
        object(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}}))
    }

    #[test]
    fn containers_get_what_they_do_not_ask_for() {
        let range = range(
            json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}),
        );
        let mut pod = pod(json!({"limits": {"cpu": "2"}}));
        set_defaults(&mut pod, &range);
        let expected = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        assert_eq!(pod.list_at("spec.containers")[0].get("resources"), Some(&expected));
        assert_eq!(
            pod.annotation(ANNOTATION),
            Some("LimitRanger plugin set: cpu request for container c; memory limit for container c")
        );
        let once = pod.clone();
        set_defaults(&mut pod, &range);
        assert_eq!(pod, once);
    }

    #[test]
    fn bounds_are_kept() {
        let bound = |field: &str, amount: &str, kind: &str| range(json!({"type": kind, field: {"cpu": amount}}));
        let asks = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        let cases = [
            (
                bound("min", "1", "Container"),
                json!({}),
                vec!["minimum cpu usage per Container is 1.  No request is specified"],
            ),
            (
                bound("min", "1", "Container"),
                asks("500m", "1"),
                vec!["minimum cpu usage per Container is 1, but request is 500m"],
            ),
            (
                bound("max", "1", "Container"),
                json!({}),
                vec!["maximum cpu usage per Container is 1.  No limit is specified"],
            ),
            (
                bound("max", "1", "Pod"),
                asks("1", "2"),
                vec!["maximum cpu usage per Pod is 1, but limit is 2"],
            ),
            (bound("max", "2", "Pod"), asks("1", "2"), vec![]),
            (
                bound("maxLimitRequestRatio", "2", "Container"),
                asks("1", "3"),
                vec!["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"],
            ),
            (
                bound("maxLimitRequestRatio", "2", "Container"),
                json!({}),
                vec!["cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"],
            ),
        ];
        for (range, resources, expected) in cases {
            assert_eq!(pod_faults(&pod(resources.clone()), &range), expected, "{resources}");
        }
        let claim = object(json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}}));
        let limit = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}, "min": {"storage": "1Gi"}});
        assert_eq!(
            claim_faults(&claim, &range(limit)),
            ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi"]
        );
    }
}
