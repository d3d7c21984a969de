//! ValidatingWebhookConfiguration: webhooks that are asked about requests and say what must not be stored.

use api::{FieldErrors, Object};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use super::{static_name, webhook};
use crate::registry::resource::{Context, Operation, Resource, Strategy};

pub(crate) fn resource() -> Resource {
    Resource::of::<ValidatingWebhookConfiguration>()
        .categories(&["api-extensions"])
        .strategy(Configurations)
        .printer(webhook::definitions(), webhook::cells)
        .generation_when(webhook::changed)
        .build()
}

struct Configurations;

impl Strategy for Configurations {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        webhook::validate(cx, op, new, false)
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
    webhook::cases("ValidatingWebhookConfiguration")
}
