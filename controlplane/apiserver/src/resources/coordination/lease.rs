//! Lease: who holds something, until when; heartbeats of nodes and elections of leaders.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<Lease>()
        .strategy(Leases)
        .printer(definitions(), cells)
        .build()
}

struct Leases;

impl Strategy for Leases {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        let duration = spec.child("leaseDurationSeconds");
        if duration.i64().is_some_and(|n| n <= 0) {
            errors.push(duration.invalid("must be greater than 0"));
        }
        spec.child("leaseTransitions").non_negative(&mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    /// Who holds a lease must have read it.
    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn definitions() -> Vec<Column> {
    columns(&["Name|string|name", "Holder|string||Who holds the lease.", "Age|string"])
}

fn cells(lease: &Object, now: Timestamp) -> Vec<Value> {
    let holder = lease.str_at("spec.holderIdentity").unwrap_or_default();
    vec![lease.name().into(), holder.into(), age(lease.creation_timestamp(), now)]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let lease = |spec: Value| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a", "namespace": "ns"}, "spec": spec});
    crate::resources::testing::Cases {
        valid: vec![lease(json!({"holderIdentity": "me", "leaseDurationSeconds": 15}))],
        invalid: vec![(
            lease(json!({"leaseDurationSeconds": 0, "leaseTransitions": -1})),
            vec![
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ],
        )],
        table: vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"holderIdentity": "me"}}),
        ],
    }
}
