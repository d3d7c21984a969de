//! What an autoscaler's spec may say.

use api::{FieldErrors, Object};

use crate::resources::validation::names::{is_dns1123_label, path_segment};
use crate::resources::validation::{At, quantity};

const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;
/// The parts of a metric, of which one stands there, and the types that name them; in the order in which they are read.
const PARTS: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

pub(super) fn spec(old: Option<&Object>, new: &Object, errors: &mut FieldErrors) {
    let spec = At::root(new, "spec");
    let before = old.map(|old| At::root(old, "spec"));
    replicas(before.as_ref(), &spec, errors);
    let target = spec.child("scaleTargetRef");
    reference(&target, errors);
    let same = before.as_ref().is_some_and(|before| {
        let was = before.child("scaleTargetRef");
        ["apiVersion", "kind"]
            .iter()
            .all(|field| was.child(field).str() == target.child(field).str())
    });
    if !same {
        let grouped = target.child("kind").str() != "ReplicationController";
        api_version(&target.child("apiVersion"), grouped, errors);
    }
    let tolerated = before.is_some_and(|before| has_bad_versions(&before));
    metrics(&spec, tolerated, errors);
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.child("behavior").child(direction);
        if rules.is_set() {
            scaling(&rules, errors);
        }
    }
}

/// Nothing is scaled to zero but what is at zero already.
fn replicas(before: Option<&At<'_>>, spec: &At<'_>, errors: &mut FieldErrors) {
    let was_zero = before.is_some_and(|before| before.child("minReplicas").i64() == Some(0));
    let bound = i64::from(!was_zero);
    let (least, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
    if least.i64().is_some_and(|number| number < bound) {
        errors.push(least.invalid(format!("must be greater than or equal to {bound}")));
    }
    let max = most.i64().unwrap_or_default();
    if max == 0 {
        errors.push(most.required("must be set and greater than 0"));
    } else if max < 0 {
        errors.push(most.invalid("must be greater than or equal to 1"));
    }
    if least.i64().is_some_and(|min| max < min) {
        errors.push(most.invalid_as(max, "must be greater than or equal to `minReplicas`"));
    }
}

fn reference(at: &At<'_>, errors: &mut FieldErrors) {
    at.child("kind").require(errors, path_segment);
    at.child("name").require(errors, path_segment);
}

fn api_version(at: &At<'_>, grouped: bool, errors: &mut FieldErrors) {
    if let Some(problem) = bad_version(at.str(), grouped) {
        errors.push(at.invalid(problem));
    }
}

fn bad_version(version: &str, grouped: bool) -> Option<String> {
    if version.matches('/').count() > 1 {
        return Some(format!("unexpected GroupVersion string: {version}"));
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    (grouped && group.is_empty()).then(|| "apiVersion must specify API group".to_owned())
}

fn has_bad_versions(spec: &At<'_>) -> bool {
    let described = |metric: &At<'_>| {
        metric
            .child("object")
            .child("describedObject")
            .child("apiVersion")
            .str()
            .to_owned()
    };
    let metrics = spec.child("metrics").items();
    metrics
        .iter()
        .any(|metric| bad_version(&described(metric), false).is_some())
}

fn metrics(spec: &At<'_>, tolerated: bool, errors: &mut FieldErrors) {
    let metrics = spec.child("metrics");
    for metric in metrics.items() {
        self::metric(&metric, tolerated, errors);
    }
    let outside = |metric: &At<'_>| ["Object", "External"].contains(&metric.child("type").str());
    if spec.child("minReplicas").i64() == Some(0) && !metrics.items().iter().any(outside) {
        errors.push(
            metrics
                .forbidden("must specify at least one Object or External metric to support scaling to zero replicas"),
        );
    }
}

fn metric(at: &At<'_>, tolerated: bool, errors: &mut FieldErrors) {
    let type_ = at.child("type");
    let own = PARTS
        .iter()
        .find(|(_, name)| *name == type_.str())
        .map(|(part, _)| *part);
    if type_.is_empty() {
        errors.push(type_.required("must specify a metric source type"));
    }
    if own.is_none() {
        errors.push(type_.not_supported(&["ContainerResource", "External", "Object", "Pods", "Resource"]));
    }
    let present: Vec<&str> = PARTS
        .iter()
        .map(|(part, _)| *part)
        .filter(|part| at.child(part).is_set())
        .collect();
    if let Some(part) = present.first() {
        source(part, &at.child(part), tolerated, errors);
    }
    if let Some(own) = own.filter(|own| !present.contains(own)) {
        errors.push(
            at.child(own)
                .required("must populate information for the given metric source"),
        );
    }
    if present.len() > 1 {
        let others = present.iter().filter(|part| Some(**part) != own);
        errors.extend(others.map(|part| at.child(part).forbidden("must populate the given metric source only")));
    }
}

fn source(part: &str, at: &At<'_>, tolerated: bool, errors: &mut FieldErrors) {
    match part {
        "object" => {
            let described = at.child("describedObject");
            reference(&described, errors);
            if !tolerated {
                api_version(&described.child("apiVersion"), false, errors);
            }
            identifier(&at.child("metric"), errors);
        }
        "external" | "pods" => identifier(&at.child("metric"), errors),
        "resource" => {
            let name = at.child("name");
            if name.is_empty() {
                errors.push(name.required("must specify a resource name"));
            }
        }
        _ => container_resource(at, errors),
    }
    let target = at.child("target");
    self::target(&target, errors);
    aim(part, &target, errors);
}

fn container_resource(at: &At<'_>, errors: &mut FieldErrors) {
    let (name, container) = (at.child("name"), at.child("container"));
    match name.str() {
        "" => errors.push(name.required("must specify a resource name")),
        resource => quantity::container_resource(resource, &name, errors),
    }
    match container.is_empty() {
        true => errors.push(container.required("must specify a container")),
        false => container.check(errors, is_dns1123_label),
    }
}

fn identifier(at: &At<'_>, errors: &mut FieldErrors) {
    let name = at.child("name");
    match name.is_empty() {
        true => errors.push(name.required("must specify a metric name")),
        false => name.check(errors, path_segment),
    }
}

fn target(at: &At<'_>, errors: &mut FieldErrors) {
    let type_ = at.child("type");
    if type_.is_empty() {
        errors.push(type_.required("must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&type_.str()) {
        errors.push(type_.invalid("must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        let amount = at.child(field);
        if quantity::parse(&amount).is_some_and(|amount| amount.milli() <= 0) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let share = at.child("averageUtilization");
    if share.i64().is_some_and(|share| share < 1) {
        errors.push(share.invalid("must be greater than 0"));
    }
}

/// The target is the number that the kind of metric has, and one number.
fn aim(part: &str, target: &At<'_>, errors: &mut FieldErrors) {
    let (value, average, share) = (
        target.child("value"),
        target.child("averageValue"),
        target.child("averageUtilization"),
    );
    match part {
        "object" if !value.is_set() && !average.is_set() => {
            errors.push(average.required("must set either a target value or averageValue"));
        }
        "external" if !value.is_set() && !average.is_set() => {
            errors.push(average.required("must set either a target value for metric or a per-pod target"));
        }
        "external" if value.is_set() && average.is_set() => {
            errors.push(value.forbidden("may not set both a target value for metric and a per-pod target"));
        }
        "pods" if !average.is_set() => errors.push(average.required("must specify a positive target averageValue")),
        "resource" | "containerResource" => match (share.is_set(), average.is_set()) {
            (false, false) => errors.push(share.required("must set either a target raw value or a target utilization")),
            (true, true) => {
                errors.push(average.forbidden("may not set both a target raw value and a target utilization"));
            }
            _ => {}
        },
        _ => {}
    }
}

fn scaling(at: &At<'_>, errors: &mut FieldErrors) {
    let window = at.child("stabilizationWindowSeconds");
    if window.i64().is_some_and(|seconds| seconds < 0) {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.i64().is_some_and(|seconds| seconds > MAX_WINDOW) {
        errors.push(window.invalid(format!("must be less than or equal to {MAX_WINDOW}")));
    }
    at.child("selectPolicy").one_of(errors, &["Disabled", "Max", "Min"]);
    let policies = at.child("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        self::policy(&policy, errors);
    }
    quantity::non_negative(&at.child("tolerance"), errors);
}

fn policy(at: &At<'_>, errors: &mut FieldErrors) {
    let (type_, value, period) = (at.child("type"), at.child("value"), at.child("periodSeconds"));
    if !["Pods", "Percent"].contains(&type_.str()) {
        errors.push(type_.not_supported(&["Percent", "Pods"]));
    }
    for number in [&value, &period] {
        let amount = number.i64().unwrap_or_default();
        if amount <= 0 {
            errors.push(number.invalid_as(amount, "must be greater than zero"));
        }
    }
    if period.i64().is_some_and(|seconds| seconds > MAX_PERIOD) {
        errors.push(period.invalid(format!("must be less than or equal to {MAX_PERIOD}")));
    }
}
