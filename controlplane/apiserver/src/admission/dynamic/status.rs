//! The status of validating policies: what is doubtful about their expressions, given the kinds they are about.

use std::sync::Arc;

use api::{GroupVersion, Object};
use schema::cel::{Type, declare};
use serde_json::{Value, json};
use store::Write;

use super::environment::{Compiler, Known, Options, items, text};
use super::policies::extras;
use crate::registry::catalog::{Endpoint, Registry};
use crate::registry::{encode, key};
use crate::server::Shared;

/// Kinds that a policy is checked against, at most.
const MAX_KINDS: usize = 10;

/// Writes the status of the policies whose spec has not been looked at yet. Whoever is slower finds it done.
pub(crate) async fn settle(shared: &Shared, policies: &[Arc<Object>]) {
    for policy in policies {
        if policy.i64_at("status.observedGeneration") == Some(policy.generation()) {
            continue;
        }
        let Some(revision) = policy
            .resource_version()
            .and_then(|version| version.parse().ok())
            .map(store::Revision)
        else {
            continue;
        };
        let mut settled = (**policy).clone();
        let warnings = doubts(&shared.registry, policy);
        settled.set("status.observedGeneration", policy.generation());
        let checked = if warnings.is_empty() {
            json!({})
        } else {
            json!({"expressionWarnings": warnings})
        };
        settled.set("status.typeChecking", checked);
        let key = key(
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies",
            None,
            policy.name(),
        );
        let write = Write::update(key, encode::stored(&settled), revision);
        if let Err(error) = shared.backend.write(write).await {
            tracing::warn!(
                policy = policy.name(),
                error = &error as &dyn std::error::Error,
                "a policy's status could not be written"
            );
        }
    }
}

/// What is doubtful about a policy's expressions.
fn doubts(registry: &Registry, policy: &Object) -> Vec<Value> {
    let null = Value::Null;
    let spec = policy.at("spec").unwrap_or(&null);
    let params = params(registry, spec);
    let kinds: Vec<(String, Compiler)> = kinds(registry, spec)
        .into_iter()
        .map(|endpoint| {
            let served = endpoint.served();
            let name = format!("{}/{}, Kind={}", served.group, served.version, endpoint.resource().kind);
            let known = Known {
                object: declare(served.schema()),
                params: params.clone(),
            };
            (name, declared(spec, &known))
        })
        .collect();
    let mut warnings = Vec::new();
    for (nth, validation) in items(spec, "validations").enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, field);
            if source.is_empty() {
                continue;
            }
            let found = kinds.iter().filter_map(|(kind, compiler)| {
                let why = compiler.program(source, Options::default(), &[]).err()?;
                Some(format!("{kind}: {why}\n"))
            });
            let found: Vec<String> = found.collect();
            if !found.is_empty() {
                let field = format!("spec.validations[{nth}].{field}");
                warnings.push(json!({"fieldRef": field, "warning": found.join("\n")}));
            }
        }
    }
    warnings
}

/// What compiles a policy's expressions for one kind.
fn declared(spec: &Value, known: &Known) -> Compiler {
    let mut compiler = Compiler::of_policy(extras(spec), known);
    for variable in items(spec, "variables") {
        // A variable that is none is doubted where it is named.
        let _ = compiler.declare(text(variable, "name"), text(variable, "expression"));
    }
    compiler
}

/// The kinds that a policy names without wildcards.
fn kinds(registry: &Registry, spec: &Value) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    let constraints = spec.get("matchConstraints").unwrap_or(&Value::Null);
    for rule in items(constraints, "resourceRules") {
        for (group, version, resource) in named(rule) {
            let known = |endpoint: &Endpoint| {
                let served = endpoint.served();
                served.group == group && served.version == version && endpoint.resource().plural == resource
            };
            if found.len() < MAX_KINDS
                && !found.iter().any(known)
                && let Some(endpoint) = registry.endpoint(group, version, resource)
            {
                found.push(endpoint);
            }
        }
    }
    found.sort_by_key(|endpoint| {
        let served = endpoint.served();
        (served.api_version.to_string(), endpoint.resource().kind.to_string())
    });
    found
}

/// Every group, version and resource of a rule; none where one of them may be any.
fn named(rule: &Value) -> Vec<(&str, &str, &str)> {
    let texts = |field: &str| -> Vec<&str> {
        let all: Vec<&str> = items(rule, field).filter_map(Value::as_str).collect();
        if all.contains(&"*") { Vec::new() } else { all }
    };
    let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
    let resources = texts("resources")
        .into_iter()
        .filter(|resource| !resource.contains(['/', '*']));
    let resources: Vec<&str> = resources.collect();
    let mut out = Vec::new();
    for group in groups {
        for version in &versions {
            out.extend(resources.iter().map(|resource| (group, *version, *resource)));
        }
    }
    out
}

fn params(registry: &Registry, spec: &Value) -> Type {
    let kind = spec.get("paramKind").unwrap_or(&Value::Null);
    let Ok(version) = text(kind, "apiVersion").parse::<GroupVersion>() else {
        return Type::Dyn;
    };
    match registry.by_kind(&version.group, &version.version, text(kind, "kind")) {
        Some(endpoint) => declare(endpoint.served().schema()),
        None => Type::Dyn,
    }
}
