//! ServiceCIDR: a range that Services get their addresses from.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<ServiceCIDR>()
        .strategy(Ranges)
        .printer(definitions(), cells)
        .status()
        .build()
}

struct Ranges;

impl Strategy for Ranges {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let ranges = At::root(new, "spec").child("cidrs");
        if let Operation::Update { old } = op {
            ranges.immutable(&mut errors, &At::root(old, "spec").child("cidrs"));
        } else {
            rules(&ranges, &mut errors);
        }
        errors
    }
}

fn rules(ranges: &At<'_>, errors: &mut FieldErrors) {
    if ranges.is_empty() {
        return errors.push(ranges.required("at least one CIDR required"));
    }
    if ranges.len() > 2 {
        return errors.push(ranges.invalid("may only hold up to 2 values"));
    }
    for range in ranges.items() {
        range.check(errors, canonical);
    }
    if let [first, second] = ranges.items().as_slice() {
        let family = |at: &At<'_>| at.str().parse::<IpNet>().map(|net| net.addr().is_ipv4()).ok();
        if family(first).is_some() && family(first) == family(second) {
            errors.push(
                ranges.invalid(
                    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
                ),
            );
        }
    }
}

fn canonical(text: &str) -> Vec<String> {
    match text.parse::<IpNet>() {
        Ok(net) if net.trunc().to_string() == text => Vec::new(),
        Ok(net) => vec![format!("must be in canonical form (\"{}\")", net.trunc())],
        Err(_) => crate::resources::validation::names::cidr(text),
    }
}

/// The addresses of a range that Services may get: not the network's own, and for IPv4 not the broadcast address.
pub(crate) fn usable(range: ipnet::Ipv4Net) -> std::ops::RangeInclusive<u32> {
    let first: u32 = range.network().into();
    let last: u32 = range.broadcast().into();
    first.saturating_add(1)..=last.saturating_sub(1)
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "CIDRs|string||The ranges of addresses.",
        "Age|string",
    ])
}

fn cells(range: &Object, now: Timestamp) -> Vec<Value> {
    let list: Vec<&str> = range.list_at("spec.cidrs").iter().filter_map(Value::as_str).collect();
    vec![
        range.name().into(),
        list.join(",").into(),
        age(range.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let range = |cidrs: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"cidrs": cidrs}})
    };
    crate::resources::testing::Cases {
        valid: vec![
            range(json!(["10.96.0.0/16"])),
            range(json!(["10.96.0.0/16", "fd00::/112"])),
        ],
        invalid: vec![
            (
                range(json!([])),
                vec!["spec.cidrs: Required value: at least one CIDR required"],
            ),
            (
                range(json!(["10.96.0.1/16"])),
                vec!["spec.cidrs[0]: Invalid value: \"10.96.0.1/16\": must be in canonical form (\"10.96.0.0/16\")"],
            ),
        ],
        table: vec![range(json!(["10.96.0.0/16", "fd00::/112"]))],
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn hands_out_neither_network_nor_broadcast() {
        let range = usable("10.0.0.0/30".parse().expect("a range"));
        assert_eq!(
            range.map(Ipv4Addr::from).collect::<Vec<_>>(),
            [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]
        );
    }
}
