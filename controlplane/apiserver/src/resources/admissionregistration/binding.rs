//! What bindings of both kinds of policies have in common: which policy, with which parameters, for which requests.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, LabelSelector, Object};
use serde_json::Value;

use super::rules;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_subdomain, path_segment};
use crate::resources::validation::{At, labels, meta};

const WHEN_NOT_FOUND: &[&str] = &["Deny", "Allow"];

pub(super) fn validate(cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
    let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
    let spec = At::root(new, "spec");
    spec.child("policyName").require(&mut errors, is_dns1123_subdomain);
    param_ref(&spec.child("paramRef"), &mut errors);
    rules::match_resources(&spec.child("matchResources"), &mut errors);
    errors
}

fn param_ref(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    const ONE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (at.child("name"), at.child("selector"));
    if !name.is_empty() {
        name.check(errors, path_segment);
        if selector.is_set() {
            errors.push(name.forbidden(ONE));
        }
    }
    if selector.is_set() {
        labels::selector(&selector, errors);
        if !name.is_empty() {
            errors.push(selector.forbidden(ONE));
        }
    }
    if name.is_empty() && !selector.is_set() {
        errors.push(at.required("one of name or selector must be specified"));
    }
    at.child("parameterNotFoundAction")
        .require_one_of(errors, WHEN_NOT_FOUND);
}

pub(super) fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "PolicyName|string||The policy that is bound.",
        "ParamRef|string||The parameters it is given.",
        "Age|string",
    ])
}

pub(super) fn cells(binding: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        binding.name().into(),
        binding.str_at("spec.policyName").unwrap_or_default().into(),
        parameters(binding).into(),
        age(binding.creation_timestamp(), now),
    ]
}

/// `namespace/name`, or how they are selected; whether a parameter has a namespace cannot be seen here.
fn parameters(binding: &Object) -> String {
    let text = |field: &str| {
        let text = binding.str_at(&format!("spec.paramRef.{field}"));
        text.filter(|text| !text.is_empty())
    };
    let selector = binding.at("spec.paramRef.selector");
    match (text("name"), selector.map(LabelSelector::from_json)) {
        (Some(name), _) => format!("{}/{name}", text("namespace").unwrap_or("*")),
        (None, Some(Ok(selector))) => selector.to_string(),
        _ => "<unset>".to_owned(),
    }
}

#[cfg(test)]
pub(super) fn cases(kind: &str, extra: &Value) -> crate::resources::testing::Cases {
    use serde_json::json;
    let binding = |spec: Value| {
        let mut spec = spec;
        let (map, extra) = (spec.as_object_mut().expect("a map"), extra.as_object().cloned());
        for (key, value) in extra.unwrap_or_default() {
            map.entry(key).or_insert(value);
        }
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "bound",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let given = |params: Value| json!({"policyName": "limits", "paramRef": params});
    let by_name = given(json!({"name": "small", "parameterNotFoundAction": "Deny"}));
    let both = json!({"name": "small", "selector": {}, "parameterNotFoundAction": "Shrug"});
    crate::resources::testing::Cases {
        valid: vec![
            binding(by_name.clone()),
            binding(json!({"policyName": "limits", "matchResources": {}})),
        ],
        invalid: vec![
            (
                binding(json!({"policyName": "", "paramRef": {}})),
                vec![
                    "spec.policyName: Required value",
                    "spec.paramRef: Required value: one of name or selector must be specified",
                    "spec.paramRef.parameterNotFoundAction: Required value",
                ],
            ),
            (
                binding(given(both)),
                vec![
                    "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                    "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                    "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Shrug\": supported values: \"Deny\", \"Allow\"",
                ],
            ),
        ],
        table: vec![
            binding(by_name),
            binding(given(json!({"selector": {"matchLabels": {"a": "b"}}}))),
            binding(given(json!({"name": "small", "namespace": "ns"}))),
            binding(json!({"policyName": "limits"})),
        ],
    }
}
