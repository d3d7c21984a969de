//! Amounts of resources: requests, limits, capacities, overhead.

use api::FieldErrors;
use api::quantity::Quantity;

use super::At;
use super::names::is_qualified_name;

const STANDARD_CONTAINER: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// Names without a prefix that stand for something somewhere, if not in a container.
const STANDARD_ELSEWHERE: &[&str] = &[
    "pods",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
    "storage",
];

/// Objects that a quota counts.
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// `resources` of a container: names, amounts, and requests within limits.
pub(crate) fn requirements(at: &At<'_>, errors: &mut FieldErrors) {
    let (limits, requests) = (at.child("limits"), at.child("requests"));
    amounts(&limits, errors);
    for (name, request) in requests.entries() {
        amount(name, &request, errors);
        within_limit(name, &request, &limits, &requests, errors);
    }
    for claim in at.child("claims").items() {
        claim.child("name").require(errors, |_| Vec::new());
    }
}

/// A map of container resources to amounts.
pub(crate) fn amounts(at: &At<'_>, errors: &mut FieldErrors) {
    for (name, value) in at.entries() {
        amount(name, &value, errors);
    }
}

fn amount(name: &str, at: &At<'_>, errors: &mut FieldErrors) {
    container_resource(name, at, errors);
    non_negative(at, errors);
    if is_extended(name) && parse(at).is_some_and(|q| q.milli() % 1000 != 0) {
        errors.push(at.invalid("must be an integer"));
    }
}

/// The name of any resource, reported at `at`; says whether it has the form of one.
pub(crate) fn resource_name(name: &str, at: &At<'_>, errors: &mut FieldErrors) -> bool {
    let bad = is_qualified_name(name);
    let qualified = bad.is_empty();
    errors.extend(bad.into_iter().map(|m| at.invalid_as(name, m)));
    let standard = || is_container_resource(name) || STANDARD_ELSEWHERE.contains(&name) || is_huge_page_request(name);
    if qualified && !name.contains('/') && !standard() {
        errors.push(at.invalid_as(name, "must be a standard resource type or fully qualified"));
    }
    qualified
}

/// The name of something that containers ask for.
pub(crate) fn container_resource(name: &str, at: &At<'_>, errors: &mut FieldErrors) {
    if !resource_name(name, at, errors) {
        return;
    }
    if !name.contains('/') {
        if !is_container_resource(name) {
            errors.push(at.invalid_as(name, "must be a standard resource for containers"));
        }
    } else if !name.contains("kubernetes.io/") && !is_extended(name) {
        errors.push(at.invalid_as(name, "doesn't follow extended resource name standard"));
    }
}

/// An amount that is not below zero.
pub(crate) fn non_negative(at: &At<'_>, errors: &mut FieldErrors) {
    if parse(at).is_some_and(|q| q.milli() < 0) {
        errors.push(at.invalid("must be greater than or equal to 0"));
    }
}

fn within_limit(name: &str, request: &At<'_>, limits: &At<'_>, requests: &At<'_>, errors: &mut FieldErrors) {
    let overcommit = may_overcommit(name);
    let limit = limits.entries().into_iter().find(|(n, _)| *n == name).map(|(_, at)| at);
    let Some(limit) = limit else {
        if !overcommit {
            errors.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        return;
    };
    let (Some(requested), Some(limited)) = (parse(request), parse(&limit)) else {
        return;
    };
    if !overcommit && requested != limited {
        let detail = format!("must be equal to {name} limit of {limited}");
        errors.push(requests.invalid_as(requested.to_string(), detail));
    } else if requested > limited {
        let detail = format!("must be less than or equal to {name} limit of {limited}");
        errors.push(requests.invalid_as(requested.to_string(), detail));
    }
}

/// The amount at a place, whether written as text or as a number; `None` when it is none (decoding has said so).
pub(crate) fn parse(at: &At<'_>) -> Option<Quantity> {
    match at.value()? {
        serde_json::Value::String(text) => text.parse().ok(),
        serde_json::Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Whether more of it may be promised than there is.
pub(crate) fn may_overcommit(name: &str) -> bool {
    !is_extended(name) && !is_huge_page(name)
}

/// Whether it comes in whole numbers.
pub(crate) fn is_counted(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

fn is_container_resource(name: &str) -> bool {
    STANDARD_CONTAINER.contains(&name) || is_huge_page(name)
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_huge_page_request(name: &str) -> bool {
    name.starts_with("requests.hugepages-")
}

/// Resources that nodes advertise beyond Kubernetes' own, counted in whole numbers.
fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && is_qualified_name(&format!("requests.{name}")).is_empty()
}
