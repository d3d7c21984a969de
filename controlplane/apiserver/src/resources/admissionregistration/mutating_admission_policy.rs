//! MutatingAdmissionPolicy: expressions that change what is to be stored.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object, Path};
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use super::{REINVOCATION_POLICIES, expressions, policy, static_name};
use crate::admission::dynamic::environment::Compiler;
use crate::admission::dynamic::policies::{WITH_MESSAGES, change_type};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

/// What is deleted cannot be changed.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
/// Ways to say a change, each with the field in which it stands.
const PATCHES: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
const PATCH_TYPES: &[&str] = &["ApplyConfiguration", "JSONPatch"];

pub(crate) fn resource() -> Resource {
    Resource::of::<MutatingAdmissionPolicy>()
        .categories(&["api-extensions"])
        .strategy(Policies)
        .printer(definitions(), cells)
        .generation()
        .build()
}

struct Policies;

impl Strategy for Policies {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        let (compiler, declared) = expressions::compiler(&spec);
        policy::head(op, &spec, &compiler, &mut errors);
        operations(&spec, &mut errors);
        policy::variables(&spec.child("variables"), declared, &mut errors);
        let mutations = spec.child("mutations");
        if mutations.is_empty() {
            errors.push(mutations.required("mutations must contain at least one item"));
        }
        for one in mutations.items() {
            mutation(&one, &compiler, &mut errors);
        }
        spec.child("reinvocationPolicy")
            .require_one_of(&mut errors, REINVOCATION_POLICIES);
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &Object) -> Vec<String> {
        static_name(new)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn operations(spec: &At<'_>, errors: &mut FieldErrors) {
    let path = Path::root("spec.matchConstraints.resourceRules.operations");
    let rules = spec.child("matchConstraints").child("resourceRules").items();
    let all = rules.iter().flat_map(|rule| rule.child("operations").items());
    let wrong = all.filter(|operation| !OPERATIONS.contains(&operation.str()));
    errors.extend(wrong.map(|operation| FieldError::not_supported(&path, operation.str(), OPERATIONS)));
}

fn mutation(at: &At<'_>, compiler: &Compiler, errors: &mut FieldErrors) {
    let kind = at.child("patchType");
    kind.require_one_of(errors, PATCH_TYPES);
    let Some((wanted, _)) = PATCHES.iter().find(|(name, _)| *name == kind.str()) else {
        return;
    };
    for (name, field) in PATCHES {
        let patch = at.child(field);
        let expression = patch.child("expression");
        match (name == *wanted, patch.is_set()) {
            (true, false) => errors.push(patch.required(&format!("must be specified when patchType is {wanted}"))),
            (true, true) if expression.str().trim().is_empty() => errors.push(expression.required("")),
            (true, true) => {
                let wanted = [change_type(name == "JSONPatch")];
                expressions::check(&expression, compiler, WITH_MESSAGES, &wanted, errors);
            }
            (false, true) => errors.push(patch.invalid_as(
                format!("{{{field}}}"),
                format!("must not be specified when patchType is {wanted}"),
            )),
            _ => {}
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Mutations|integer||How many mutations the policy has.",
        "ParamKind|string||The kind of its parameters.",
        "Age|string",
    ])
}

fn cells(policy: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        policy.name().into(),
        policy.list_at("spec.mutations").len().into(),
        policy::param_kind_cell(policy),
        age(policy.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let policy = |spec: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "labels", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let matching = |operation: &str| json!({"resourceRules": [{"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    let apply = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
    let good = json!({"matchConstraints": matching("CREATE"), "mutations": [apply], "reinvocationPolicy": "Never"});
    crate::resources::testing::Cases {
        valid: vec![policy(good.clone())],
        invalid: vec![
            (
                policy(json!({})),
                vec![
                    "spec.matchConstraints: Required value",
                    "spec.mutations: Required value: mutations must contain at least one item",
                    "spec.reinvocationPolicy: Required value",
                ],
            ),
            (
                policy(
                    json!({"matchConstraints": matching("DELETE"), "reinvocationPolicy": "Often",
                    "mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}},
                        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": " "}}, {"patchType": "Sed"}]}),
                ),
                vec![
                    "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                     \"CONNECT\", \"CREATE\", \"UPDATE\"",
                    "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when \
                     patchType is JSONPatch",
                    "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                    "spec.mutations[1].applyConfiguration.expression: Required value",
                    "spec.mutations[2].patchType: Unsupported value: \"Sed\": supported values: \"ApplyConfiguration\", \
                     \"JSONPatch\"",
                    "spec.reinvocationPolicy: Unsupported value: \"Often\": supported values: \"IfNeeded\", \"Never\"",
                ],
            ),
        ],
        table: vec![policy(good)],
    }
}
