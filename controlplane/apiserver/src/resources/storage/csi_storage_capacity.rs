//! CSIStorageCapacity: how much a driver can still provide, for a class, in a part of the cluster.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, labels, meta, pod, quantity};

pub(crate) fn resource() -> Resource {
    Resource::of::<CSIStorageCapacity>()
        .strategy(Capacities)
        .printer(definitions(), cells)
        .build()
}

struct Capacities;

impl Strategy for Capacities {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let (topology, class) = (At::root(new, "nodeTopology"), At::root(new, "storageClassName"));
        match op.old() {
            None => {
                labels::selector(&topology, &mut errors);
                class.check(&mut errors, is_dns1123_subdomain);
                quantity::non_negative(&At::root(new, "capacity"), &mut errors);
            }
            Some(old) => {
                topology.immutable(&mut errors, &At::root(old, "nodeTopology"));
                class.immutable(&mut errors, &At::root(old, "storageClassName"));
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        let topology = At::root(new, "nodeTopology");
        let mut found = Vec::new();
        for expression in topology.child("matchExpressions").items() {
            let key = expression.child("key");
            let words = pod::node_label(key.str());
            found.extend(words.map(|words| format!("{}: {} is {words}", key.path(), key.str())));
        }
        let labels = topology.child("matchLabels");
        for (key, _) in labels.entries() {
            found.extend(pod::node_label(key).map(|words| format!("{}: {words}", labels.path().child(key))));
        }
        found
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "StorageClassName|string||The class that the capacity is for.",
        "Capacity|string||How much can be provided.",
    ])
}

fn cells(capacity: &Object, _now: Timestamp) -> Vec<Value> {
    vec![
        capacity.name().into(),
        capacity.str_at("storageClassName").unwrap_or_default().into(),
        capacity.str_at("capacity").unwrap_or("<unset>").into(),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let capacity = |class: &str, amount: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "metadata": {"name": "c", "namespace": "ns"},
            "storageClassName": class, "capacity": amount, "nodeTopology": {"matchLabels": {"zone": "a"}}})
    };
    crate::resources::testing::Cases {
        valid: vec![capacity("fast", "10Gi")],
        invalid: vec![(
            capacity("Fast", "-1"),
            vec![
                "storageClassName: Invalid value: \"Fast\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        )],
        table: vec![
            capacity("fast", "10Gi"),
            json!({"metadata": {"name": "d", "namespace": "ns"}, "storageClassName": "slow"}),
        ],
    }
}
