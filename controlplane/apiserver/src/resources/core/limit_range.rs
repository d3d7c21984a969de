//! LimitRange: what pods, containers and claims of a namespace may ask for, and what they get if they do not ask.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::{FieldErrors, Object, Quantity};
use k8s_openapi::api::core::v1::LimitRange;
#[cfg(test)]
use serde_json::{Value, json};

use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::validation::names::{is_dns1123_subdomain, is_qualified_name};
use crate::resources::validation::quantity::{container_resource, may_overcommit, parse, resource_name};
use crate::resources::validation::{At, meta};

const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];
/// The amounts of an item, in the order in which they are looked at.
const AMOUNTS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub(crate) fn resource() -> Resource {
    Resource::of::<LimitRange>()
        .short_names(&["limits"])
        .strategy(Ranges)
        .build()
}

struct Ranges;

impl Strategy for Ranges {
    /// A range without a name gets its uid for one.
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        if matches!(op, Operation::Create) && new.name().is_empty() && !new.uid().is_empty() {
            let uid = new.uid().to_owned();
            new.set_name(&uid);
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let mut taken = HashSet::new();
        for item in At::root(new, "spec").child("limits").items() {
            let kind = item.child("type");
            type_name(&kind, &mut errors);
            if !taken.insert(kind.str()) {
                errors.push(kind.duplicate());
            }
            limits(&item, &mut errors);
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn type_name(at: &At<'_>, errors: &mut FieldErrors) {
    let bad = is_qualified_name(at.str());
    let name = at.str();
    if bad.is_empty() && !name.contains('/') && !TYPES.contains(&name) {
        errors.push(at.invalid("must be a standard limit type or fully qualified"));
    }
    errors.extend(bad.into_iter().map(|message| at.invalid(message)));
}

fn limits(item: &At<'_>, errors: &mut FieldErrors) {
    let kind = item.child("type").str();
    let mut amounts: BTreeMap<&str, BTreeMap<&str, Quantity>> = BTreeMap::new();
    for field in AMOUNTS {
        let at = item.child(field);
        if kind == "Pod" && field.starts_with("default") {
            if !at.is_empty() {
                errors.push(at.forbidden("may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        if *field == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            some_storage(item, errors);
        }
        for (name, amount) in at.entries() {
            match kind {
                "Pod" | "Container" => container_resource(name, &amount, errors),
                _ => drop(resource_name(name, &amount, errors)),
            }
            if let Some(quantity) = parse(&amount) {
                amounts.entry(field).or_default().insert(name, quantity);
            }
        }
    }
    let names: BTreeSet<&str> = amounts.values().flat_map(|of| of.keys().copied()).collect();
    for name in names {
        let of = |field: &str| amounts.get(field).and_then(|of| of.get(name)).copied();
        relations(item, name, of, errors);
    }
}

fn some_storage(item: &At<'_>, errors: &mut FieldErrors) {
    let given = |field: &str| item.child(field).key("storage").is_set();
    if !given("min") && !given("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(item.child("limits").required(detail));
    }
}

/// How the amounts of one resource lie to each other.
fn relations(item: &At<'_>, name: &str, of: impl Fn(&str) -> Option<Quantity>, errors: &mut FieldErrors) {
    // The amount named first must not be more than the second; the field at fault, what is shown there, and the words.
    let ordered = [
        ("min", "max", "min", "min", "min value", "max value"),
        (
            "min",
            "defaultRequest",
            "defaultRequest",
            "defaultRequest",
            "min value",
            "default request value",
        ),
        (
            "defaultRequest",
            "max",
            "defaultRequest",
            "defaultRequest",
            "default request value",
            "max value",
        ),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "defaultRequest",
            "default request value",
            "default limit value",
        ),
        ("min", "default", "default", "min", "min value", "default value"),
        ("default", "max", "default", "max", "default value", "max value"),
    ];
    for (less, more, field, shown, first, second) in ordered {
        if let (Some(low), Some(high)) = (of(less), of(more))
            && low > high
        {
            let shown = of(shown).map(|quantity| quantity.to_string()).unwrap_or_default();
            let detail = format!("{first} {low} is greater than {second} {high}");
            errors.push(item.child(field).key(name).invalid_as(shown, detail));
        }
    }
    if let Some(ratio) = of("maxLimitRequestRatio") {
        ratios(
            &item.child("maxLimitRequestRatio").key(name),
            ratio,
            of("min"),
            of("max"),
            errors,
        );
    }
    if let (Some(limit), Some(request)) = (of("default"), of("defaultRequest"))
        && limit != request
        && !may_overcommit(name)
    {
        let detail = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        let at = item.child("defaultRequest").key(name);
        errors.push(at.invalid_as(request.to_string(), detail));
    }
}

fn ratios(at: &At<'_>, ratio: Quantity, min: Option<Quantity>, max: Option<Quantity>, errors: &mut FieldErrors) {
    if ratio < Quantity::from_units(1) {
        errors.push(at.invalid_as(ratio.to_string(), format!("ratio {ratio} is less than 1")));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let bound = max.as_f64() / min.as_f64();
        if ratio.as_f64() > bound {
            let detail = format!("ratio {ratio} is greater than max/min = {bound:.6}");
            errors.push(at.invalid_as(ratio.to_string(), detail));
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let range = |limits: Value| {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", "namespace": "ns",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"limits": limits}})
    };
    crate::resources::testing::Cases {
        valid: vec![
            range(json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m", "memory": "1Mi"}}])),
            range(
                json!([{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}, {"type": "Pod", "max": {"cpu": "4"},
                "maxLimitRequestRatio": {"cpu": "4"}}]),
            ),
        ],
        invalid: vec![
            (
                range(
                    json!([{"type": "Cat"}, {"type": "Pod", "default": {"cpu": "1"}, "max": {"storage": "1"}},
                    {"type": "PersistentVolumeClaim"}, {"type": "PersistentVolumeClaim", "max": {"storage": "1"}}]),
                ),
                vec![
                    "spec.limits[0].type: Invalid value: \"Cat\": must be a standard limit type or fully qualified",
                    "spec.limits[1].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                    "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
                    "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was \
                     provided",
                    "spec.limits[3].type: Duplicate value: \"PersistentVolumeClaim\"",
                ],
            ),
            (
                range(
                    json!([{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "3"},
                    "defaultRequest": {"cpu": "4"}, "maxLimitRequestRatio": {"cpu": "900m"}}]),
                ),
                vec![
                    "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"4\": default request value 4 is greater than max value 1",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"4\": default request value 4 is greater than default \
                     limit value 3",
                    "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 3 is greater than max value 1",
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"900m\": ratio 900m is less than 1",
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"900m\": ratio 900m is greater than max/min = \
                     0.500000",
                ],
            ),
            (
                range(json!([{"type": "Container", "default": {"a.b/gpu": "2"}, "defaultRequest": {"a.b/gpu": "1"}}])),
                vec![
                    "spec.limits[0].defaultRequest[a.b/gpu]: Invalid value: \"1\": default value 2 must equal to defaultRequest \
                     value 1 in a.b/gpu",
                ],
            ),
        ],
        table: vec![range(json!([]))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, object};

    #[test]
    fn a_nameless_range_is_named_after_its_uid() {
        let mut new = object(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"uid": "u-1"}}));
        context(Some("ns"), |cx| Ranges.prepare(cx, &Operation::Create, &mut new));
        assert_eq!(new.name(), "u-1");
    }
}
