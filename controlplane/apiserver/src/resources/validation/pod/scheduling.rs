//! Where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::HashSet;

use api::FieldErrors;

use super::super::At;
use super::super::labels::{self, label_name};
use super::super::names::{is_dns1123_label, is_label_value, is_qualified_name};

const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `affinity` of a pod's spec.
pub(super) fn affinity(at: &At<'_>, errors: &mut FieldErrors) {
    node_affinity(&at.child("nodeAffinity"), errors);
    for kind in ["podAffinity", "podAntiAffinity"] {
        for term in at
            .child(kind)
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            pod_affinity_term(&term, errors);
        }
        for preference in at
            .child(kind)
            .child("preferredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            weight(&preference, errors);
            pod_affinity_term(&preference.child("podAffinityTerm"), errors);
        }
    }
}

fn node_affinity(at: &At<'_>, errors: &mut FieldErrors) {
    let required = at.child("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector_terms(&required, errors);
    }
    for preference in at.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preference, errors);
        node_selector_term(&preference.child("preference"), errors);
    }
}

fn weight(preference: &At<'_>, errors: &mut FieldErrors) {
    let weight = preference.child("weight");
    if !(1..=100).contains(&weight.i64().unwrap_or_default()) {
        errors.push(weight.invalid_as(weight.i64().unwrap_or_default(), "must be in the range 1-100"));
    }
}

/// A `NodeSelector`.
pub(crate) fn node_selector_terms(at: &At<'_>, errors: &mut FieldErrors) {
    let terms = at.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_selector_term(&term, errors);
    }
}

fn node_selector_term(term: &At<'_>, errors: &mut FieldErrors) {
    for requirement in term.child("matchExpressions").items() {
        node_requirement(&requirement, errors);
        let key = requirement.child("key");
        label_name(&key, key.str(), errors);
    }
    for requirement in term.child("matchFields").items() {
        let (key, operator, values) = (
            requirement.child("key"),
            requirement.child("operator"),
            requirement.child("values"),
        );
        if !["In", "NotIn"].contains(&operator.str()) {
            errors.push(operator.invalid("not a valid selector operator"));
        } else if values.len() != 1 {
            errors.push(
                values.required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector"),
            );
        }
        if key.str() != "metadata.name" {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn node_requirement(at: &At<'_>, errors: &mut FieldErrors) {
    let values = at.child("values");
    match at.child("operator").str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.push(at.child("operator").invalid("not a valid selector operator")),
    }
}

fn pod_affinity_term(term: &At<'_>, errors: &mut FieldErrors) {
    labels::selector(&term.child("labelSelector"), errors);
    labels::selector(&term.child("namespaceSelector"), errors);
    for namespace in term.child("namespaces").items() {
        namespace.check(errors, is_dns1123_label);
    }
    let key = term.child("topologyKey");
    if key.is_empty() {
        errors.push(key.required("can not be empty"));
    }
    label_name(&key, key.str(), errors);
}

/// `tolerations` of a pod's spec.
pub(crate) fn tolerations(at: &At<'_>, errors: &mut FieldErrors) {
    for toleration in at.items() {
        let field = |name: &str| toleration.child(name);
        let (key, operator, value, effect) = (field("key"), field("operator"), field("value"), field("effect"));
        if !key.is_empty() {
            label_name(&key, key.str(), errors);
        } else if operator.str() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.invalid(detail));
        }
        if field("tolerationSeconds").is_set() && effect.str() != "NoExecute" {
            errors.push(effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        match operator.str() {
            "" | "Equal" => {
                let bad = is_label_value(value.str());
                if !bad.is_empty() {
                    errors.push(operator.invalid_as(value.str(), bad.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let shown = toleration.value().cloned().unwrap_or_default();
                errors.push(operator.invalid_as(shown, "value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(&effect, errors);
        }
    }
}

/// What a taint does to pods that do not tolerate it.
pub(crate) fn taint_effect(at: &At<'_>, errors: &mut FieldErrors) {
    at.require_one_of(errors, TAINT_EFFECTS);
}

/// `schedulingGates` of a pod's spec.
pub(super) fn gates(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut taken = HashSet::new();
    let gates = spec.child("schedulingGates");
    for gate in gates.items() {
        let name = gate.child("name").str();
        errors.extend(
            is_qualified_name(name)
                .into_iter()
                .map(|message| gate.invalid_as(name, message)),
        );
        if !taken.insert(name) {
            errors.push(gate.duplicate_as(name));
        }
    }
    if !gates.is_empty() && !spec.child("nodeName").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(spec.child("nodeName").forbidden(detail));
    }
}

/// `topologySpreadConstraints` of a pod's spec.
pub(super) fn topology_spread(at: &At<'_>, errors: &mut FieldErrors) {
    let mut taken = HashSet::new();
    for constraint in at.items() {
        let field = |name: &str| constraint.child(name);
        let (skew, key, action) = (field("maxSkew"), field("topologyKey"), field("whenUnsatisfiable"));
        if skew.i64().unwrap_or_default() <= 0 {
            errors.push(skew.invalid_as(skew.i64().unwrap_or_default(), "must be greater than zero"));
        }
        if key.is_empty() {
            errors.push(key.required("can not be empty"));
        } else {
            label_name(&key, key.str(), errors);
        }
        action.require_one_of(errors, &["DoNotSchedule", "ScheduleAnyway"]);
        if !taken.insert((key.str(), action.str())) {
            errors.push(constraint.duplicate_as(format!("{{{}, {}}}", key.str(), action.str())));
        }
        let domains = field("minDomains");
        if domains.i64().is_some_and(|n| n <= 0) {
            errors.push(domains.invalid("must be greater than zero"));
        }
        if domains.is_set() && action.str() != "DoNotSchedule" {
            errors.push(domains.invalid(format!(
                "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                action.str()
            )));
        }
        field("nodeAffinityPolicy").one_of(errors, &["Honor", "Ignore"]);
        field("nodeTaintsPolicy").one_of(errors, &["Honor", "Ignore"]);
        labels::selector(&field("labelSelector"), errors);
    }
}
