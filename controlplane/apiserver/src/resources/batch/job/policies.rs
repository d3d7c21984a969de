//! A Job's policies: which failures of pods count, and which completions are enough.

use std::collections::BTreeSet;

use api::{FieldError, FieldErrors};
use serde_json::Value;

use super::indexes;
use crate::resources::validation::At;
use crate::resources::validation::names::is_qualified_name;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
const MAX_INDEXES: usize = 64 * 1024;

/// `podFailurePolicy` of the spec at `spec`.
pub(super) fn failure(spec: &At<'_>, errors: &mut FieldErrors) {
    let rules = spec.child("podFailurePolicy").child("rules");
    too_many(&rules, MAX_RULES, errors);
    let pod = spec.child("template").child("spec");
    let containers = ["containers", "initContainers"]
        .map(|list| pod.child(list).items())
        .concat();
    let names: BTreeSet<&str> = containers
        .iter()
        .map(|container| container.child("name").str())
        .collect();
    let per_index = spec.child("backoffLimitPerIndex").is_set();
    for rule in rules.items() {
        action(&rule.child("action"), per_index, errors);
        let (codes, conditions) = (rule.child("onExitCodes"), rule.child("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &names, errors);
        }
        pod_conditions(&conditions, errors);
        match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => {
                errors.push(rule.invalid_unshown("specifying both OnExitCodes and OnPodConditions is not supported"));
            }
            (false, false) => {
                errors.push(rule.invalid_unshown("specifying one of OnExitCodes and OnPodConditions is required"));
            }
            _ => {}
        }
    }
}

fn action(at: &At<'_>, per_index: bool, errors: &mut FieldErrors) {
    let per_index_only = at.str() == "FailIndex" && !per_index;
    if per_index_only {
        return errors.push(at.invalid("requires the backoffLimitPerIndex to be set"));
    }
    one_of(at, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
}

/// Required, the values there are being named, and one of them.
fn one_of(at: &At<'_>, supported: &[&str], errors: &mut FieldErrors) {
    if at.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        return errors.push(at.required(&format!("valid values: [{}]", quoted.join(" "))));
    }
    at.one_of(errors, supported);
}

fn exit_codes(at: &At<'_>, containers: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let operator = at.child("operator");
    one_of(&operator, &["In", "NotIn"], errors);
    let container = at.child("containerName");
    if container.is_set() && !containers.contains(container.str()) {
        errors.push(container.invalid("must be one of the container or initContainer names in the pod template"));
    }
    let values = at.child("values");
    if values.is_empty() {
        let shown = values.value().cloned().unwrap_or(Value::Null);
        errors.push(values.invalid_as(shown, "at least one value is required"));
    }
    too_many(&values, MAX_EXIT_CODES, errors);
    let mut seen = BTreeSet::new();
    let mut previous = i64::MIN;
    let mut ordered = true;
    for value in values.items() {
        let code = value.i64().unwrap_or_default();
        if operator.str() == "In" && code == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(value.duplicate());
        }
        ordered &= previous <= code;
        previous = code;
    }
    if !ordered {
        errors.push(values.invalid("must be ordered"));
    }
}

fn pod_conditions(at: &At<'_>, errors: &mut FieldErrors) {
    too_many(at, MAX_CONDITIONS, errors);
    for pattern in at.items() {
        pattern.child("type").check(errors, is_qualified_name);
        one_of(&pattern.child("status"), &["False", "True", "Unknown"], errors);
    }
}

/// `successPolicy` of the spec at `spec`, which is that of an indexed Job.
pub(super) fn success(spec: &At<'_>, errors: &mut FieldErrors) {
    let rules = spec.child("successPolicy").child("rules");
    if rules.is_empty() {
        errors.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
    }
    too_many(&rules, MAX_RULES, errors);
    let completions = spec.child("completions").i64().unwrap_or_default();
    for rule in rules.items() {
        enough(&rule, completions, errors);
    }
}

fn enough(rule: &At<'_>, completions: i64, errors: &mut FieldErrors) {
    let (list, number) = (rule.child("succeededIndexes"), rule.child("succeededCount"));
    if !list.is_set() && !number.is_set() {
        errors.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
    }
    if list.str().len() > MAX_INDEXES {
        errors.push(FieldError::too_long(list.path(), MAX_INDEXES));
    }
    let named = indexes::count(list.str(), completions);
    if let Err(problem) = &named {
        errors.push(list.invalid(format!("error parsing succeededIndexes: {problem}")));
    }
    number.non_negative(errors);
    let Some(wanted) = number.i64() else { return };
    if wanted > completions {
        errors.push(number.invalid(format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        )));
    }
    let named = named.unwrap_or_default();
    if list.is_set() && wanted > named {
        errors.push(number.invalid(format!(
            "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
        )));
    }
}

fn too_many(at: &At<'_>, max: usize, errors: &mut FieldErrors) {
    if at.len() > max {
        errors.push(FieldError::too_many(at.path(), at.len(), max));
    }
}
