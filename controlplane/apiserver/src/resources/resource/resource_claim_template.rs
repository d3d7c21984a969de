//! ResourceClaimTemplate: what the claims that pods get of their own ask for.

use api::{FieldErrors, Object};
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
#[cfg(test)]
use serde_json::json;

use super::{claim, device_class};
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::validation::labels::labels;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<ResourceClaimTemplate>()
        .strategy(Templates)
        .printer(device_class::definitions(), device_class::cells)
        .build()
}

struct Templates;

impl Strategy for Templates {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        let metadata = spec.child("metadata");
        meta::annotations(&metadata.child("annotations"), &mut errors);
        labels(&metadata.child("labels"), &mut errors);
        claim::spec(&spec.child("spec"), &mut errors);
        if let Some(old) = op.old() {
            spec.immutable(&mut errors, &At::root(old, "spec"));
        }
        errors
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let template = |spec: serde_json::Value| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one",
            "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let request =
        |class: &str| json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": class}}]}});
    let good = json!({"metadata": {"labels": {"a": "b"}}, "spec": request("gpu.example.com")});
    crate::resources::testing::Cases {
        valid: vec![template(good.clone())],
        invalid: vec![(
            template(json!({"spec": request("")})),
            vec!["spec.spec.devices.requests[0].exactly.deviceClassName: Required value"],
        )],
        table: vec![template(good)],
    }
}
