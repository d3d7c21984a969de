//! EndpointSlice: a bounded part of who answers for a Service.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::Deps;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::core::endpoints::{AddressRule, address_rule};
use crate::resources::defaults::{maps_of, set_default};
use crate::resources::print::{columns, limited_list};
use crate::resources::validation::names::{self, is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20000;
const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];

pub(crate) fn resource(deps: &Deps) -> Resource {
    Resource::of::<EndpointSlice>()
        .strategy(Slices {
            address: address_rule(deps),
        })
        .printer(definitions(), cells)
        .generation_when(|old, new| {
            ["endpoints", "ports"]
                .iter()
                .any(|list| old.list_at(list) != new.list_at(list))
        })
        .build()
}

struct Slices {
    address: AddressRule,
}

impl Strategy for Slices {
    fn prepare(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &mut Object) {
        for port in maps_of(new.map_mut(), "ports") {
            set_default(port, "name", "");
            set_default(port, "protocol", "TCP");
        }
        // Kubernetes answers with null where there are none, and some of its clients (Python's and Java's, made before 1.36)
        // take neither that nor nothing at all: an empty list is the one form that all read.
        set_default(new.map_mut(), "endpoints", Value::Array(Vec::new()));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let kind = At::root(new, "addressType");
        kind.require_one_of(&mut errors, ADDRESS_TYPES);
        endpoints(&At::root(new, "endpoints"), kind.str(), self.address, &mut errors);
        ports(&At::root(new, "ports"), &mut errors);
        if let Operation::Update { old } = op {
            kind.immutable(&mut errors, &At::root(old, "addressType"));
        }
        errors
    }
}

fn endpoints(at: &At<'_>, kind: &str, rule: AddressRule, errors: &mut FieldErrors) {
    if at.len() > MAX_ENDPOINTS {
        return errors.push(FieldError::too_many(at.path(), at.len(), MAX_ENDPOINTS));
    }
    for endpoint in at.items() {
        let addresses = endpoint.child("addresses");
        if addresses.is_empty() {
            errors.push(addresses.required("must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(FieldError::too_many(addresses.path(), addresses.len(), MAX_ADDRESSES));
        }
        for address in addresses.items() {
            match kind {
                "IPv4" => address.check(errors, ipv4),
                "IPv6" => address.check(errors, ipv6),
                "FQDN" => address.check(errors, is_dns1123_subdomain),
                _ => {}
            }
            if kind != "FQDN" {
                address.check(errors, rule);
            }
        }
        endpoint.child("hostname").check_if_set(errors, is_dns1123_label);
        endpoint.child("nodeName").check_if_set(errors, is_dns1123_subdomain);
    }
}

fn ipv4(text: &str) -> Vec<String> {
    if text.parse::<Ipv4Addr>().is_ok() {
        Vec::new()
    } else {
        vec!["must be a valid IPv4 address".to_owned()]
    }
}

fn ipv6(text: &str) -> Vec<String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        Vec::new()
    } else {
        vec!["must be a valid IPv6 address".to_owned()]
    }
}

fn ports(at: &At<'_>, errors: &mut FieldErrors) {
    if at.len() > MAX_PORTS {
        return errors.push(FieldError::too_many(at.path(), at.len(), MAX_PORTS));
    }
    let mut taken = HashSet::new();
    for port in at.items() {
        let (name, number) = (port.child("name"), port.child("port"));
        name.check_if_set(errors, is_dns1123_label);
        if !taken.insert(name.str()) {
            errors.push(name.duplicate());
        }
        if let Some(n) = number.i64() {
            errors.extend(names::port(n).into_iter().map(|m| number.invalid(m)));
        }
        port.child("protocol").require_one_of(errors, &["SCTP", "TCP", "UDP"]);
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "AddressType|string||What kind of addresses the slice holds.",
        "Ports|string||Ports that every endpoint of the slice answers on.",
        "Endpoints|string||Addresses of the endpoints.",
        "Age|string",
    ])
}

fn cells(slice: &Object, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (
        port.get("port").and_then(Value::as_i64),
        port.get("name").and_then(Value::as_str),
    ) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) if !name.is_empty() => name.to_owned(),
        _ => "*".to_owned(),
    };
    let ports: Vec<String> = slice.list_at("ports").iter().map(port).collect();
    let addresses = |e: &Value| {
        e.get("addresses")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let endpoints = slice.list_at("endpoints").iter().flat_map(addresses);
    let endpoints: Vec<String> = endpoints.filter_map(|a| a.as_str().map(str::to_owned)).collect();
    vec![
        slice.name().into(),
        slice.str_at("addressType").unwrap_or_default().into(),
        limited_list(&ports, "<unset>"),
        limited_list(&endpoints, "<unset>"),
        age(slice.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let slice = |kind: &str, endpoints: Value, ports: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "a", "namespace": "ns",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "addressType": kind, "endpoints": endpoints, "ports": ports})
    };
    crate::resources::testing::Cases {
        valid: vec![slice(
            "IPv4",
            json!([{"addresses": ["10.0.0.1"]}]),
            json!([{"port": 80}]),
        )],
        invalid: vec![(
            slice(
                "IPv4",
                json!([{"addresses": []}, {"addresses": ["::1"]}]),
                json!([{"name": "a"}, {"name": "a", "port": 0}]),
            ),
            vec![
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
                "endpoints[1].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "ports[1].name: Duplicate value: \"a\"",
                "ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        )],
        table: vec![
            slice(
                "IPv4",
                json!([{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3", "10.0.0.4"]}]),
                json!([{"port": 80}, {"name": "x"}, {}]),
            ),
            slice("IPv4", json!([]), json!([])),
        ],
    }
}
