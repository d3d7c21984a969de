//! Which requests a webhook or policy is about: operations, groups, versions and resources, and whom it leaves out.

use std::collections::HashSet;

use api::FieldErrors;

use super::MATCH_POLICIES;
use crate::resources::validation::labels;
use crate::resources::validation::{At, names};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// A `MatchResources`, selectors and rules.
pub(super) fn match_resources(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    at.child("matchPolicy").require_one_of(errors, MATCH_POLICIES);
    for field in ["namespaceSelector", "objectSelector"] {
        let selector = at.child(field);
        if selector.is_set() {
            labels::selector(&selector, errors);
        } else {
            errors.push(selector.required(""));
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for rule in at.child(field).items() {
            named(&rule, errors);
        }
    }
}

/// A `NamedRuleWithOperations`.
fn named(at: &At<'_>, errors: &mut FieldErrors) {
    let mut known = HashSet::new();
    for name in at.child("resourceNames").items() {
        name.check(errors, names::path_segment);
        if !known.insert(name.str()) {
            errors.push(name.duplicate());
        }
    }
    with_operations(at, errors);
}

/// A `RuleWithOperations`.
pub(super) fn with_operations(at: &At<'_>, errors: &mut FieldErrors) {
    let operations = at.child("operations");
    all_or_some(&operations, "operations", errors);
    for operation in operations.items() {
        operation.one_of(errors, OPERATIONS);
    }
    all_or_some(&at.child("apiGroups"), "API groups", errors);
    let versions = at.child("apiVersions");
    all_or_some(&versions, "API versions", errors);
    let unnamed = versions.items().into_iter().filter(At::is_empty);
    errors.extend(unnamed.map(|version| version.required("")));
    resources(&at.child("resources"), errors);
    at.child("scope").one_of(errors, SCOPES);
}

/// At least one, and `*` only alone.
fn all_or_some(at: &At<'_>, what: &str, errors: &mut FieldErrors) {
    if at.is_empty() {
        errors.push(at.required(""));
    } else if at.len() > 1 && at.items().iter().any(|item| item.str() == "*") {
        errors.push(at.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

/// Resources and subresources, none of them said twice by way of a wildcard.
fn resources(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
    let (mut every_part, mut every_resource) = (HashSet::new(), HashSet::new());
    let (mut all, mut single, mut plain) = (false, false, false);
    for item in at.items() {
        let text = item.str();
        if text.is_empty() {
            errors.push(item.required(""));
            continue;
        }
        all |= text == "*/*";
        single |= text == "*";
        let Some((resource, part)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if every_part.contains(resource) {
            errors.push(item.invalid(format!("if '{resource}/*' is present, must not specify {text}")));
        }
        if every_resource.contains(part) {
            errors.push(item.invalid(format!("if '*/{part}' is present, must not specify {text}")));
        }
        if part == "*" {
            every_part.insert(resource);
        }
        if resource == "*" {
            every_resource.insert(part);
        }
    }
    if at.len() > 1 && all {
        errors.push(at.invalid("if '*/*' is present, must not specify other resources"));
    }
    if single && plain {
        errors.push(at.invalid("if '*' is present, must not specify other resources without subresources"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resources::testing::{messages, object};

    fn found(resources: Value) -> Vec<String> {
        let rule = object(
            json!({"rule": {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}}),
        );
        let mut errors = FieldErrors::new();
        with_operations(&At::root(&rule, "rule"), &mut errors);
        messages(errors)
    }

    #[test]
    fn a_wildcard_leaves_nothing_to_add() {
        let at = |i: usize, text: &str, why: &str| format!("rule.resources[{i}]: Invalid value: \"{text}\": {why}");
        let cases = [
            (json!(["pods", "pods/status"]), vec![]),
            (json!(["*", "*/*"]), vec!["rule.resources: Invalid value: [\"*\",\"*/*\"]: if '*/*' is present, must not specify \
              other resources".to_owned()]),
            (
                json!(["pods/*", "pods/status"]),
                vec![at(1, "pods/status", "if 'pods/*' is present, must not specify pods/status")],
            ),
            (
                json!(["*/scale", "pods/scale"]),
                vec![at(1, "pods/scale", "if '*/scale' is present, must not specify pods/scale")],
            ),
            (
                json!(["*", "pods"]),
                vec![
                    "rule.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources \
                     without subresources"
                        .to_owned(),
                ],
            ),
            (json!([""]), vec!["rule.resources[0]: Required value".to_owned()]),
        ];
        for (resources, expected) in cases {
            assert_eq!(found(resources.clone()), expected, "{resources}");
        }
    }
}
