//! `fieldRef`: what a pod may learn of itself. Pure.

use std::{fmt::Write, net::IpAddr};

use client::Labels;

use crate::{pod::Pod, resources::Capacity};

/// What of the pod and node is not in the pod's spec.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) hostname: String,
    pub(crate) pod_ips: Vec<IpAddr>,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) capacity: Capacity,
}

/// The value of a field of the pod.
///
/// # Errors
/// Says that the path is not one that may be asked for.
pub(crate) fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let (metadata, spec) = (&pod.metadata, &pod.spec);
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        return match map {
            "metadata.labels" => Ok(metadata.labels.get(key).unwrap_or_default().to_owned()),
            "metadata.annotations" => Ok(metadata.annotations.get(key).unwrap_or_default().to_owned()),
            _ => Err(format!("invalid fieldPath with subscript: {path}")),
        };
    }
    match path {
        "metadata.name" => Ok(metadata.name.to_string()),
        "metadata.namespace" => Ok(metadata.namespace.to_string()),
        "metadata.uid" => Ok(metadata.uid.to_string()),
        "metadata.labels" => Ok(lines(&metadata.labels)),
        "metadata.annotations" => Ok(lines(&metadata.annotations)),
        "spec.nodeName" => Ok(spec.node_name.clone()),
        "spec.serviceAccountName" => Ok(spec.service_account_name.clone()),
        "status.hostIP" => Ok(facts.host_ips.first().map_or_else(String::new, IpAddr::to_string)),
        "status.hostIPs" => Ok(joined(&facts.host_ips)),
        "status.podIP" => Ok(facts.pod_ips.first().map_or_else(String::new, IpAddr::to_string)),
        "status.podIPs" => Ok(joined(&facts.pod_ips)),
        _ => Err(format!("unsupported fieldPath: {path}")),
    }
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// `key="value"` lines in order of the keys, values quoted as Go's `%q` does.
fn lines(map: &Labels) -> String {
    let mut out = String::new();
    for (key, value) in map.iter() {
        let quoted = serde_json::to_string(value).unwrap_or_default();
        let line = if out.is_empty() { "" } else { "\n" };
        let _ = write!(out, "{line}{key}={quoted}"); // writing to a String cannot fail
    }
    out
}
