//! IPAddress: one address handed out, named by itself, and to whom. Making the object is the claim.

use std::net::IpAddr;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::{At, meta, names};

pub(crate) fn resource() -> Resource {
    Resource::of::<IPAddress>()
        .short_names(&["ip"])
        .strategy(Addresses)
        .printer(definitions(), cells)
        .build()
}

struct Addresses;

impl Strategy for Addresses {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, canonical);
        let parent = At::root(new, "spec").child("parentRef");
        if !parent.is_set() {
            errors.push(parent.required(""));
        } else {
            parent.child("resource").require(&mut errors, names::path_segment);
            parent.child("name").require(&mut errors, names::path_segment);
            parent.child("namespace").check_if_set(&mut errors, names::path_segment);
        }
        if let Operation::Update { old } = op {
            parent.immutable(&mut errors, &At::root(old, "spec").child("parentRef"));
        }
        errors
    }
}

/// One address has one name.
fn canonical(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Ok(ip) if ip.to_string() == name => Vec::new(),
        Ok(ip) => vec![format!("must be in canonical form (\"{ip}\")")],
        Err(_) => names::ip(name),
    }
}

/// `services/default/kubernetes`, or `<none>`.
fn reference(ip: &Object) -> String {
    let part = |field: &str| ip.str_at(&format!("spec.parentRef.{field}")).unwrap_or_default();
    if part("resource").is_empty() {
        return "<none>".to_owned();
    }
    let kind = api::GroupResource::new(part("group"), part("resource"))
        .to_string()
        .to_lowercase();
    let parts = [kind.as_str(), part("namespace"), part("name")];
    parts
        .into_iter()
        .filter(|p| !p.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "ParentRef|string||The object the address belongs to.",
        "Age|string",
    ])
}

fn cells(ip: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        ip.name().into(),
        reference(ip).into(),
        age(ip.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let ip = |name: &str, parent: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": name,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"parentRef": parent}})
    };
    let parent = json!({"resource": "services", "namespace": "a", "name": "web"});
    crate::resources::testing::Cases {
        valid: vec![ip("10.96.0.7", parent.clone())],
        invalid: vec![
            (
                ip("0:0::1", parent.clone()),
                vec!["metadata.name: Invalid value: \"0:0::1\": must be in canonical form (\"::1\")"],
            ),
            (
                ip("10.96.0.7", json!({"resource": "services"})),
                vec!["spec.parentRef.name: Required value"],
            ),
        ],
        table: vec![ip("10.96.0.7", parent)],
    }
}
