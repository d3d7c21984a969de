//! Service: a name and an address for whoever answers. Its address and node ports are claimed before it is stored (see
//! [`claims`]); a repair pass frees what a crash left behind (see [`repair`]).

mod claims;
mod effects;
mod plan;
mod printer;
pub mod repair;
mod rules;
mod shape;
#[cfg(test)]
pub(crate) mod tests;

use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::registry::Deps;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::validation::names::is_dns1035_label;
use crate::resources::validation::{At, meta};

pub(crate) fn resource(deps: &Deps) -> Resource {
    Resource::of::<Service>()
        .short_names(&["svc"])
        .categories(&["all"])
        .strategy(Services)
        .effects(effects::Allocation::new(deps))
        .printer(printer::definitions(), printer::cells)
        .field("spec.clusterIP")
        .field("spec.type")
        .returns_deleted()
        .status()
        .build()
}

struct Services;

impl Strategy for Services {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {
                new.set("status", json!({"loadBalancer": {}}));
                with_spec(new, |spec| {
                    shape::set_defaults(spec);
                    shape::plural_from_singular(spec);
                });
            }
            Operation::Update { old } => {
                copy_field(old, new, "status");
                let before = old.map_at("spec").cloned().unwrap_or_default();
                with_spec(new, |spec| {
                    shape::set_defaults(spec);
                    shape::follow_singular(&before, spec);
                    shape::keep_allocated(&before, spec);
                    shape::drop_what_the_type_lost(&before, spec);
                });
            }
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1035_label);
        let spec = At::root(new, "spec");
        if let Operation::UpdateStatus { .. } = op {
            return errors;
        }
        if let Operation::Update { old } = op {
            rules::changes(&At::root(old, "spec"), &spec, &mut errors);
        }
        rules::spec(&spec, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn with_spec(service: &mut Object, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    if let Some(spec) = service.at_mut("spec").and_then(Value::as_object_mut) {
        edit(spec);
    }
}
