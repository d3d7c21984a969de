//! IngressClass: who serves the Ingresses that name it.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object};
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{domain_prefixed_path, is_dns1123_label, is_dns1123_subdomain, path_segment};
use crate::resources::validation::{At, meta};

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const MAX_CONTROLLER: usize = 250;

pub(crate) fn resource() -> Resource {
    Resource::of::<IngressClass>()
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
        let controller = spec.child("controller");
        if let Some(old) = op.old() {
            controller.immutable(&mut errors, &At::root(old, "spec").child("controller"));
        }
        if controller.str().len() > MAX_CONTROLLER {
            errors.push(FieldError::too_long(controller.path(), MAX_CONTROLLER));
        }
        domain_prefixed_path(&controller, &mut errors);
        let parameters = spec.child("parameters");
        if parameters.is_set() {
            object_reference(&parameters, &mut errors);
            scope(&parameters, &mut errors);
        }
        errors
    }
}

/// An object somewhere, by group, kind and name.
pub(super) fn object_reference(at: &At<'_>, errors: &mut FieldErrors) {
    let group = at.child("apiGroup");
    if group.is_set() {
        group.check(errors, is_dns1123_subdomain);
    }
    at.child("kind").require(errors, path_segment);
    at.child("name").require(errors, path_segment);
}

fn scope(at: &At<'_>, errors: &mut FieldErrors) {
    let (scope, namespace) = (at.child("scope"), at.child("namespace"));
    match scope.str() {
        _ if !scope.is_set() => errors.push(scope.required("")),
        "Namespace" if !namespace.is_set() => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => namespace.check(errors, is_dns1123_label),
        "Cluster" if namespace.is_set() => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        "Cluster" => {}
        _ => errors.push(scope.not_supported(&["Cluster", "Namespace"])),
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Controller|string||Who serves the class.",
        "Parameters|string||The object with the controller's parameters.",
        "Age|string",
    ])
}

fn cells(class: &Object, now: Timestamp) -> Vec<Value> {
    let default = match class.annotation(DEFAULT) {
        Some("true") => " (default)",
        _ => "",
    };
    vec![
        format!("{}{default}", class.name()).into(),
        class.str_at("spec.controller").unwrap_or_default().into(),
        parameters(class).into(),
        age(class.creation_timestamp(), now),
    ]
}

fn parameters(class: &Object) -> String {
    let at = At::root(class, "spec").child("parameters");
    let (kind, group, name) = (at.child("kind"), at.child("apiGroup"), at.child("name"));
    match (at.is_set(), group.is_set()) {
        (false, _) => "<none>".to_owned(),
        (true, true) => format!("{}.{}/{}", kind.str(), group.str(), name.str()),
        (true, false) => format!("{}/{}", kind.str(), name.str()),
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let class = |spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}, "spec": spec});
    let with = |parameters: Value| class(json!({"controller": "example.com/ingress", "parameters": parameters}));
    let mut shown = with(json!({"apiGroup": "k8s.example.com", "kind": "IngressParameters", "name": "external"}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["metadata"]["annotations"] = json!({DEFAULT: "true"});
    crate::resources::testing::Cases {
        valid: vec![
            class(json!({"controller": "example.com/ingress"})),
            with(json!({"kind": "ConfigMap", "name": "a"})),
            with(json!({"kind": "ConfigMap", "name": "a", "scope": "Namespace", "namespace": "ns"})),
        ],
        invalid: vec![
            (class(json!({})), vec!["spec.controller: Required value"]),
            (
                class(json!({"controller": "ingress"})),
                vec![
                    r#"spec.controller: Invalid value: "ingress": must be a domain-prefixed path (such as "acme.io/foo")"#,
                ],
            ),
            (
                with(json!({"kind": "", "name": "a/b", "scope": "Namespace"})),
                vec![
                    "spec.parameters.kind: Required value",
                    r#"spec.parameters.name: Invalid value: "a/b": may not contain '/'"#,
                    "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                ],
            ),
            (
                with(json!({"kind": "A", "name": "a", "scope": "Cluster", "namespace": "ns"})),
                vec!["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
            ),
            (
                with(json!({"kind": "A", "name": "a", "scope": "World"})),
                vec![r#"spec.parameters.scope: Unsupported value: "World": supported values: "Cluster", "Namespace""#],
            ),
        ],
        table: vec![shown, class(json!({"controller": "example.com/ingress"}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn a_class_keeps_its_controller() {
        let class = |controller: &str| object(json!({"metadata": {"name": "a"}, "spec": {"controller": controller}}));
        let old = class("a.example/b");
        context(None, |cx| {
            assert_eq!(
                messages(Classes.validate(cx, &Operation::Update { old: &old }, &class("a.example/c"))),
                [r#"spec.controller: Invalid value: "a.example/c": field is immutable"#]
            );
        });
    }
}
