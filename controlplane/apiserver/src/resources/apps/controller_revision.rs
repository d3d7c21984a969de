//! ControllerRevision: a template as a DaemonSet or StatefulSet had it, kept so that one can go back to it.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<ControllerRevision>()
        .strategy(Revisions)
        .printer(definitions(), cells)
        .build()
}

struct Revisions;

impl Strategy for Revisions {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let data = At::root(new, "data");
        if !data.is_set() {
            errors.push(data.required("data is mandatory"));
        }
        At::root(new, "revision").non_negative(&mut errors);
        if let Operation::Update { old } = op {
            data.immutable(&mut errors, &At::root(old, "data"));
        }
        errors
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Controller|string||Whose revision it is.",
        "Revision|string||Its number; the highest is the newest.",
        "Age|string",
    ])
}

fn cells(revision: &Object, now: Timestamp) -> Vec<Value> {
    let owner = revision.controller().map(|owner| {
        let group = owner.api_version.rsplit_once('/').map(|(group, _)| format!(".{group}"));
        let kind = format!("{}{}", owner.kind, group.unwrap_or_default());
        format!("{}/{}", kind.to_lowercase(), owner.name)
    });
    vec![
        revision.name().into(),
        owner.unwrap_or_else(|| "<none>".to_owned()).into(),
        revision.i64_at("revision").unwrap_or_default().into(),
        age(revision.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let revision = |extra: Value| {
        let mut revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 3,
            "metadata": {"name": "web-1", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        if let (Some(map), Value::Object(extra)) = (revision.as_object_mut(), extra) {
            map.extend(extra);
        }
        revision
    };
    let mut owned = revision(json!({"data": {}}));
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true}]);
    crate::resources::testing::Cases {
        valid: vec![revision(json!({"data": {"spec": {"template": {}}}}))],
        invalid: vec![(
            revision(json!({"revision": -1})),
            vec![
                "data: Required value: data is mandatory",
                "revision: Invalid value: -1: must be greater than or equal to 0",
            ],
        )],
        table: vec![owned, revision(json!({}))],
    }
}
