//! ValidatingAdmissionPolicy: expressions that must hold for what is to be stored.

use std::collections::HashSet;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use schema::cel::Type;
use serde_json::{Value, json};

use super::{expressions, policy, static_name};
use crate::admission::dynamic::environment::{Compiler, Options};
use crate::admission::dynamic::policies::{ANNOTATION, WITHOUT_AUTHORIZER};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::conditions::conditions;
use crate::resources::validation::names::{is_dns1123_subdomain, is_qualified_name};
use crate::resources::validation::{At, meta};

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const MAX_ANNOTATIONS: usize = 20;
const MAX_EXPRESSION: usize = 5 * 1024;
const NOTHING: &str = "validations or auditAnnotations must contain at least one item";

pub(crate) fn resource() -> Resource {
    Resource::of::<ValidatingAdmissionPolicy>()
        .categories(&["api-extensions"])
        .strategy(Policies)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct Policies;

impl Strategy for Policies {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if let Operation::UpdateStatus { .. } = op {
            status(&At::root(new, "status"), &mut errors);
            return errors;
        }
        let spec = At::root(new, "spec");
        let (compiler, declared) = expressions::compiler(&spec);
        policy::head(op, &spec, &compiler, &mut errors);
        policy::variables(&spec.child("variables"), declared, &mut errors);
        let (validations, annotations) = (spec.child("validations"), spec.child("auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            errors.extend([validations.required(NOTHING), annotations.required(NOTHING)]);
        }
        for one in validations.items() {
            validation(&one, &compiler, &mut errors);
        }
        audit(new.name(), &annotations, &compiler, &mut errors);
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        static_name(new)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn validation(at: &At<'_>, compiler: &Compiler, errors: &mut FieldErrors) {
    let expression = at.child("expression");
    if expression.str().trim().is_empty() {
        errors.push(expression.required("expression is not specified"));
    } else {
        expressions::check(&expression, compiler, Options::default(), &[Type::Bool], errors);
    }
    let (computed, fixed) = (at.child("messageExpression"), at.child("message"));
    for message in [&computed, &fixed] {
        if !message.is_empty() && message.str().trim().is_empty() {
            errors.push(message.invalid("must be non-empty if specified"));
        }
    }
    if !computed.str().trim().is_empty() {
        expressions::check(&computed, compiler, WITHOUT_AUTHORIZER, &[Type::String], errors);
    }
    if fixed.str().trim().contains(['\n', '\r']) {
        errors.push(fixed.invalid("must not contain line breaks"));
    }
    at.child("reason").one_of(errors, REASONS);
}

/// Keys become `POLICY/KEY` in the audit log.
fn audit(policy: &str, at: &At<'_>, compiler: &Compiler, errors: &mut FieldErrors) {
    if at.len() > MAX_ANNOTATIONS {
        errors.push(at.invalid(format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations")));
    }
    let mut known = HashSet::new();
    for annotation in at.items() {
        let (key, value) = (annotation.child("key"), annotation.child("valueExpression"));
        let full = format!("{policy}/{}", key.str());
        let messages = is_qualified_name(&full).into_iter();
        match policy {
            "" => errors.push(key.invalid("requires metadata.name be non-empty")),
            _ => errors.extend(messages.map(|message| key.invalid_as(full.as_str(), message))),
        }
        match value.str().trim().len() {
            0 => errors.push(value.required("valueExpression is not specified")),
            length if length > MAX_EXPRESSION => {
                errors.push(value.required(&format!("must not exceed {MAX_EXPRESSION} bytes in length")));
            }
            _ => expressions::check(&value, compiler, WITHOUT_AUTHORIZER, &ANNOTATION, errors),
        }
        if !known.insert(key.str()) {
            errors.push(key.duplicate());
        }
    }
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for warning in at.child("typeChecking").child("expressionWarnings").items() {
        let (text, field) = (warning.child("warning"), warning.child("fieldRef"));
        if text.is_empty() {
            errors.push(text.required(""));
        }
        if field.str().trim().is_empty() {
            errors.push(field.required(""));
        }
    }
    conditions(&at.child("conditions"), errors);
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Validations|integer||How many validations the policy has.",
        "ParamKind|string||The kind of its parameters.",
        "Age|string",
    ])
}

fn cells(policy: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        policy.name().into(),
        policy.list_at("spec.validations").len().into(),
        policy::param_kind_cell(policy),
        age(policy.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let policy = |spec: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "limits.example.com", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let rule =
        json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
    let good = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": {"resourceRules": [rule]},
        "variables": [{"name": "n", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "variables.n <= 5", "reason": "Invalid"}]});
    let bad = json!({"failurePolicy": "Shrug", "paramKind": {"apiVersion": "a/b/c", "kind": "X_"},
        "matchConstraints": {"resourceRules": [{"operations": [], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
            "resourceNames": ["a", "a"]}]},
        "variables": [{"name": "in", "expression": ""}],
        "validations": [{"expression": " ", "message": "a\nb", "messageExpression": " ", "reason": "Because"}],
        "auditAnnotations": [{"key": "k", "valueExpression": ""}, {"key": "k", "valueExpression": "'v'"}]});
    crate::resources::testing::Cases {
        valid: vec![policy(good.clone())],
        invalid: vec![
            (
                policy(json!({})),
                vec![
                    "spec.matchConstraints: Required value",
                    "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                    "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
                ],
            ),
            (
                policy(bad),
                vec![
                    "spec.failurePolicy: Unsupported value: \"Shrug\": supported values: \"Fail\", \"Ignore\"",
                    "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                    "spec.paramKind.kind: Invalid value: \"X_\": may have mixed case, but should otherwise match: a DNS-1035 \
                     label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and \
                     end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                     '[a-z]([-a-z0-9]*[a-z0-9])?')",
                    "spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: \"a\"",
                    "spec.matchConstraints.resourceRules[0].operations: Required value",
                    "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier",
                    "spec.variables[0].expression: Required value: expression is not specified",
                    "spec.validations[0].expression: Required value: expression is not specified",
                    "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                    "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
                    "spec.validations[0].reason: Unsupported value: \"Because\": supported values: \"Forbidden\", \"Invalid\", \
                     \"RequestEntityTooLarge\"",
                    "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
                    "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
                ],
            ),
        ],
        table: vec![policy(good), policy(json!({}))],
    }
}
