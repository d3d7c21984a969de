//! NetworkPolicy: from where pods may be reached, and whom they may reach.

use std::collections::BTreeSet;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::{columns, selector as selector_cell};
use crate::resources::validation::names::{is_dns1123_subdomain, is_port_name};
use crate::resources::validation::{At, addresses, labels, meta};

const TYPES: &[&str] = &["Ingress", "Egress"];
/// The directions with the field that names the peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(crate) fn resource() -> Resource {
    Resource::of::<NetworkPolicy>()
        .short_names(&["netpol"])
        .strategy(Policies)
        .printer(definitions(), cells)
        .generation()
        .build()
}

struct Policies;

impl Strategy for Policies {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let blocks = op.old().map(blocks).unwrap_or_default();
        let known: BTreeSet<&str> = blocks.iter().flat_map(ranges).map(|range| range.str()).collect();
        spec(&At::root(new, "spec"), &known, &mut errors);
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        if matches!(op, Operation::Delete { .. }) {
            return Vec::new();
        }
        let blocks = blocks(new);
        blocks
            .iter()
            .flat_map(ranges)
            .flat_map(|range| addresses::cidr_warnings(&range))
            .collect()
    }
}

/// Every block of addresses of a policy.
fn blocks(policy: &Object) -> Vec<At<'_>> {
    let spec = At::root(policy, "spec");
    let mut found = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for rule in spec.child(direction).items() {
            let blocks = rule.child(peers).items().into_iter().map(|peer| peer.child("ipBlock"));
            found.extend(blocks.filter(At::is_set));
        }
    }
    found
}

/// The range of a block and what is taken out of it.
fn ranges<'a>(block: &At<'a>) -> Vec<At<'a>> {
    let mut found = vec![block.child("cidr")];
    found.extend(block.child("except").items());
    found
}

/// Ranges that stand in the stored object (`known`) are let through as they are.
fn spec(at: &At<'_>, known: &BTreeSet<&str>, errors: &mut FieldErrors) {
    labels::selector(&at.child("podSelector"), errors);
    for (direction, peers) in DIRECTIONS {
        for rule in at.child(direction).items() {
            rule.child("ports").items().iter().for_each(|at| port(at, errors));
            rule.child(peers).items().iter().for_each(|at| peer(at, known, errors));
        }
    }
    let types = at.child("policyTypes");
    if types.len() > TYPES.len() {
        return errors.push(types.invalid("may not specify more than two policyTypes"));
    }
    types.items().iter().for_each(|at| at.one_of(errors, TYPES));
}

fn port(at: &At<'_>, errors: &mut FieldErrors) {
    at.child("protocol").one_of(errors, &["TCP", "UDP", "SCTP"]);
    let (port, end) = (at.child("port"), at.child("endPort"));
    match (port.value(), port.i64()) {
        (None, _) if end.is_set() => errors.push(end.invalid("may not be specified when `port` is not specified")),
        (None, _) => {}
        (Some(_), Some(number)) => {
            port.within(errors, 1, 65535);
            if end.i64().is_some_and(|end| end < number) {
                errors.push(end.invalid_as(number, "must be greater than or equal to `port`"));
            }
            end.within(errors, 1, 65535);
        }
        (Some(_), None) => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            port.check(errors, is_port_name);
        }
    }
}

fn peer(at: &At<'_>, known: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let selectors = ["podSelector", "namespaceSelector"].map(|field| at.child(field));
    for selector in &selectors {
        labels::selector(selector, errors);
    }
    let block = at.child("ipBlock");
    if block.is_set() {
        ip_block(&block, known, errors);
    }
    match (selectors.iter().any(At::is_set), block.is_set()) {
        (false, false) => errors.push(at.required("must specify a peer")),
        (true, true) => errors.push(at.forbidden("may not specify both ipBlock and another peer")),
        _ => {}
    }
}

fn ip_block(at: &At<'_>, known: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let range = at.child("cidr");
    if range.is_empty() {
        return errors.push(range.required(""));
    }
    let check = |at: &At<'_>, errors: &mut FieldErrors| {
        if !known.contains(at.str()) {
            at.check(errors, addresses::cidr);
        }
    };
    check(&range, errors);
    let whole: Option<IpNet> = range.str().parse().ok();
    for except in at.child("except").items() {
        check(&except, errors);
        let part: Option<IpNet> = except.str().parse().ok();
        let outside = |whole: IpNet, part: IpNet| {
            !whole.contains(&part.trunc().addr()) || whole.prefix_len() >= part.prefix_len()
        };
        if whole.zip(part).is_some_and(|(whole, part)| outside(whole, part)) {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Pod-Selector|string||The pods that the policy is about.",
        "Age|string",
    ])
}

fn cells(policy: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        policy.name().into(),
        selector_cell(policy.at("spec.podSelector")),
        age(policy.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let policy = |spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "ns"},
            "spec": spec})
    };
    let block = |cidr: &str, except: Value| json!({"ipBlock": {"cidr": cidr, "except": except}});
    let mut shown = policy(json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    crate::resources::testing::Cases {
        valid: vec![
            policy(json!({})),
            policy(json!({"podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"ports": [{"port": 80, "endPort": 90}, {"port": "http"}],
                    "from": [{"podSelector": {}, "namespaceSelector": {}}, block("10.0.0.0/8", json!(["10.1.0.0/16"]))]}],
                "egress": [{"to": [block("fd00::/64", json!([]))]}]})),
        ],
        invalid: vec![
            (
                policy(
                    json!({"policyTypes": ["Ingress", "Egress", "Both"], "ingress": [{"ports": [
                    {"protocol": "ICMP", "port": 0, "endPort": -1}, {"endPort": 1}, {"port": "A_", "endPort": 1}]}]}),
                ),
                vec![
                    r#"spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP""#,
                    "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ingress[0].ports[0].endPort: Invalid value: 0: must be greater than or equal to `port`",
                    "spec.ingress[0].ports[0].endPort: Invalid value: -1: must be between 1 and 65535, inclusive",
                    "spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is not specified",
                    "spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
                    r#"spec.ingress[0].ports[2].port: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                    r#"spec.ingress[0].ports[2].port: Invalid value: "A_": must contain at least one letter (a-z)"#,
                    r#"spec.policyTypes: Invalid value: ["Ingress","Egress","Both"]: may not specify more than two policyTypes"#,
                ],
            ),
            (
                policy(
                    json!({"policyTypes": ["Both"], "egress": [{"to": [{}, {"ipBlock": {"cidr": ""}},
                    {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.1/8"}},
                    block("10.0.0.0/8", json!(["10.0.0.0/8", "11.0.0.0/16", "x"]))]}]}),
                ),
                vec![
                    "spec.egress[0].to[0]: Required value: must specify a peer",
                    "spec.egress[0].to[1].ipBlock.cidr: Required value",
                    r#"spec.egress[0].to[2].ipBlock.cidr: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length"#,
                    "spec.egress[0].to[2]: Forbidden: may not specify both ipBlock and another peer",
                    r#"spec.egress[0].to[3].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#,
                    r#"spec.egress[0].to[3].ipBlock.except[1]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`"#,
                    r#"spec.egress[0].to[3].ipBlock.except[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
                    r#"spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress""#,
                ],
            ),
        ],
        table: vec![shown, policy(json!({"podSelector": {}}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn a_range_that_was_let_in_once_may_stay() {
        let policy = |cidr: &str| {
            object(
                json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"ingress": [{"from": [
                {"ipBlock": {"cidr": cidr}}]}]}}),
            )
        };
        let old = policy("10.0.0.1/8");
        context(Some("ns"), |cx| {
            let op = Operation::Update { old: &old };
            assert_eq!(
                messages(Policies.validate(cx, &op, &policy("10.0.0.1/8"))),
                Vec::<String>::new()
            );
            assert_eq!(messages(Policies.validate(cx, &op, &policy("10.0.0.2/8"))).len(), 1);
            assert_eq!(
                Policies.warnings(cx, &op, &old),
                [
                    "spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \
                    \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
                ]
            );
        });
    }
}
