//! The rules of a Role or ClusterRole, and the printer both use.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use serde_json::Value;

use crate::resources::print::columns;
use crate::resources::validation::At;

/// `rules` of a role; a namespaced one cannot speak of paths.
pub(super) fn rules(at: &At<'_>, namespaced: bool, errors: &mut FieldErrors) {
    for rule in at.items() {
        let field = |name: &str| rule.child(name);
        if field("verbs").is_empty() {
            errors.push(field("verbs").required("verbs must contain at least one value"));
        }
        let paths = field("nonResourceURLs");
        if !paths.is_empty() {
            if namespaced {
                errors.push(paths.invalid("namespaced rules cannot apply to non-resource URLs"));
            }
            if ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|f| !field(f).is_empty())
            {
                errors.push(paths.invalid("rules cannot apply to both regular resources and non-resource URLs"));
            }
            continue;
        }
        if field("apiGroups").is_empty() {
            errors.push(field("apiGroups").required("resource rules must supply at least one api group"));
        }
        if field("resources").is_empty() {
            errors.push(field("resources").required("resource rules must supply at least one resource"));
        }
    }
}

pub(super) fn definitions() -> Vec<Column> {
    columns(&["Name|string|name", "Created At|date||When the role was made."])
}

pub(super) fn cells(role: &Object, _now: Timestamp) -> Vec<Value> {
    vec![role.name().into(), role.creation_timestamp().unwrap_or_default().into()]
}

/// Cases for both kinds.
#[cfg(test)]
pub(super) fn cases(kind: &str, namespace: Option<&str>) -> crate::resources::testing::Cases {
    use serde_json::json;
    let role = |rules: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "a:b", "namespace": namespace},
            "rules": rules})
    };
    let both = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/x"]}]);
    let mut expected = vec![
        "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and \
         non-resource URLs",
    ];
    if namespace.is_some() {
        let first =
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs";
        expected.insert(0, first);
    }
    crate::resources::testing::Cases {
        valid: vec![role(
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
        )],
        invalid: vec![
            (role(both), expected),
            (
                role(json!([{"verbs": []}])),
                vec![
                    "rules[0].verbs: Required value: verbs must contain at least one value",
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
        ],
        table: vec![json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}})],
    }
}
