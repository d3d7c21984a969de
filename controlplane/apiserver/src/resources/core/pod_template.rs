//! PodTemplate: a template that stands alone, for controllers from outside.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::apps::workload;
use crate::resources::print::{columns, containers, label_list};
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta, pod};

pub(crate) fn resource() -> Resource {
    Resource::of::<PodTemplate>()
        .strategy(Templates)
        .printer(definitions(), cells)
        .generation_when(|old, new| old.at("template") != new.at("template"))
        .returns_deleted()
        .build()
}

struct Templates;

impl Strategy for Templates {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        pod::template(&At::root(new, "template"), &mut errors);
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        match workload::changes(op, new, "template") {
            true => pod::warnings(&At::root(new, "template").child("spec")),
            false => Vec::new(),
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Containers|string||Names of each container in the template.",
        "Images|string||Images referenced by each container in the template.",
        "Pod Labels|string||Labels that the pods carry.",
    ])
}

fn cells(template: &Object, _now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(template.list_at("template.spec.containers"));
    vec![
        template.name().into(),
        names,
        images,
        label_list(template.at("template.metadata.labels")),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let template = |containers: Value| {
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t", "namespace": "ns"},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}})
    };
    let one = template(json!([{"name": "c", "image": "reg/web:1"}]));
    crate::resources::testing::Cases {
        valid: vec![one.clone()],
        invalid: vec![(template(json!([])), vec!["template.spec.containers: Required value"])],
        table: vec![one],
    }
}
