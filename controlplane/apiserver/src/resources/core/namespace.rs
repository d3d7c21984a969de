//! Namespace: it ends in two steps. Deleting sets `deletionTimestamp` while `spec.finalizers` is not empty; whoever empties
//! the namespace takes its finalizer away through the `finalize` subresource.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::print::columns;
use crate::resources::validation::labels::label_name;
use crate::resources::validation::names::is_dns1123_label;
use crate::resources::validation::{At, meta};

/// The finalizer of the server itself: the content is still there.
pub const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) fn resource() -> Resource {
    Resource::of::<Namespace>()
        .short_names(&["ns"])
        .strategy(Namespaces)
        .printer(definitions(), cells)
        .field("status.phase")
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .status()
        .finalize()
        .build()
}

struct Namespaces;

impl Strategy for Namespaces {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        let name = new.name().to_owned();
        if !name.is_empty() {
            new.set_label(NAME_LABEL, &name);
        }
        match op {
            Operation::Create => {
                new.set("status", json!({"phase": "Active"}));
                let known = new.list_at("spec.finalizers").iter().any(|f| f == FINALIZER);
                if !known {
                    let mut finalizers = new.list_at("spec.finalizers").to_vec();
                    finalizers.push(FINALIZER.into());
                    new.set("spec.finalizers", finalizers);
                }
            }
            Operation::Update { .. } if cx.subresource == Some("finalize") => {}
            Operation::Update { old } => {
                copy_field(old, new, "spec.finalizers");
                copy_field(old, new, "status");
            }
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => new.set("status.phase", "Terminating"),
        }
    }

    /// The first delete only says that it is to go, even where nothing holds it any more.
    fn held(&self, namespace: &Object) -> bool {
        !namespace.is_deleting() || !namespace.list_at("spec.finalizers").is_empty()
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_label);
        for finalizer in At::root(new, "spec").child("finalizers").items() {
            label_name(&finalizer, finalizer.str(), &mut errors);
            if !finalizer.str().contains('/') && finalizer.str() != FINALIZER {
                let detail = "name is neither a standard finalizer name nor is it fully qualified";
                errors.push(finalizer.invalid(detail));
            }
        }
        if let Operation::UpdateStatus { .. } = op {
            phase(new, &mut errors);
        }
        errors
    }
}

/// A namespace is terminating exactly while it is being deleted.
fn phase(new: &Object, errors: &mut FieldErrors) {
    let phase = At::root(new, "status").child("phase");
    match (new.is_deleting(), phase.str()) {
        (false, "Active") | (true, "Terminating") => {}
        (false, _) => errors.push(phase.invalid("may only be 'Active' if `deletionTimestamp` is empty")),
        (true, _) => errors.push(phase.invalid("may only be 'Terminating' if `deletionTimestamp` is not empty")),
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Status|string||The status of the namespace",
        "Age|string",
    ])
}

fn cells(namespace: &Object, now: Timestamp) -> Vec<Value> {
    let phase = namespace.str_at("status.phase").unwrap_or_default();
    vec![
        namespace.name().into(),
        phase.into(),
        age(namespace.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let ns = |metadata: Value, spec: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "spec": spec});
    crate::resources::testing::Cases {
        valid: vec![ns(json!({"name": "a"}), json!({}))],
        invalid: vec![
            (
                ns(json!({"name": "A"}), json!({})),
                vec![
                    "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric \
                      characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
                      regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            (
                ns(json!({"name": "a"}), json!({"finalizers": ["mine"]})),
                vec![
                    "spec.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully \
                      qualified",
                ],
            ),
        ],
        table: vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Terminating"}}),
        ],
    }
}
