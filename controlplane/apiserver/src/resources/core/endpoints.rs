//! Endpoints: the older picture of who answers for a Service. EndpointSlice has taken its place; both are kept.

use std::net::IpAddr;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::Deps;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::defaults::{maps_of, set_default};
use crate::resources::print::{columns, limited_list};
use crate::resources::validation::names::{self, is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

pub(crate) fn resource(deps: &Deps) -> Resource {
    Resource::of::<Endpoints>()
        .short_names(&["ep"])
        .strategy(Rules {
            address: address_rule(deps),
        })
        .printer(definitions(), cells)
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .build()
}

struct Rules {
    address: AddressRule,
}

impl Strategy for Rules {
    fn prepare(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &mut Object) {
        for subset in maps_of(new.map_mut(), "subsets") {
            maps_of(subset, "ports").for_each(|port| set_default(port, "protocol", "TCP"));
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        for subset in At::root(new, "subsets").items() {
            let (ready, waiting) = (subset.child("addresses"), subset.child("notReadyAddresses"));
            if ready.is_empty() && waiting.is_empty() {
                errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
            }
            for address in ready.items().iter().chain(&waiting.items()) {
                address.child("ip").check(&mut errors, names::ip);
                address.child("ip").check(&mut errors, self.address);
                address.child("hostname").check_if_set(&mut errors, is_dns1123_label);
                address
                    .child("nodeName")
                    .check_if_set(&mut errors, is_dns1123_subdomain);
            }
            ports(&subset.child("ports"), &mut errors);
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// Says what is wrong with an address.
pub(crate) type AddressRule = fn(&str) -> Vec<String>;

/// The rule for addresses of endpoints: not special, but that a cluster whose Services are on loopback addresses, as they
/// are without root, has its pods there too.
pub(crate) fn address_rule(deps: &Deps) -> AddressRule {
    match deps.service_range.network().is_loopback() {
        true => not_special_beyond_loopback,
        false => not_special,
    }
}

/// Refuses addresses that name nobody in particular, or whoever asks.
pub(crate) fn not_special(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => vec!["may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()],
        _ => not_special_beyond_loopback(text),
    }
}

fn not_special_beyond_loopback(text: &str) -> Vec<String> {
    let message = match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => format!("may not be unspecified ({ip})"),
        Ok(IpAddr::V4(ip)) if ip.is_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
        }
        Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
        }
        Ok(ip) if ip.is_multicast() => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
        }
        _ => return Vec::new(),
    };
    vec![message]
}

fn ports(at: &At<'_>, errors: &mut FieldErrors) {
    let several = at.len() > 1;
    for port in at.items() {
        let (name, number) = (port.child("name"), port.child("port"));
        if several && name.is_empty() {
            errors.push(name.required(""));
        }
        name.check_if_set(errors, is_dns1123_label);
        let value = number.i64().unwrap_or_default();
        errors.extend(names::port(value).into_iter().map(|m| number.invalid_as(value, m)));
        port.child("protocol").require_one_of(errors, &["SCTP", "TCP", "UDP"]);
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Endpoints|string||Addresses and ports that answer for the service.",
        "Age|string",
    ])
}

fn cells(endpoints: &Object, now: Timestamp) -> Vec<Value> {
    let list: Vec<String> = endpoints.list_at("subsets").iter().flat_map(pairs).collect();
    vec![
        endpoints.name().into(),
        limited_list(&list, "<none>"),
        age(endpoints.creation_timestamp(), now),
    ]
}

/// `address:port` for every pair in a subset; addresses alone where there are no ports.
fn pairs(subset: &Value) -> Vec<String> {
    let list = |field: &str| {
        subset
            .get(field)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let ips = || {
        list("addresses")
            .iter()
            .filter_map(|a| a.get("ip"))
            .filter_map(Value::as_str)
    };
    if list("ports").is_empty() {
        return ips().map(str::to_owned).collect();
    }
    let ports = list("ports")
        .iter()
        .map(|p| p.get("port").and_then(Value::as_i64).unwrap_or_default());
    ports
        .flat_map(|port| ips().map(move |ip| join_host_port(ip, port)))
        .collect()
}

fn join_host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let of = |subsets: Value| json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a", "namespace": "ns"}, "subsets": subsets});
    crate::resources::testing::Cases {
        valid: vec![of(
            json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]),
        )],
        invalid: vec![(
            of(
                json!([{}, {"addresses": [{"ip": "0.0.0.0"}, {"ip": "127.0.0.1"}], "ports": [{"port": 0}, {"port": 1, "name": "x"}]}]),
            ),
            vec![
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[1].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
                "subsets[1].addresses[1].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "subsets[1].ports[0].name: Required value",
                "subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        )],
        table: vec![
            json!({"metadata": {"name": "none", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"metadata": {"name": "many", "creationTimestamp": "2026-01-01T00:00:00Z"}, "subsets": [{
                "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::deps;

    #[test]
    fn loopback_addresses_are_for_clusters_whose_services_have_some() {
        let rule = |services: &str| {
            let mut deps = deps(Vec::new());
            deps.service_range = services.parse().unwrap();
            address_rule(&deps)
        };
        for (address, with_root, without) in [
            ("10.0.0.1", true, true),
            ("127.32.0.2", false, true),
            ("::1", false, true),
            ("0.0.0.0", false, false),
            ("169.254.0.1", false, false),
        ] {
            assert_eq!(rule("10.96.0.0/16")(address).is_empty(), with_root, "{address}");
            assert_eq!(rule("127.96.0.0/16")(address).is_empty(), without, "{address}");
        }
    }
}
