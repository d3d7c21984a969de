//! A Service's row in `kubectl get services`.

use api::Object;
use api::table::Column;
use api::time::Timestamp;
use serde_json::Value;

use crate::registry::printer::age;
use crate::resources::print::{columns, label_list, or_none};

pub(super) fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Type|string||How the service can be reached.",
        "Cluster-IP|string||The address inside the cluster.",
        "External-IP|string||Addresses outside the cluster.",
        "Port(s)|string||Ports, with those on the nodes after a colon.",
        "Age|string",
        "Selector|string||Labels of the pods that answer.|wide",
    ])
}

pub(super) fn cells(service: &Object, now: Timestamp) -> Vec<Value> {
    let first_ip = service
        .list_at("spec.clusterIPs")
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default();
    let ports: Vec<String> = service.list_at("spec.ports").iter().map(port).collect();
    vec![
        service.name().into(),
        service.str_at("spec.type").unwrap_or_default().into(),
        or_none(first_ip),
        external(service).into(),
        or_none(&ports.join(",")),
        age(service.creation_timestamp(), now),
        label_list(service.at("spec.selector")),
    ]
}

fn port(port: &Value) -> String {
    let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or_default();
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or_default();
    match number("nodePort") {
        0 => format!("{}/{protocol}", number("port")),
        node => format!("{}:{node}/{protocol}", number("port")),
    }
}

fn external(service: &Object) -> String {
    let given: Vec<&str> = service
        .list_at("spec.externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match service.str_at("spec.type").unwrap_or_default() {
        "ExternalName" => service.str_at("spec.externalName").unwrap_or_default().to_owned(),
        "ClusterIP" | "NodePort" if given.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => given.join(","),
        "LoadBalancer" => {
            let ingress = service.list_at("status.loadBalancer.ingress").iter();
            let mut all: Vec<&str> = ingress
                .filter_map(|i| i.get("ip").or_else(|| i.get("hostname")))
                .filter_map(Value::as_str)
                .collect();
            all.extend(given);
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        _ => "<unknown>".to_owned(),
    }
}
