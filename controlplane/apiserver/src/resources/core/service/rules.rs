//! Validation of a Service's spec, after its addresses have been claimed.

use std::collections::HashSet;

use api::FieldErrors;
use serde_json::{Map, Value, json};

use super::shape;
use crate::resources::core::endpoints::not_special;
use crate::resources::validation::names::{
    self, is_dns1123_label, is_dns1123_subdomain, is_port_name, is_qualified_name,
};
use crate::resources::validation::{At, labels};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
/// A day.
const MAX_AFFINITY_SECONDS: i64 = 86400;
const KUBELET_PORT: i64 = 10250;

pub(super) fn spec(at: &At<'_>, errors: &mut FieldErrors) {
    let empty = Map::new();
    let map = at.map().unwrap_or(&empty);
    let headless = shape::is_headless(map);
    let kind = at.child("type");
    if at.child("ports").is_empty() && !headless && kind.str() != "ExternalName" {
        errors.push(at.child("ports").required(""));
    }
    by_type(at, headless, errors);
    ports(at, errors);
    labels::labels(&at.child("selector"), errors);
    affinity(at, errors);
    addresses(at, errors);
    for ip in at.child("externalIPs").items() {
        ip.check(errors, names::ip);
        ip.check(errors, not_special);
    }
    kind.require_one_of(errors, TYPES);
    unique_ports(at, errors);
    load_balancer_only(at, errors);
    traffic_policies(at, map, errors);
    at.child("trafficDistribution")
        .one_of(errors, &["PreferClose", "PreferSameNode", "PreferSameZone"]);
}

fn by_type(at: &At<'_>, headless: bool, errors: &mut FieldErrors) {
    let kind = at.child("type").str();
    match kind {
        "LoadBalancer" | "NodePort" => {
            if headless {
                let path = at.child("clusterIPs").path().index(0);
                let detail = format!("may not be set to 'None' for {kind} services");
                errors.push(api::FieldError::invalid(&path, "None", detail));
            }
            let exposed = |port: &At<'_>| port.child("port").i64() == Some(KUBELET_PORT) && kind == "LoadBalancer";
            for port in at.child("ports").items().iter().filter(|p| exposed(p)) {
                let detail = "may not expose port 10250 externally since it is used by kubelet";
                errors.push(port.invalid_as(KUBELET_PORT, detail));
            }
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !at.child(field).is_empty() {
                    errors.push(at.child(field).forbidden("may not be set for ExternalName services"));
                }
            }
            let name = at.child("externalName");
            let bare = name.str().strip_suffix('.').unwrap_or(name.str());
            if bare.is_empty() {
                errors.push(name.required(""));
            } else {
                errors.extend(is_dns1123_subdomain(bare).into_iter().map(|m| name.invalid_as(bare, m)));
            }
        }
        _ => {}
    }
}

fn ports(at: &At<'_>, errors: &mut FieldErrors) {
    let several = at.child("ports").len() > 1;
    let mut taken = HashSet::new();
    for port in at.child("ports").items() {
        let (name, number, target) = (port.child("name"), port.child("port"), port.child("targetPort"));
        if several && name.is_empty() {
            errors.push(name.required(""));
        } else if !name.is_empty() {
            name.check(errors, is_dns1123_label);
            if !taken.insert(name.str()) {
                errors.push(name.duplicate());
            }
        }
        let value = number.i64().unwrap_or_default();
        errors.extend(names::port(value).into_iter().map(|m| number.invalid_as(value, m)));
        port.child("protocol").require_one_of(errors, PROTOCOLS);
        target_port(&target, errors);
        port.child("appProtocol").check_if_set(errors, is_qualified_name);
    }
}

fn target_port(at: &At<'_>, errors: &mut FieldErrors) {
    match at.value() {
        Some(Value::String(name)) => errors.extend(is_port_name(name).into_iter().map(|m| at.invalid(m))),
        Some(Value::Number(number)) => {
            let number = number.as_i64().unwrap_or_default();
            errors.extend(names::port(number).into_iter().map(|m| at.invalid(m)));
        }
        _ => {}
    }
}

fn affinity(at: &At<'_>, errors: &mut FieldErrors) {
    let (mode, config) = (at.child("sessionAffinity"), at.child("sessionAffinityConfig"));
    mode.require_one_of(errors, &["ClientIP", "None"]);
    match mode.str() {
        "ClientIP" => {
            let seconds = config.child("clientIP").child("timeoutSeconds");
            if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds.i64().unwrap_or_default()) {
                let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                errors.push(seconds.invalid(detail));
            }
        }
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

/// `clusterIP`, `clusterIPs` and the families tell one story.
fn addresses(at: &At<'_>, errors: &mut FieldErrors) {
    let (single, plural) = (at.child("clusterIP"), at.child("clusterIPs"));
    let list = plural.items();
    match list.first() {
        None if !single.is_empty() => errors.push(plural.required("")),
        Some(_) if single.is_empty() => errors.push(single.invalid_as("", "must be set when `clusterIPs` is set")),
        Some(first) if first.str() != single.str() => {
            errors.push(plural.invalid("first value must match `clusterIP`"));
        }
        _ => {}
    }
    if list.len() > 2 {
        errors.push(plural.invalid("may only hold up to 2 values"));
    }
    for (index, ip) in list.iter().enumerate() {
        if ip.str() == "None" {
            if index > 0 || list.len() > 1 {
                errors.push(ip.invalid("'None' must be the first and only value"));
            }
        } else {
            ip.check(errors, names::ip);
        }
    }
    at.child("ipFamilyPolicy").one_of(errors, FAMILY_POLICIES);
    let mut taken = HashSet::new();
    for family in at.child("ipFamilies").items() {
        family.one_of(errors, FAMILIES);
        if !taken.insert(family.str()) {
            errors.push(family.duplicate());
        }
    }
}

fn unique_ports(at: &At<'_>, errors: &mut FieldErrors) {
    let (mut on_nodes, mut inside) = (HashSet::new(), HashSet::new());
    for port in at.child("ports").items() {
        let (protocol, node_port) = (port.child("protocol").str(), port.child("nodePort"));
        if let Some(number) = node_port.i64().filter(|n| *n != 0) {
            if at.child("type").str() == "ClusterIP" {
                errors.push(node_port.forbidden("may not be used when `type` is 'ClusterIP'"));
            }
            if !on_nodes.insert((protocol, number)) {
                errors.push(node_port.duplicate());
            }
        }
        let number = port.child("port").i64().unwrap_or_default();
        if !inside.insert((protocol, number)) {
            errors.push(port.duplicate_as(json!({"protocol": protocol, "port": number})));
        }
    }
}

fn load_balancer_only(at: &At<'_>, errors: &mut FieldErrors) {
    let balanced = at.child("type").str() == "LoadBalancer";
    for field in [
        "loadBalancerSourceRanges",
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
    ] {
        if at.child(field).is_set() && !balanced {
            errors.push(
                at.child(field)
                    .forbidden("may only be used when `type` is 'LoadBalancer'"),
            );
        }
    }
    for range in at.child("loadBalancerSourceRanges").items() {
        errors.extend(names::cidr(range.str().trim()).into_iter().map(|m| range.invalid(m)));
    }
}

fn traffic_policies(at: &At<'_>, map: &Map<String, Value>, errors: &mut FieldErrors) {
    let (outer, inner) = (at.child("externalTrafficPolicy"), at.child("internalTrafficPolicy"));
    if shape::is_external(map) {
        outer.require_one_of(errors, &["Cluster", "Local"]);
    } else if !outer.is_empty() {
        errors.push(outer.invalid("may only be set for externally-accessible services"));
    }
    let health = at.child("healthCheckNodePort");
    let number = health.i64().unwrap_or_default();
    if shape::needs_health_check(map) {
        errors.extend(names::port(number).into_iter().map(|m| health.invalid_as(number, m)));
    } else if number != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(health.invalid_as(number, detail));
    }
    if shape::needs_cluster_ip(map) {
        inner.require_one_of(errors, &["Cluster", "Local"]);
    } else {
        inner.one_of(errors, &["Cluster", "Local"]);
    }
}

/// An address once given stays, as long as the Service is of a type that has one; so does the port for health checks.
pub(super) fn changes(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    let is_checked = |spec: &At<'_>| spec.map().is_some_and(shape::needs_health_check);
    let (health, before) = (new.child("healthCheckNodePort"), old.child("healthCheckNodePort"));
    if is_checked(old) && is_checked(new) && health.i64() != before.i64() {
        errors.push(health.invalid("field is immutable"));
    }
    if [old, new].iter().any(|spec| spec.child("type").str() == "ExternalName") {
        return;
    }
    let (before, now) = (old.child("clusterIPs").items(), new.child("clusterIPs").items());
    let path = new.child("clusterIPs").path().index(0);
    let shown = new.child("clusterIPs").value().cloned().unwrap_or_default();
    match (before.first(), now.first()) {
        (Some(_), None) => errors.push(api::FieldError::invalid(
            &path,
            shown,
            "primary clusterIP can not be unset",
        )),
        (Some(a), Some(b)) if a.str() != b.str() => {
            errors.push(api::FieldError::invalid(&path, shown, "may not change once set"));
        }
        _ => {}
    }
}
