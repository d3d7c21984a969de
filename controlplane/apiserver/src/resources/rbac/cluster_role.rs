//! ClusterRole: what may be done in the whole cluster, or in a namespace where a RoleBinding says so; perhaps the sum of
//! other roles, chosen by label.

use api::{FieldErrors, Object};
use k8s_openapi::api::rbac::v1::ClusterRole;

use super::rules;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::validation::{At, labels, meta, names};

pub(crate) fn resource() -> Resource {
    Resource::of::<ClusterRole>()
        .strategy(ClusterRoles)
        .printer(rules::definitions(), rules::cells)
        .build()
}

struct ClusterRoles;

impl Strategy for ClusterRoles {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, names::path_segment);
        rules::rules(&At::root(new, "rules"), false, &mut errors);
        let aggregation = At::root(new, "aggregationRule");
        if aggregation.is_set() {
            let selectors = aggregation.child("clusterRoleSelectors");
            if selectors.is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(selectors.required(detail));
            }
            for selector in selectors.items() {
                labels::selector(&selector, &mut errors);
            }
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    rules::cases("ClusterRole", None)
}
