//! DeviceClass: a kind of devices that claims can ask for by name.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::resource::v1::DeviceClass;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use super::lists::list;
use super::{MAX_CONFIG, claim};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_subdomain, is_qualified_name};
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<DeviceClass>()
        .strategy(Classes)
        .printer(definitions(), cells)
        .generation()
        .build()
}

struct Classes;

impl Strategy for Classes {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        claim::selectors(&spec.child("selectors"), &mut errors);
        list(&spec.child("config"), MAX_CONFIG, &mut errors, claim::configuration);
        let resource = spec.child("extendedResourceName");
        if resource.is_set() && !is_extended(resource.str()) {
            errors.push(resource.invalid("must be a valid extended resource name"));
        }
        errors
    }
}

/// A resource beyond Kubernetes' own, whose quota can be named too.
fn is_extended(name: &str) -> bool {
    let own = !name.contains('/') || name.contains("kubernetes.io/") || name.starts_with("requests.");
    !own && is_qualified_name(&format!("requests.{name}")).is_empty()
}

pub(super) fn definitions() -> Vec<Column> {
    columns(&["Name|string|name", "Age|string"])
}

pub(super) fn cells(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), age(object.creation_timestamp(), now)]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let class = |spec: Value| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu.example.com",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let good = json!({"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}],
        "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"mode": "fast"}}}],
        "extendedResourceName": "example.com/gpu"});
    crate::resources::testing::Cases {
        valid: vec![class(good.clone()), class(json!({}))],
        invalid: vec![(
            class(
                json!({"selectors": [{}], "config": [{}, {"opaque": {"driver": "-", "parameters": [1]}}],
                "extendedResourceName": "cpu"}),
            ),
            vec![
                "spec.selectors[0].cel: Required value",
                "spec.config[0].opaque: Required value",
                "spec.config[1].opaque.driver: Invalid value: \"-\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
            ],
        )],
        table: vec![class(good)],
    }
}
