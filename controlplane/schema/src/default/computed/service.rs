//! Services, as far as their defaults are a matter of the tree; addresses and families are allocated elsewhere.

use serde_json::{Map, Value};

use super::{Tree, ensure, maps_of, text};

pub(super) fn spec(spec: &mut Tree) {
    let kind = text(spec, "type").to_owned();
    if text(spec, "sessionAffinity") == "ClientIP" {
        ensure(spec, "sessionAffinityConfig", || Value::Object(Map::new()));
        if let Some(config) = spec.get_mut("sessionAffinityConfig").and_then(Value::as_object_mut) {
            ensure(config, "clientIP", || Value::Object(Map::new()));
        }
    } else if text(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    }
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if outside && text(spec, "externalTrafficPolicy").is_empty() {
        spec.insert("externalTrafficPolicy".to_owned(), "Cluster".into());
    }
    if outside || kind == "ClusterIP" {
        ensure(spec, "internalTrafficPolicy", || "Cluster".into());
    }
    if kind == "LoadBalancer" {
        ensure(spec, "allocateLoadBalancerNodePorts", || Value::Bool(true));
    }
}

/// Ports are TCP, and lead to the port of the same number.
pub(super) fn port(port: &mut Tree) {
    let unset = match port.get("targetPort") {
        None | Some(Value::Null) => true,
        Some(Value::String(name)) => name.is_empty(),
        Some(number) => number.as_i64() == Some(0),
    };
    if let Some(number) = port.get("port").filter(|_| unset).cloned() {
        port.insert("targetPort".to_owned(), number);
    }
}

/// A load balancer's address is taken over by the node that gets the packet, unless it says otherwise.
pub(super) fn status(service: &mut Tree) {
    let balanced = service
        .get("spec")
        .and_then(Value::as_object)
        .is_some_and(|spec| text(spec, "type") == "LoadBalancer");
    let balancer = service
        .get_mut("status")
        .and_then(|status| status.get_mut("loadBalancer"));
    let Some(balancer) = balancer.and_then(Value::as_object_mut).filter(|_| balanced) else {
        return;
    };
    for ingress in maps_of(balancer, "ingress") {
        if !text(ingress, "ip").is_empty() {
            ensure(ingress, "ipMode", || "VIP".into());
        }
    }
}
