//! One device as its driver offers it: what it is, what it has, and where it can be used.

use std::collections::HashSet;

use api::{FieldError, FieldErrors};
use serde_json::Value;

use super::lists::{list, map, set};
use super::{capacity, claim, names};
use crate::resources::validation::labels::label_name;
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain, is_label_value};
use crate::resources::validation::{At, pod};

const MAX_ATTRIBUTES: usize = 32;
const MAX_VALUES: usize = 48;
const MAX_VALUE: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_BINDING_CONDITIONS: usize = 4;
pub(super) const MAX_COUNTERS: usize = 32;
const MAX_CONSUMED_SETS: usize = 2;
/// The types a value can have, each alone or as a list.
const VALUES: [&str; 4] = ["bool", "int", "string", "version"];
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// The rules over a device; `old` is what is stored of it, `per_device` whether each device says where it is.
pub(super) fn rules(at: &At<'_>, old: Option<&At<'_>>, per_device: bool, errors: &mut FieldErrors) {
    at.child("name").check(errors, is_dns1123_label);
    let (attributes, capacities) = (at.child("attributes"), at.child("capacity"));
    let total = attributes.len() + capacities.len();
    if total > MAX_ATTRIBUTES {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.push(at.invalid_as(total, detail));
    }
    let values: usize = attributes
        .entries()
        .iter()
        .map(|(_, attribute)| value_count(attribute))
        .sum();
    if values > MAX_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MAX_VALUES}");
        errors.push(at.invalid_as(values, detail));
    }
    map(&attributes, usize::MAX, errors, names::qualified, attribute);
    let shared = at.child("allowMultipleAllocations").bool();
    map(&capacities, usize::MAX, errors, names::qualified, |at, errors| {
        capacity::policy(at, shared, errors)
    });
    let taints = at.child("taints");
    if old.is_none_or(|old| old.child("taints").value() != taints.value()) {
        list(&taints, MAX_TAINTS, errors, taint);
    }
    let counter_set = |at: &At<'_>| at.child("counterSet").str().to_owned();
    set(
        &at.child("consumesCounters"),
        MAX_CONSUMED_SETS,
        counter_set,
        errors,
        |at, errors| {
            at.child("counterSet").require(errors, is_dns1123_label);
            counters(at, errors);
        },
    );
    place(at, per_device, errors);
    binding_conditions(at, errors);
}

/// `counters` of a set, or of what is consumed of one.
pub(super) fn counters(at: &At<'_>, errors: &mut FieldErrors) {
    let counters = at.child("counters");
    if counters.is_empty() {
        return errors.push(counters.required(""));
    }
    map(&counters, MAX_COUNTERS, errors, names::label_key, |_, _| {});
}

fn value_count(attribute: &At<'_>) -> usize {
    let listed: usize = LISTS.iter().map(|field| attribute.child(field).len()).sum();
    listed.max(1)
}

fn attribute(at: &At<'_>, errors: &mut FieldErrors) {
    for (single, listed) in VALUES.iter().zip(LISTS) {
        let (one, many) = (at.child(single), at.child(listed));
        let all = one.is_set().then_some(one).into_iter().chain(many.items());
        match *single {
            "string" => all.for_each(|at| length(&at, errors)),
            "version" => all.for_each(|at| version(&at, errors)),
            _ => {}
        }
        if many.is_set() && many.is_empty() {
            errors.push(many.invalid("must not be empty if specified"));
        }
    }
    match VALUES
        .iter()
        .chain(&LISTS)
        .filter(|field| at.child(field).is_set())
        .count()
    {
        0 => errors.push(at.invalid_as("", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(at.invalid("exactly one value must be specified")),
    }
}

fn length(at: &At<'_>, errors: &mut FieldErrors) {
    if at.str().len() > MAX_VALUE {
        errors.push(FieldError::too_long(at.path(), MAX_VALUE));
    }
}

fn version(at: &At<'_>, errors: &mut FieldErrors) {
    if !is_semantic_version(at.str()) {
        errors.push(at.invalid("must be a string compatible with semver.org spec 2.0.0"));
    }
    length(at, errors);
}

/// `1.2.3-alpha.1+build.5`, as Semantic Versioning 2.0.0 has it.
fn is_semantic_version(text: &str) -> bool {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let release = |part: &str| word(part) && (number(part) || !part.bytes().all(|b| b.is_ascii_digit()));
    let (rest, build) = text
        .split_once('+')
        .map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest
        .split_once('-')
        .map_or((rest, None), |(core, pre)| (core, Some(pre)));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(release))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn taint(at: &At<'_>, errors: &mut FieldErrors) {
    let key = at.child("key");
    label_name(&key, key.str(), errors);
    at.child("value").check_if_set(errors, is_label_value);
    at.child("effect").require_one_of(errors, claim::EFFECTS);
}

/// Where a device can be used: said by the slice, or else by each device.
fn place(at: &At<'_>, per_device: bool, errors: &mut FieldErrors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set \
                       to true in the ResourceSlice spec";
    let fields = ["nodeName", "nodeSelector", "allNodes"].map(|field| at.child(field));
    if !per_device {
        if fields.iter().any(At::is_set) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in \
                          the ResourceSlice spec";
            errors.push(at.invalid_as(Value::Null, detail));
        }
        return;
    }
    let [name, selector, all] = &fields;
    let mut given = Vec::new();
    if name.is_set() && name.is_empty() {
        errors.push(name.invalid("must not be empty"));
    } else if name.is_set() {
        given.push("`nodeName`");
        name.check(errors, is_dns1123_subdomain);
    }
    if selector.is_set() {
        given.push("`nodeSelector`");
        pod::node_selector_terms(selector, errors);
    }
    if all.bool() {
        given.push("`allNodes`");
    } else if all.is_set() {
        errors.push(all.invalid("must be either unset or set to true"));
    }
    match given.len() {
        0 => errors.push(at.required(ONE)),
        1 => {}
        _ => errors.push(at.invalid_as(format!("{{{}}}", given.join(", ")), ONE)),
    }
}

/// Conditions for which binding a pod to the device's node waits, and those that end the wait.
pub(super) fn binding_conditions(at: &At<'_>, errors: &mut FieldErrors) {
    let (wait, fail) = (at.child("bindingConditions"), at.child("bindingFailureConditions"));
    for conditions in [&wait, &fail] {
        list(conditions, MAX_BINDING_CONDITIONS, errors, |at, errors| {
            label_name(at, at.str(), errors)
        });
    }
    let waited: Vec<&str> = wait.items().iter().map(At::str).collect();
    for (conditions, overlap) in [(&wait, false), (&fail, true)] {
        let mut known = HashSet::new();
        for condition in conditions.items() {
            if !known.insert(condition.str()) {
                errors.push(condition.duplicate());
            }
            if overlap && waited.contains(&condition.str()) {
                errors.push(condition.invalid("bindingFailureConditions must not overlap with bindingConditions"));
            }
        }
    }
    let shown = |at: &At<'_>| at.value().cloned().unwrap_or_default();
    if wait.is_empty() && !fail.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        errors.push(wait.invalid_as(shown(&wait), detail));
    }
    if fail.is_empty() && !wait.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        errors.push(fail.invalid_as(shown(&fail), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_semantic_versioning() {
        let good = [
            "0.0.0",
            "1.2.3",
            "1.2.3-alpha.1",
            "1.2.3-0a.x-y",
            "1.2.3+001",
            "1.2.3-a+b.c",
        ];
        let bad = [
            "",
            "1",
            "1.2",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+",
            "1.2.3-a..b",
            "v1.2.3",
        ];
        for text in good {
            assert!(is_semantic_version(text), "{text}");
        }
        for text in bad {
            assert!(!is_semantic_version(text), "{text}");
        }
    }
}
