//! APIService: which server answers for a group and version, this one or another behind a Service.

use api::table::Column;
use api::time::{Timestamp, rfc3339};
use api::{FieldErrors, Object};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1035_label, is_dns1123_subdomain, path_segment, port};
use crate::resources::validation::{At, meta};

const STATUSES: &[&str] = &["True", "False", "Unknown"];

pub(crate) fn resource() -> Resource {
    Resource::of::<APIService>()
        .categories(&["api-extensions"])
        .strategy(Services)
        .printer(definitions(), cells)
        .status()
        .build()
}

struct Services;

impl Strategy for Services {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        let local = !At::root(new, "spec").child("service").is_set();
        keep_status_apart(op, new, || match local {
            true => json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": rfc3339(cx.now)}]}),
            false => json!({}),
        });
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, path_segment);
        if let Operation::UpdateStatus { .. } = op {
            for condition in At::root(new, "status").child("conditions").items() {
                condition.child("status").one_of(&mut errors, STATUSES);
            }
            return errors;
        }
        let spec = At::root(new, "spec");
        name(new, &spec, &mut errors);
        group_version(&spec, &mut errors);
        let service = spec.child("service");
        if service.is_set() {
            remote(&spec, &service, &mut errors);
        } else {
            local(&spec, &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// A group and version is registered under its own name only.
fn name(new: &Object, spec: &At<'_>, errors: &mut FieldErrors) {
    let wanted = format!("{}.{}", spec.child("version").str(), spec.child("group").str());
    if !new.name().is_empty() && path_segment(new.name()).is_empty() && new.name() != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(At::root(new, "metadata").child("name").invalid(detail));
    }
}

fn group_version(spec: &At<'_>, errors: &mut FieldErrors) {
    let (group, version) = (spec.child("group"), spec.child("version"));
    if group.is_empty() && version.str() != "v1" {
        errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    group.check_if_set(errors, is_dns1123_subdomain);
    version.check(errors, is_dns1035_label);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let number = spec.child(field);
        let given = number.i64().unwrap_or_default();
        if !(1..=max).contains(&given) {
            errors.push(number.invalid_as(given, format!("must be positive and less than {max}")));
        }
    }
}

fn local(spec: &At<'_>, errors: &mut FieldErrors) {
    let bundle = spec.child("caBundle");
    if !bundle.is_empty() {
        let bytes = STANDARD.decode(bundle.str()).map_or(0, |bytes| bytes.len());
        errors.push(bundle.invalid_as(format!("{bytes} bytes"), "local APIServices may not have a caBundle"));
    }
    let insecure = spec.child("insecureSkipTLSVerify");
    if insecure.bool() {
        errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
    }
}

fn remote(spec: &At<'_>, service: &At<'_>, errors: &mut FieldErrors) {
    for field in ["namespace", "name"] {
        let field = service.child(field);
        if field.is_empty() {
            errors.push(field.required(""));
        }
    }
    let number = service.child("port");
    let messages = port(number.i64().unwrap_or_default());
    if !messages.is_empty() {
        errors.push(number.invalid(format!("port is not valid: {}", messages.join(", "))));
    }
    let insecure = spec.child("insecureSkipTLSVerify");
    if insecure.bool() && !spec.child("caBundle").is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Service|string||The reference to the service that hosts this API endpoint.",
        "Available|string||Whether this service is available.",
        "Age|string",
    ])
}

fn cells(service: &Object, now: Timestamp) -> Vec<Value> {
    let part = |field: &str| service.str_at(&format!("spec.service.{field}")).unwrap_or_default();
    let place = match service.at("spec.service") {
        Some(_) => format!("{}/{}", part("namespace"), part("name")),
        None => "Local".to_owned(),
    };
    vec![
        service.name().into(),
        place.into(),
        available(service).into(),
        age(service.creation_timestamp(), now),
    ]
}

/// `True`, or what is known otherwise and why.
fn available(service: &Object) -> String {
    let text = |condition: &Value, field: &str| -> String {
        condition
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let conditions = service.list_at("status.conditions").iter();
    let Some(condition) = conditions.into_iter().find(|c| text(c, "type") == "Available") else {
        return "Unknown".to_owned();
    };
    match (text(condition, "status"), text(condition, "reason")) {
        (status, reason) if status == "True" || reason.is_empty() => status,
        (status, reason) => format!("{status} ({reason})"),
    }
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let service = |name: &str, spec: Value, status: Value| {
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status})
    };
    let spec = |more: Value| {
        let mut spec =
            json!({"group": "metrics.k8s.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100});
        let (map, more) = (spec.as_object_mut().expect("a map"), more.as_object().cloned());
        map.extend(more.unwrap_or_default());
        spec
    };
    let name = "v1.metrics.k8s.io";
    let remote = spec(json!({"service": {"namespace": "kube-system", "name": "metrics"}}));
    let broken = json!({"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]});
    crate::resources::testing::Cases {
        valid: vec![
            service(name, spec(json!({})), json!({})),
            service(name, remote.clone(), json!({})),
        ],
        invalid: vec![
            (
                service(
                    "metrics",
                    spec(
                        json!({"groupPriorityMinimum": 0, "versionPriority": 1001, "caBundle": "YWJj",
                    "insecureSkipTLSVerify": true}),
                    ),
                    json!({}),
                ),
                vec![
                    "metadata.name: Invalid value: \"metrics\": must be `spec.version+\".\"+spec.group`: \"v1.metrics.k8s.io\"",
                    "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
                    "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
                    "spec.caBundle: Invalid value: \"3 bytes\": local APIServices may not have a caBundle",
                    "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
                ],
            ),
            (
                service(
                    name,
                    spec(json!({"service": {"port": 0}, "caBundle": "YWJj", "insecureSkipTLSVerify": true})),
                    json!({}),
                ),
                vec![
                    "spec.service.namespace: Required value",
                    "spec.service.name: Required value",
                    "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                    "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
                ],
            ),
            (
                service("v2.", spec(json!({"group": "", "version": "v2"})), json!({})),
                vec!["spec.group: Required value: only v1 may have an empty group and it better be legacy kube"],
            ),
        ],
        table: vec![
            service(name, remote, broken),
            service(
                name,
                spec(json!({})),
                json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local"}]}),
            ),
        ],
    }
}
