//! RuntimeClass: the handler that runs a pod's containers, and what it costs.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, labels, meta, pod, quantity};

pub(crate) fn resource() -> Resource {
    Resource::of::<RuntimeClass>()
        .strategy(Classes)
        .printer(definitions(), cells)
        .build()
}

struct Classes;

impl Strategy for Classes {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let handler = At::root(new, "handler");
        match op {
            Operation::Update { old } => handler.immutable(&mut errors, &At::root(old, "handler")),
            _ => handler.check(&mut errors, is_dns1123_label),
        }
        quantity::amounts(&At::root(new, "overhead").child("podFixed"), &mut errors);
        let scheduling = At::root(new, "scheduling");
        labels::labels(&scheduling.child("nodeSelector"), &mut errors);
        pod::tolerations(&scheduling.child("tolerations"), &mut errors);
        errors
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Handler|string||What runs the containers.",
        "Age|string",
    ])
}

fn cells(class: &Object, now: Timestamp) -> Vec<Value> {
    let handler = class.str_at("handler").unwrap_or_default();
    vec![
        class.name().into(),
        handler.into(),
        age(class.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let class = |handler: &str, extra: Value| {
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasm",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "handler": handler, "overhead": extra})
    };
    crate::resources::testing::Cases {
        valid: vec![class("wasm", json!({"podFixed": {"cpu": "1m"}}))],
        invalid: vec![(
            class("Wasm", json!({"podFixed": {"cpu": "-1"}})),
            vec![
                "handler: Invalid value: \"Wasm\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                 or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                 validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "overhead.podFixed[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        )],
        table: vec![class("wasm", json!({}))],
    }
}
