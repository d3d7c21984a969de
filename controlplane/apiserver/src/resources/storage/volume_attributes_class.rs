//! VolumeAttributesClass: properties of volumes that a driver can change while they are in use.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use super::class;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<VolumeAttributesClass>()
        .short_names(&["vac"])
        .strategy(Classes)
        .printer(definitions(), cells)
        .build()
}

struct Classes;

impl Strategy for Classes {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if let Some(old) = op.old() {
            for field in ["driverName", "parameters"] {
                let now = At::root(new, field);
                if now.value() != At::root(old, field).value() {
                    errors.push(now.forbidden(format!("updates to {field} are forbidden.")));
                }
            }
        }
        class::provisioner(&At::root(new, "driverName"), &mut errors);
        let parameters = At::root(new, "parameters");
        class::parameters(&parameters, &mut errors);
        if parameters.is_empty() {
            errors.push(parameters.required("must contain at least one key/value pair"));
        }
        errors
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "DriverName|string||The driver that understands the parameters.",
        "Age|string",
    ])
}

fn cells(class: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        class.name().into(),
        class.str_at("driverName").unwrap_or_default().into(),
        age(class.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let class = |driver: &str, parameters: Value| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "gold",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "driverName": driver, "parameters": parameters})
    };
    crate::resources::testing::Cases {
        valid: vec![class("disk.example.com", json!({"iops": "4000"}))],
        invalid: vec![(
            class("", json!({})),
            vec![
                "driverName: Required value",
                "parameters: Required value: must contain at least one key/value pair",
            ],
        )],
        table: vec![class("disk.example.com", json!({"iops": "4000"}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn a_class_stays_what_it_is() {
        let class = |driver: &str, iops: &str| {
            object(json!({"metadata": {"name": "a"}, "driverName": driver, "parameters": {"iops": iops}}))
        };
        let (old, new) = (class("a.b", "1"), class("b.c", "2"));
        let found = context(None, |cx| {
            messages(Classes.validate(cx, &Operation::Update { old: &old }, &new))
        });
        assert_eq!(
            found,
            [
                "driverName: Forbidden: updates to driverName are forbidden.",
                "parameters: Forbidden: updates to parameters are forbidden."
            ]
        );
    }
}
