//! RoleBinding: gives a role to users, groups and service accounts in one namespace.

use api::{FieldErrors, Object};
use k8s_openapi::api::rbac::v1::RoleBinding;

use super::subjects;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::validation::{meta, names};

pub(crate) fn resource() -> Resource {
    Resource::of::<RoleBinding>()
        .strategy(Bindings)
        .printer(subjects::definitions(), subjects::cells)
        .build()
}

struct Bindings;

impl Strategy for Bindings {
    fn prepare(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &mut Object) {
        subjects::set_defaults(new);
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, names::path_segment);
        subjects::rules(op, new, true, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    subjects::cases("RoleBinding", Some("ns"))
}
