//! Who a binding speaks of and which role it gives, and the printer both kinds of binding use.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use serde_json::Value;

use crate::registry::printer::age;
use crate::registry::resource::Operation;
use crate::resources::defaults::{is_left_out, map_of, maps_of, set_default};
use crate::resources::print::columns;
use crate::resources::validation::At;
use crate::resources::validation::names::{is_dns1123_subdomain, path_segment};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The group of users, groups and roles goes without saying.
pub(super) fn set_defaults(binding: &mut Object) {
    if let Some(role) = map_of(binding.map_mut(), "roleRef") {
        set_default(role, "apiGroup", GROUP);
    }
    for subject in maps_of(binding.map_mut(), "subjects") {
        let named = matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group"));
        if named && is_left_out(subject, "apiGroup") {
            subject.insert("apiGroup".to_owned(), GROUP.into());
        }
    }
}

/// `roleRef` and `subjects`; a binding keeps its role for life.
pub(super) fn rules(op: &Operation<'_>, new: &Object, namespaced: bool, errors: &mut FieldErrors) {
    let role = At::root(new, "roleRef");
    role.child("apiGroup").one_of(errors, &[GROUP]);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&role.child("kind").str()) {
        errors.push(role.child("kind").not_supported(kinds));
    }
    role.child("name").require(errors, path_segment);
    for subject in At::root(new, "subjects").items() {
        one_subject(&subject, namespaced, errors);
    }
    if let Operation::Update { old } = op
        && role.value() != At::root(old, "roleRef").value()
    {
        errors.push(role.invalid("cannot change roleRef"));
    }
}

fn one_subject(at: &At<'_>, namespaced: bool, errors: &mut FieldErrors) {
    let (kind, group, name, namespace) = (
        at.child("kind"),
        at.child("apiGroup"),
        at.child("name"),
        at.child("namespace"),
    );
    if name.is_empty() {
        errors.push(name.required(""));
    }
    match kind.str() {
        "ServiceAccount" => {
            name.check_if_set(errors, is_dns1123_subdomain);
            group.one_of(errors, &[""]);
            if !namespaced && namespace.is_empty() {
                errors.push(namespace.required(""));
            }
        }
        "User" | "Group" => group.one_of(errors, &[GROUP]),
        _ => errors.push(kind.not_supported(&["ServiceAccount", "User", "Group"])),
    }
}

pub(super) fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Role|string||The role that is given.",
        "Age|string",
        "Users|string||Users it is given to.|wide",
        "Groups|string||Groups it is given to.|wide",
        "ServiceAccounts|string||Service accounts it is given to.|wide",
    ])
}

pub(super) fn cells(binding: &Object, now: Timestamp) -> Vec<Value> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of = |kind: &str| -> Value {
        let list = binding.list_at("subjects").iter().filter(|s| text(s, "kind") == kind);
        let names: Vec<String> = match kind {
            "ServiceAccount" => list
                .map(|s| format!("{}/{}", text(s, "namespace"), text(s, "name")))
                .collect(),
            _ => list.map(|s| text(s, "name")).collect(),
        };
        names.join(", ").into()
    };
    let role = |field: &str| binding.str_at(&format!("roleRef.{field}")).unwrap_or_default();
    vec![
        binding.name().into(),
        format!("{}/{}", role("kind"), role("name")).into(),
        age(binding.creation_timestamp(), now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

/// Cases for both kinds.
#[cfg(test)]
pub(super) fn cases(kind: &str, namespace: Option<&str>) -> crate::resources::testing::Cases {
    use serde_json::json;
    let binding = |role: Value, subjects: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "a:b", "namespace": namespace,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "roleRef": role, "subjects": subjects})
    };
    let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"});
    let kinds = if namespace.is_some() {
        "\"Role\", \"ClusterRole\""
    } else {
        "\"ClusterRole\""
    };
    let unsupported: &'static str =
        Box::leak(format!("roleRef.kind: Unsupported value: \"Pod\": supported values: {kinds}").into_boxed_str());
    crate::resources::testing::Cases {
        valid: vec![binding(
            role.clone(),
            json!([{"kind": "User", "name": "jane"},
            {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}]),
        )],
        invalid: vec![
            (
                binding(
                    json!({"kind": "Pod", "name": ""}),
                    json!([{"kind": "Robot", "name": "r"}]),
                ),
                vec![
                    unsupported,
                    "roleRef.name: Required value",
                    "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
                ],
            ),
            (
                binding(role.clone(), json!([{"kind": "User", "name": "jane", "apiGroup": "x"}])),
                vec!["subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\""],
            ),
        ],
        table: vec![binding(
            role,
            json!([{"kind": "User", "name": "jane"}, {"kind": "User", "name": "joe"},
            {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}]),
        )],
    }
}
