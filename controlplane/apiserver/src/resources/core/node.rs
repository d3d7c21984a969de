//! Node: its agent registers it with a status and reports through the status endpoint afterwards.

use std::collections::{BTreeSet, HashSet};

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::print::{columns, or_none};
use crate::resources::validation::labels::label_name;
use crate::resources::validation::names::{cidr, is_dns1123_subdomain, is_label_value};
use crate::resources::validation::{At, meta, pod};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub(crate) fn resource() -> Resource {
    Resource::of::<Node>()
        .short_names(&["no"])
        .strategy(Nodes)
        .printer(definitions(), cells)
        .field_or("spec.unschedulable", "false")
        .status()
        .build()
}

struct Nodes;

impl Strategy for Nodes {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {}
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => return,
        }
        ranges_agree(new);
        if new.at("status.allocatable").is_none()
            && let Some(capacity) = new.at("status.capacity").cloned()
        {
            new.set("status.allocatable", capacity);
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        taints(&spec.child("taints"), &mut errors);
        for range in spec.child("podCIDRs").items() {
            range.check(&mut errors, cidr);
        }
        if let Operation::Update { old } = op {
            changes(&At::root(old, "spec"), &spec, &mut errors);
        }
        errors
    }
}

/// `podCIDR` is the first of `podCIDRs`; whichever is given makes the other.
fn ranges_agree(node: &mut Object) {
    let first = node.list_at("spec.podCIDRs").first().cloned();
    let single = node.str_at("spec.podCIDR").filter(|s| !s.is_empty()).map(str::to_owned);
    match (first, single) {
        (Some(first), _) => node.set("spec.podCIDR", first),
        (None, Some(single)) => node.set("spec.podCIDRs", json!([single])),
        (None, None) => {}
    }
}

fn taints(at: &At<'_>, errors: &mut FieldErrors) {
    let mut taken = HashSet::new();
    for taint in at.items() {
        let (key, value, effect) = (taint.child("key"), taint.child("value"), taint.child("effect"));
        label_name(&key, key.str(), errors);
        let bad = is_label_value(value.str());
        if !bad.is_empty() {
            errors.push(value.invalid(bad.join(";")));
        }
        pod::taint_effect(&effect, errors);
        if !taken.insert((key.str(), effect.str())) {
            errors.push(taint.duplicate());
        }
    }
}

/// A node's range and provider are given once.
fn changes(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    for (field, word) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let (before, now) = (old.child(field), new.child(field));
        if !before.is_empty() && before.value() != now.value() {
            errors.push(now.forbidden(format!("node updates may not change {word} except from \"\" to valid")));
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Status|string||The status of the node",
        "Roles|string||The roles of the node",
        "Age|string",
        "Version|string||The version the node's agent reports.",
        "Internal-IP|string||The node's address inside the cluster.|wide",
        "External-IP|string||The node's address outside the cluster.|wide",
        "OS-Image|string||The operating system the node reports.|wide",
        "Kernel-Version|string||The kernel the node reports.|wide",
        "Container-Runtime|string||The container runtime the node reports.|wide",
    ])
}

fn cells(node: &Object, now: Timestamp) -> Vec<Value> {
    let info = |field: &str| node.str_at(&format!("status.nodeInfo.{field}")).unwrap_or_default();
    let or_unknown = |text: &str| -> Value {
        if text.is_empty() {
            "<unknown>".into()
        } else {
            text.into()
        }
    };
    vec![
        node.name().into(),
        status(node).into(),
        or_none(&roles(node)),
        age(node.creation_timestamp(), now),
        info("kubeletVersion").into(),
        or_none(address(node, "InternalIP")),
        or_none(address(node, "ExternalIP")),
        or_unknown(info("osImage")),
        or_unknown(info("kernelVersion")),
        or_unknown(info("containerRuntimeVersion")),
    ]
}

fn status(node: &Object) -> String {
    let ready = node
        .list_at("status.conditions")
        .iter()
        .find(|c| text(c, "type") == "Ready");
    let mut words = match ready.map(|c| text(c, "status")) {
        Some("True") => vec!["Ready"],
        Some(_) => vec!["NotReady"],
        None => vec!["Unknown"],
    };
    if node.bool_at("spec.unschedulable").unwrap_or_default() {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Object) -> String {
    let role = |(key, value): (&str, &str)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == ROLE_LABEL && !value.is_empty() => Some(value.to_owned()),
        _ => None,
    };
    let roles: BTreeSet<String> = node.labels().filter_map(role).collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(node: &'a Object, kind: &str) -> &'a str {
    let found = node
        .list_at("status.addresses")
        .iter()
        .find(|a| text(a, "type") == kind);
    found.map(|a| text(a, "address")).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let node = |spec: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": spec});
    crate::resources::testing::Cases {
        valid: vec![node(
            json!({"podCIDR": "10.128.0.0/17", "taints": [{"key": "a", "effect": "NoSchedule"}]}),
        )],
        invalid: vec![
            (
                node(json!({"taints": [{"key": "a", "effect": "Never"}, {"key": "a", "effect": "Never"}]})),
                vec![
                    "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                     \"PreferNoSchedule\", \"NoExecute\"",
                    "spec.taints[1].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                     \"PreferNoSchedule\", \"NoExecute\"",
                    "spec.taints[1]: Duplicate value: {\"effect\":\"Never\",\"key\":\"a\"}",
                ],
            ),
            (
                node(json!({"podCIDRs": ["10.0.0.0"]})),
                vec![
                    "spec.podCIDRs[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                      2001:db8::/64)",
                ],
            ),
        ],
        table: vec![
            json!({"metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
                "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0",
                    "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "wherry://0.1.0"},
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
            json!({"metadata": {"name": "n2", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
        ],
    }
}
