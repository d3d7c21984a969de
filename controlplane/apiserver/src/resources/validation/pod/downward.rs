//! References from a pod to its own fields and resources (the downward API).

use api::FieldErrors;

use super::super::names::is_qualified_name;
use super::super::{At, quantity};

/// What an environment variable may read.
pub(super) const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a file of a volume may read.
pub(super) const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// What the version of the fields has names for at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const CPU_DIVISORS: &[&str] = &["1m", "1"];
const BYTE_DIVISORS: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// An `ObjectFieldSelector`, if set; `allowed` are the paths that this place may read whole.
pub(super) fn field(at: &At<'_>, allowed: &[&str], errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let (version, path) = (at.child("apiVersion"), at.child("fieldPath"));
    if version.is_empty() {
        return errors.push(version.required(""));
    }
    if path.is_empty() {
        return errors.push(path.required(""));
    }
    if version.str() != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {}", version.str());
        return errors.push(path.invalid(detail));
    }
    match subscripted(path.str()) {
        Some((map, key)) => subscript(at, map, key, errors),
        None if !KNOWN_FIELDS.contains(&path.str()) => {
            let detail = format!("error converting fieldPath: field label not supported: {}", path.str());
            errors.push(path.invalid(detail));
        }
        None if !allowed.contains(&path.str()) => errors.push(path.not_supported(allowed)),
        None => {}
    }
}

/// `metadata.labels['key']` as map and key.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

fn subscript(at: &At<'_>, map: &str, key: &str, errors: &mut FieldErrors) {
    let messages = match map {
        "metadata.annotations" => is_qualified_name(&key.to_lowercase()),
        "metadata.labels" => is_qualified_name(key),
        _ => return errors.push(at.invalid_as(map, "does not support subscript")),
    };
    errors.extend(messages.into_iter().map(|message| at.invalid_as(key, message)));
}

/// A `ResourceFieldSelector`, if set; a volume must name the container it means.
pub(super) fn resource(at: &At<'_>, in_volume: bool, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let (container, resource) = (at.child("containerName"), at.child("resource"));
    if in_volume && container.is_empty() {
        errors.push(container.required(""));
    } else if resource.is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&resource.str()) && !resource.str().contains(".hugepages-") {
        errors.push(resource.not_supported(RESOURCES));
    }
    divisor(at, resource.str(), errors);
}

fn divisor(at: &At<'_>, resource: &str, errors: &mut FieldErrors) {
    let divisor = at.child("divisor");
    let Some(text) = quantity::parse(&divisor)
        .filter(|q| q.milli() != 0)
        .map(|q| q.to_string())
    else {
        return;
    };
    let kind = resource.split_once('.').map(|(_, kind)| kind).unwrap_or_default();
    let (supported, said) = match kind {
        "cpu" => (CPU_DIVISORS, "1m and 1 are supported with the cpu resource"),
        "memory" => (
            BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        "ephemeral-storage" => (
            BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource",
        ),
        _ => return,
    };
    if !supported.contains(&text.as_str()) {
        errors.push(divisor.invalid_as(resource, format!("only divisor's values {said}")));
    }
}
