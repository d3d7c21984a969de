//! What a Service's spec becomes before it is checked: defaults, and on an update what the writer left out because the
//! server had filled it in. Pure functions over the spec.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::resources::defaults::{is_left_out, map_of, maps_of, set_default};

/// Three hours.
const AFFINITY_SECONDS: i64 = 10800;

type Spec = Map<String, Value>;

pub(super) fn kind(spec: &Spec) -> &str {
    spec.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Whether Services of this type have an address in the cluster.
pub(super) fn needs_cluster_ip(spec: &Spec) -> bool {
    matches!(kind(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether the ports of this Service are open on every node.
pub(super) fn needs_node_ports(spec: &Spec) -> bool {
    let wanted = spec
        .get("allocateLoadBalancerNodePorts")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    kind(spec) == "NodePort" || (kind(spec) == "LoadBalancer" && wanted)
}

/// Whether a load balancer has to ask each node whether it has endpoints.
pub(super) fn needs_health_check(spec: &Spec) -> bool {
    let policy = spec.get("externalTrafficPolicy").and_then(Value::as_str);
    kind(spec) == "LoadBalancer" && policy == Some("Local")
}

/// Where it asks; 0 where that is not known yet, or none that could be one.
pub(super) fn health_check_port(spec: &Spec) -> u16 {
    let number = spec.get("healthCheckNodePort").and_then(Value::as_u64);
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or_default()
}

/// Whether traffic can reach the Service from outside the cluster.
pub(super) fn is_external(spec: &Spec) -> bool {
    let addresses = spec
        .get("externalIPs")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    matches!(kind(spec), "NodePort" | "LoadBalancer") || (kind(spec) == "ClusterIP" && addresses)
}

pub(super) fn is_headless(spec: &Spec) -> bool {
    spec.get("clusterIP").and_then(Value::as_str) == Some("None") || ips(spec).first() == Some(&"None")
}

pub(super) fn ips(spec: &Spec) -> Vec<&str> {
    spec.get("clusterIPs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The node ports that are set, in the order of the ports.
pub(super) fn node_ports(spec: &Spec) -> Vec<u16> {
    let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    ports.map(node_port).filter(|port| *port != 0).collect()
}

/// A port's node port; 0 when there is none, or none that could be one.
pub(super) fn node_port(port: &Value) -> u16 {
    port.get("nodePort")
        .and_then(Value::as_u64)
        .and_then(|n| u16::try_from(n).ok())
        .unwrap_or_default()
}

pub(super) fn set_defaults(spec: &mut Spec) {
    set_default(spec, "type", "ClusterIP");
    set_default(spec, "sessionAffinity", "None");
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("None") {
        spec.remove("sessionAffinityConfig");
    } else if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        set_default(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}),
        );
        if let Some(client) = map_of(spec, "sessionAffinityConfig").and_then(|config| map_of(config, "clientIP")) {
            set_default(client, "timeoutSeconds", AFFINITY_SECONDS);
        }
    }
    for port in maps_of(spec, "ports") {
        set_default(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        if is_left_out(port, "targetPort") || port.get("targetPort").and_then(Value::as_i64) == Some(0) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    if is_external(spec) {
        set_default(spec, "externalTrafficPolicy", "Cluster");
    }
    if needs_cluster_ip(spec) {
        set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind(spec) == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// A writer who knows only `clusterIP` means `clusterIPs` too.
pub(super) fn plural_from_singular(spec: &mut Spec) {
    let single = spec
        .get("clusterIP")
        .and_then(Value::as_str)
        .filter(|ip| !ip.is_empty())
        .map(str::to_owned);
    if let Some(ip) = single.filter(|_| ips(spec).is_empty()) {
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
}

/// On an update, a change of `clusterIP` alone carries `clusterIPs` along.
pub(super) fn follow_singular(old: &Spec, new: &mut Spec) {
    let single = |spec: &Spec| {
        spec.get("clusterIP")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (before, now) = (single(old), single(new));
    if before == now || ips(old) != ips(new) {
        return;
    }
    if now.is_empty() {
        new.remove("clusterIPs");
    } else if let Some(first) = new.get_mut("clusterIPs").and_then(|list| list.get_mut(0)) {
        *first = now.into();
    } else {
        plural_from_singular(new);
    }
}

/// Puts back the address and node ports that the server had given, where the update says nothing of them.
pub(super) fn keep_allocated(old: &Spec, new: &mut Spec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if is_left_out(new, "clusterIP") {
            copy(old, new, "clusterIP");
        }
        if ips(new).is_empty() && new.get("clusterIP") == old.get("clusterIP") {
            copy(old, new, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if is_left_out(new, field) {
                copy(old, new, field);
            }
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        keep_node_ports(old, new);
    }
    if needs_health_check(old) && needs_health_check(new) && is_unset(new, "healthCheckNodePort") {
        copy(old, new, "healthCheckNodePort");
    }
}

/// Left out, or said to be nought.
fn is_unset(spec: &Spec, field: &str) -> bool {
    is_left_out(spec, field) || spec.get(field).and_then(Value::as_i64) == Some(0)
}

fn keep_node_ports(old: &Spec, new: &mut Spec) {
    let named = |port: &Map<String, Value>| port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut used: HashSet<u16> = node_ports(new).into_iter().collect();
    let before: Vec<(String, u16)> = old
        .get("ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|port| Some((named(port.as_object()?), node_port(port))))
        .collect();
    for port in maps_of(new, "ports") {
        if port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() != 0 {
            continue;
        }
        let known = before
            .iter()
            .find(|(name, number)| *name == named(port) && *number != 0);
        if let Some((_, number)) = known.filter(|(_, number)| used.insert(*number)) {
            port.insert("nodePort".to_owned(), json!(number));
        }
    }
}

/// Clears what the old type had and the new one has not, unless the update changed it on purpose (then validation says
/// what is wrong with it).
pub(super) fn drop_what_the_type_lost(old: &Spec, new: &mut Spec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if ips(old) == ips(new) {
            for field in ["clusterIP", "clusterIPs"] {
                new.remove(field);
            }
        }
        for field in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if new.get(field) == old.get(field) {
                new.remove(field);
            }
        }
    }
    if needs_node_ports(old) && !needs_node_ports(new) && node_ports(old) == node_ports(new) {
        for port in maps_of(new, "ports") {
            port.remove("nodePort");
        }
    }
    if needs_health_check(old) && !needs_health_check(new) && health_check_port(old) == health_check_port(new) {
        new.remove("healthCheckNodePort");
    }
    if is_external(old) && !is_external(new) && new.get("externalTrafficPolicy") == old.get("externalTrafficPolicy") {
        new.remove("externalTrafficPolicy");
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if new.get(field) == old.get(field) {
                new.remove(field);
            }
        }
    }
}

fn copy(from: &Spec, to: &mut Spec, field: &str) {
    if let Some(value) = from.get(field) {
        to.insert(field.to_owned(), value.clone());
    }
}
