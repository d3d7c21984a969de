//! MutatingAdmissionPolicyBinding: puts a policy to work.

use api::{FieldErrors, Object};
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;

use super::{binding, static_name};
use crate::registry::resource::{Context, Operation, Resource, Strategy};

pub(crate) fn resource() -> Resource {
    Resource::of::<MutatingAdmissionPolicyBinding>()
        .categories(&["api-extensions"])
        .strategy(Bindings)
        .printer(binding::definitions(), binding::cells)
        .generation()
        .build()
}

struct Bindings;

impl Strategy for Bindings {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        binding::validate(cx, op, new)
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        static_name(new)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    binding::cases("MutatingAdmissionPolicyBinding", &serde_json::json!({}))
}
