//! Role: what may be done in one namespace.

use api::{FieldErrors, Object};
use k8s_openapi::api::rbac::v1::Role;

use super::rules;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::validation::{At, meta, names};

pub(crate) fn resource() -> Resource {
    Resource::of::<Role>()
        .strategy(Roles)
        .printer(rules::definitions(), rules::cells)
        .build()
}

struct Roles;

impl Strategy for Roles {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, names::path_segment);
        rules::rules(&At::root(new, "rules"), true, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    rules::cases("Role", Some("ns"))
}
