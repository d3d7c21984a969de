//! StorageClass: a kind of storage that claims can ask for by name, and who makes it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use super::class;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::labels::label_name;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta, pod};

/// Annotations that make a class the default one.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Retain"];
const BINDING_MODES: &[&str] = &["Immediate", "WaitForFirstConsumer"];

pub(crate) fn resource() -> Resource {
    Resource::of::<StorageClass>()
        .short_names(&["sc"])
        .strategy(Classes)
        .printer(definitions(), cells)
        .build()
}

/// Whether claims that name no class get this one.
pub(crate) fn is_default(class: &Object) -> bool {
    DEFAULT.iter().any(|key| class.annotation(key) == Some("true"))
}

struct Classes;

impl Strategy for Classes {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let field = |name: &str| At::root(new, name);
        match op.old() {
            None => {
                class::provisioner(&field("provisioner"), &mut errors);
                class::parameters(&field("parameters"), &mut errors);
                field("reclaimPolicy").one_of(&mut errors, RECLAIM_POLICIES);
                field("volumeBindingMode").require_one_of(&mut errors, BINDING_MODES);
                topologies(&field("allowedTopologies"), &mut errors);
            }
            Some(old) => {
                for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                    field(name).immutable(&mut errors, &At::root(old, name));
                }
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        let terms = At::root(new, "allowedTopologies").items();
        let expressions = terms
            .iter()
            .flat_map(|term| term.child("matchLabelExpressions").items());
        let old_label = |expression: At<'_>| {
            let key = expression.child("key");
            Some(format!("{}: {}", key.path(), pod::node_label(key.str())?))
        };
        expressions.filter_map(old_label).collect()
    }
}

/// Where volumes may be, as terms of which one must hold; no term twice.
fn topologies(at: &At<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for term in at.items() {
        let expressions = term.child("matchLabelExpressions");
        let wanted = requirements(&expressions, errors);
        if seen.contains(&wanted) {
            errors.push(expressions.duplicate_as(""));
        }
        seen.push(wanted);
    }
}

fn requirements<'a>(at: &At<'a>, errors: &mut FieldErrors) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found = BTreeMap::new();
    for requirement in at.items() {
        let (key, values) = (requirement.child("key"), requirement.child("values"));
        if values.is_empty() {
            errors.push(values.required(""));
        }
        let mut known = HashSet::new();
        let twice = values.items().into_iter().filter(|value| !known.insert(value.str()));
        errors.extend(twice.map(|value| value.duplicate()));
        label_name(&key, key.str(), errors);
        if found.contains_key(key.str()) {
            errors.push(key.duplicate());
        }
        found.insert(key.str(), values.items().iter().map(At::str).collect());
    }
    found
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Provisioner|string||Who makes the volumes.",
        "ReclaimPolicy|string||What becomes of a volume when its claim is gone.",
        "VolumeBindingMode|string||When volumes are made and bound.",
        "AllowVolumeExpansion|string||Whether claims may grow.",
        "Age|string",
    ])
}

fn cells(class: &Object, now: Timestamp) -> Vec<Value> {
    let mark = if is_default(class) { " (default)" } else { "" };
    let text = |field: &str, absent: &str| Value::from(class.str_at(field).unwrap_or(absent));
    vec![
        format!("{}{mark}", class.name()).into(),
        text("provisioner", ""),
        text("reclaimPolicy", "Delete"),
        text("volumeBindingMode", "Immediate"),
        class.bool_at("allowVolumeExpansion").unwrap_or_default().into(),
        age(class.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let class = |provisioner: &str, extra: Value| {
        let mut class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast",
            "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": provisioner});
        let (map, extra) = (class.as_object_mut().expect("a map"), extra.as_object().cloned());
        map.extend(extra.unwrap_or_default());
        class
    };
    let term = json!({"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}]});
    crate::resources::testing::Cases {
        valid: vec![class("example.com/Disk", json!({"parameters": {"type": "ssd"}}))],
        invalid: vec![
            (
                class(
                    "",
                    json!({"reclaimPolicy": "Recycle", "volumeBindingMode": "Late", "parameters": {"": "x"},
                    "allowedTopologies": [term.clone(), term]}),
                ),
                vec![
                    "provisioner: Required value",
                    "parameters: Invalid value: \"\": field can not be empty.",
                    "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                    "volumeBindingMode: Unsupported value: \"Late\": supported values: \"Immediate\", \
                     \"WaitForFirstConsumer\"",
                    "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
                    "allowedTopologies[1].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
                    "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
                ],
            ),
            (
                class("/x", json!({})),
                vec!["provisioner: Invalid value: \"/x\": prefix part must be non-empty"],
            ),
        ],
        table: vec![class("example.com/disk", json!({"allowVolumeExpansion": true}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn what_made_the_volumes_does_not_change() {
        let class =
            |policy: &str| object(json!({"metadata": {"name": "a"}, "provisioner": "x", "reclaimPolicy": policy}));
        let (old, new) = (class("Delete"), class("Retain"));
        let found = context(None, |cx| {
            messages(Classes.validate(cx, &Operation::Update { old: &old }, &new))
        });
        assert_eq!(found, ["reclaimPolicy: Invalid value: \"Retain\": field is immutable"]);
    }

    #[test]
    fn old_names_of_labels_are_pointed_out() {
        let class = object(json!({"allowedTopologies": [{"matchLabelExpressions": [
            {"key": "failure-domain.beta.kubernetes.io/zone", "values": ["a"]}]}]}));
        let found = context(None, |cx| Classes.warnings(cx, &Operation::Create, &class));
        assert_eq!(
            found,
            [
                "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \"topology.kubernetes.io/zone\" \
              instead"
            ]
        );
    }
}
