//! ValidatingAdmissionPolicyBinding: puts a policy to work, and says what becomes of what fails it.

use std::collections::HashSet;

use api::{FieldErrors, Object};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
#[cfg(test)]
use serde_json::json;

use super::{binding, static_name};
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::validation::At;

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

pub(crate) fn resource() -> Resource {
    Resource::of::<ValidatingAdmissionPolicyBinding>()
        .categories(&["api-extensions"])
        .strategy(Bindings)
        .printer(binding::definitions(), binding::cells)
        .generation()
        .build()
}

struct Bindings;

impl Strategy for Bindings {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = binding::validate(cx, op, new);
        actions(&At::root(new, "spec").child("validationActions"), &mut errors);
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        static_name(new)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn actions(at: &At<'_>, errors: &mut FieldErrors) {
    let mut known = HashSet::new();
    for action in at.items() {
        action.one_of(errors, ACTIONS);
        if !known.insert(action.str()) {
            errors.push(action.duplicate());
        }
    }
    if known.contains("Deny") && known.contains("Warn") {
        errors.push(at.invalid(
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response and \
             headers serves no purpose)",
        ));
    }
    if known.is_empty() {
        errors.push(at.required("at least one validation action is required"));
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let kind = "ValidatingAdmissionPolicyBinding";
    let mut cases = binding::cases(kind, &json!({"validationActions": ["Deny"]}));
    let with = |actions: serde_json::Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "a"},
            "spec": {"policyName": "p", "validationActions": actions}})
    };
    cases.invalid.extend([
        (
            with(json!(["Deny", "Warn", "Warn", "Cry"])),
            vec![
                "spec.validationActions[2]: Duplicate value: \"Warn\"",
                "spec.validationActions[3]: Unsupported value: \"Cry\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Warn\",\"Cry\"]: must not contain both Deny and Warn \
                 (repeating the same validation failure information in the API response and headers serves no purpose)",
            ],
        ),
        (
            with(json!([])),
            vec!["spec.validationActions: Required value: at least one validation action is required"],
        ),
    ]);
    cases
}
