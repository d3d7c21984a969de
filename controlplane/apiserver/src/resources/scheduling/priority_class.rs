//! PriorityClass: a name for how much a pod matters.

use api::field::Path;
use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

/// The classes of every cluster, and what they are worth.
pub(crate) const SYSTEM: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];
/// The greatest value that users may give.
const HIGHEST: i64 = 1_000_000_000;

pub(crate) fn resource() -> Resource {
    Resource::of::<PriorityClass>()
        .short_names(&["pc"])
        .strategy(Classes)
        .printer(definitions(), cells)
        .generation_when(|_, _| false)
        .build()
}

struct Classes;

impl Strategy for Classes {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op.old() {
            None => rules(new, &mut errors),
            Some(old) => changes(old, new, &mut errors),
        }
        errors
    }
}

fn rules(class: &Object, errors: &mut FieldErrors) {
    let value = At::root(class, "value");
    if class.name().starts_with("system-") {
        if let Err(why) = is_known(class) {
            errors.push(FieldError::forbidden(
                &Path::root("metadata").child("name"),
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"),
            ));
        }
    } else if value.i64().is_some_and(|value| value > HIGHEST) {
        errors.push(value.forbidden(format!("maximum allowed value of a user defined priority is {HIGHEST}")));
    }
    At::root(class, "preemptionPolicy").one_of(errors, &["Never", "PreemptLowerPriority"]);
}

/// Whether a class with a name of the system's is the system's.
fn is_known(class: &Object) -> Result<(), String> {
    let name = class.name();
    let known = SYSTEM.iter().find(|(known, _)| *known == name);
    let (_, value) = known.ok_or_else(|| format!("{name} is not a known system priority class"))?;
    if class.i64_at("value").unwrap_or_default() != *value {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    match class.bool_at("globalDefault") {
        Some(true) => Err(format!("globalDefault of {name} PriorityClass must be false")),
        _ => Ok(()),
    }
}

fn changes(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let value = |class: &Object| class.i64_at("value").unwrap_or_default();
    if value(old) != value(new) {
        errors.push(At::root(new, "value").forbidden("may not be changed in an update."));
    }
    At::root(new, "preemptionPolicy").fixed(errors, &At::root(old, "preemptionPolicy"));
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Value|integer||How much the pods of the class matter.",
        "Global-Default|boolean||Whether pods that name no class are of this one.",
        "Age|string",
        "PreemptionPolicy|string||Whether pods of the class push others aside.",
    ])
}

fn cells(class: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        class.name().into(),
        class.i64_at("value").unwrap_or_default().into(),
        class.bool_at("globalDefault").unwrap_or_default().into(),
        age(class.creation_timestamp(), now),
        class.str_at("preemptionPolicy").unwrap_or_default().into(),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let class = |name: &str, value: i64| json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value});
    let with = |mut class: Value, field: &str, value: Value| {
        class[field] = value;
        class
    };
    let mut shown = with(class("high", 1000), "preemptionPolicy", json!("Never"));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    crate::resources::testing::Cases {
        valid: vec![
            class("high", 1_000_000_000),
            class("system-node-critical", 2_000_001_000),
            with(class("low", -5), "globalDefault", json!(true)),
        ],
        invalid: vec![
            (
                class("high", 1_000_000_001),
                vec!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            (
                with(class("high", 1), "preemptionPolicy", json!("Always")),
                vec![
                    r#"preemptionPolicy: Unsupported value: "Always": supported values: "Never", "PreemptLowerPriority""#,
                ],
            ),
            (
                class("system-mine", 1),
                vec![
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
                ],
            ),
            (
                class("system-node-critical", 1),
                vec![
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
                ],
            ),
            (
                with(
                    class("system-node-critical", 2_000_001_000),
                    "globalDefault",
                    json!(true),
                ),
                vec![
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: globalDefault of system-node-critical PriorityClass must be false",
                ],
            ),
        ],
        table: vec![shown],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn a_class_keeps_its_worth() {
        let class = |value: i64, policy: &str| {
            object(json!({"metadata": {"name": "high"}, "value": value, "preemptionPolicy": policy}))
        };
        let old = class(1, "Never");
        context(None, |cx| {
            let found = |new| messages(Classes.validate(cx, &Operation::Update { old: &old }, &new));
            assert_eq!(
                found(class(2, "PreemptLowerPriority")),
                [
                    "value: Forbidden: may not be changed in an update.",
                    r#"preemptionPolicy: Invalid value: "PreemptLowerPriority": field is immutable"#,
                ]
            );
            assert_eq!(found(class(1, "Never")), Vec::<String>::new());
        });
    }
}
