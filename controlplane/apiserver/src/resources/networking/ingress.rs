//! Ingress: which hosts and paths lead to which Services.

use std::collections::BTreeSet;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use super::ingress_class::object_reference;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::{
    ip as is_ip, is_dns1123_label, is_dns1123_subdomain, is_port_name, wildcard_subdomain,
};
use crate::resources::validation::{At, addresses, meta};

const CLASS: &str = "kubernetes.io/ingress.class";
const SHOWN_HOSTS: usize = 3;

pub(crate) fn resource() -> Resource {
    Resource::of::<Ingress>()
        .short_names(&["ing"])
        .strategy(Ingresses)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct Ingresses;

impl Strategy for Ingresses {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({"loadBalancer": {}}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op {
            Operation::UpdateStatus { old } => status(old, new, &mut errors),
            Operation::Update { old } => spec(&At::root(new, "spec"), Tolerated::by(old), &mut errors),
            Operation::Create | Operation::Delete { .. } => {
                spec(&At::root(new, "spec"), Tolerated::default(), &mut errors);
                one_class(new, &mut errors);
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        match op {
            Operation::Create if new.annotation(CLASS).is_some() && new.at("spec.ingressClassName").is_none() => {
                vec![format!(
                    "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
                )]
            }
            Operation::UpdateStatus { .. } => {
                let points = points(new).items();
                points
                    .iter()
                    .filter_map(|point| addresses::ip_warning(&point.child("ip")))
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What a stored object may keep although it would not be let in today.
#[derive(Clone, Copy, Default)]
struct Tolerated {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Tolerated {
    fn by(old: &Object) -> Self {
        let spec = At::root(old, "spec");
        let bad_secret = |tls: &At<'_>| !secret_name(tls.child("secretName").str()).is_empty();
        let bad_rule = |rule: &At<'_>| {
            let mut errors = FieldErrors::new();
            http(&rule.child("http"), &mut errors);
            rule.child("host").str().contains('*') && !errors.is_empty()
        };
        Tolerated {
            secret_names: spec.child("tls").items().iter().any(bad_secret),
            wildcard_rules: spec.child("rules").items().iter().any(bad_rule),
        }
    }
}

fn spec(at: &At<'_>, tolerated: Tolerated, errors: &mut FieldErrors) {
    let (rules, default) = (at.child("rules"), at.child("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        let shown = rules.value().cloned().unwrap_or(Value::Null);
        errors.push(at.invalid_as(shown, "either `defaultBackend` or `rules` must be specified"));
    }
    if default.is_set() {
        backend(&default, errors);
    }
    for rule in rules.items() {
        let name = rule.child("host");
        if is_ip(name.str()).is_empty() {
            errors.push(name.invalid("must be a DNS name, not an IP address"));
        }
        if !name.is_empty() {
            host(&name, errors);
        }
        if !(name.str().contains('*') && tolerated.wildcard_rules) {
            http(&rule.child("http"), errors);
        }
    }
    for tls in at.child("tls").items() {
        tls.child("hosts").items().iter().for_each(|name| host(name, errors));
        if !tolerated.secret_names {
            tls.child("secretName").check(errors, secret_name);
        }
    }
    let class = at.child("ingressClassName");
    if class.is_set() {
        class.check(errors, is_dns1123_subdomain);
    }
}

fn secret_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    is_dns1123_subdomain(name)
}

fn host(at: &At<'_>, errors: &mut FieldErrors) {
    let rule = match at.str().contains('*') {
        true => wildcard_subdomain,
        false => is_dns1123_subdomain,
    };
    at.check(errors, rule);
}

fn http(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let paths = at.child("paths");
    if paths.is_empty() {
        errors.push(paths.required(""));
    }
    for path in paths.items() {
        path_rule(&path, errors);
    }
}

fn path_rule(at: &At<'_>, errors: &mut FieldErrors) {
    let (kind, path) = (at.child("pathType"), at.child("path"));
    if !kind.is_set() {
        return errors.push(kind.required("pathType must be specified"));
    }
    let absolute = path.str().starts_with('/');
    match kind.str() {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.push(path.invalid("must be an absolute path"));
            }
            plain_path(&path, errors);
        }
        "ImplementationSpecific" if !absolute && !path.is_empty() => {
            errors.push(path.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&at.child("backend"), errors);
}

/// A path that means one thing to everybody who reads it.
fn plain_path(at: &At<'_>, errors: &mut FieldErrors) {
    for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
        if at.str().contains(sequence) {
            errors.push(at.invalid(format!("must not contain '{sequence}'")));
        }
    }
    for end in ["/..", "/."] {
        if at.str().ends_with(end) {
            errors.push(at.invalid(format!("cannot end with '{end}'")));
        }
    }
}

fn backend(at: &At<'_>, errors: &mut FieldErrors) {
    let (service, resource) = (at.child("service"), at.child("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.push(at.invalid_as("", "cannot set both resource and service backends")),
        (false, true) => object_reference(&resource, errors),
        (true, false) => service_backend(at, &service, errors),
        (false, false) => errors.push(at.invalid_as("", "resource or service backend is required")),
    }
}

fn service_backend(at: &At<'_>, service: &At<'_>, errors: &mut FieldErrors) {
    service.child("name").require(errors, is_dns1123_label);
    let (name, number) = (
        service.child("port").child("name"),
        service.child("port").child("number"),
    );
    let numbered = number.i64().is_some_and(|number| number != 0);
    match (!name.is_empty(), numbered) {
        (true, true) => errors.push(at.invalid_as("", "cannot set both port name & port number")),
        (true, false) => name.check(errors, is_port_name),
        (false, true) => number.within(errors, 1, 65535),
        (false, false) => errors.push(at.required("port name or number is required")),
    }
}

/// The class may be named in the old way and in the new, but not twice differently.
fn one_class(new: &Object, errors: &mut FieldErrors) {
    let (old_way, new_way) = (new.annotation(CLASS), new.str_at("spec.ingressClassName"));
    if let (Some(old_way), Some(new_way)) = (old_way, new_way)
        && old_way != new_way
    {
        let path = api::field::Path::root("annotations").child(CLASS);
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(api::FieldError::invalid(&path, old_way, detail));
    }
}

fn points(ingress: &Object) -> At<'_> {
    At::root(ingress, "status").child("loadBalancer").child("ingress")
}

fn status(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let before = points(old).items();
    let known: BTreeSet<&str> = before.iter().map(|point| point.child("ip").str()).collect();
    for point in points(new).items() {
        let (ip, name) = (point.child("ip"), point.child("hostname"));
        if !known.contains(ip.str()) {
            ip.check_if_set(errors, addresses::ip);
        }
        name.check_if_set(errors, is_dns1123_subdomain);
        if is_ip(name.str()).is_empty() {
            errors.push(name.invalid("must be a DNS name, not an IP address"));
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Class|string||The name of the IngressClass whose controller serves it.",
        "Hosts|string||The hosts that requests are for.",
        "Address|string||Where requests come in.",
        "Ports|string||The ports that are open.",
        "Age|string",
    ])
}

fn cells(ingress: &Object, now: Timestamp) -> Vec<Value> {
    let ports = match ingress.list_at("spec.tls").is_empty() {
        true => "80",
        false => "80, 443",
    };
    vec![
        ingress.name().into(),
        ingress.str_at("spec.ingressClassName").unwrap_or("<none>").into(),
        hosts(ingress.list_at("spec.rules")).into(),
        address(ingress).into(),
        ports.into(),
        age(ingress.creation_timestamp(), now),
    ]
}

/// The first hosts, and how many rules there are beyond as many.
fn hosts(rules: &[Value]) -> String {
    let name = |rule: &Value| rule.get("host").and_then(Value::as_str).unwrap_or_default().to_owned();
    let named = rules.iter().enumerate().map(|(index, rule)| (index, name(rule)));
    let named = named.filter(|(_, name)| !name.is_empty()).take(SHOWN_HOSTS);
    let (indexes, names): (Vec<usize>, Vec<String>) = named.unzip();
    let more = names.len() == SHOWN_HOSTS && indexes.last().is_some_and(|last| last + 1 < rules.len());
    match (names.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => names.join(","),
        (false, true) => format!("{} + {} more...", names.join(","), rules.len() - SHOWN_HOSTS),
    }
}

fn address(ingress: &Object) -> String {
    let text = |point: &At<'_>, field: &str| Some(point.child(field).str().to_owned()).filter(|text| !text.is_empty());
    let points = points(ingress).items();
    let found = points
        .iter()
        .filter_map(|point| text(point, "ip").or_else(|| text(point, "hostname")));
    found.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let ingress = |spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "namespace": "ns"},
            "spec": spec})
    };
    let to = |service: Value| json!({"service": service});
    let web = to(json!({"name": "web", "port": {"number": 80}}));
    let paths = |paths: Value| ingress(json!({"rules": [{"host": "a.example", "http": {"paths": paths}}]}));
    let path = |path: &str, kind: &str| json!({"path": path, "pathType": kind, "backend": web});
    let mut twice = ingress(json!({"ingressClassName": "b", "defaultBackend": web}));
    twice["metadata"]["annotations"] = json!({CLASS: "a"});
    let rule = |host: &str| json!({"host": host});
    let mut shown = ingress(json!({"ingressClassName": "nginx", "tls": [{"hosts": ["a"]}],
        "rules": [rule("a"), rule("b"), rule("c"), rule("d"), rule("")]}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}});
    crate::resources::testing::Cases {
        valid: vec![
            ingress(json!({"defaultBackend": web})),
            ingress(
                json!({"ingressClassName": "nginx", "tls": [{"hosts": ["*.example.com"], "secretName": "tls"}],
                "rules": [{"host": "*.example.com", "http": {"paths": [path("/", "Prefix"), path("", "ImplementationSpecific")]}},
                    {"host": "b.example"}]}),
            ),
        ],
        invalid: vec![
            (
                ingress(json!({})),
                vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
            ),
            (
                twice,
                vec![
                    r#"annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are specified"#,
                ],
            ),
            (
                paths(
                    json!([path("a//b/..", "Exact"), path("x", "ImplementationSpecific"), path("/", "Regex"), {"path": "/"}]),
                ),
                vec![
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "a//b/..": must be an absolute path"#,
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "a//b/..": must not contain '//'"#,
                    r#"spec.rules[0].http.paths[0].path: Invalid value: "a//b/..": cannot end with '/..'"#,
                    r#"spec.rules[0].http.paths[1].path: Invalid value: "x": must be an absolute path"#,
                    r#"spec.rules[0].http.paths[2].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix""#,
                    "spec.rules[0].http.paths[3].pathType: Required value: pathType must be specified",
                ],
            ),
            (
                ingress(
                    json!({"rules": [{"host": "192.0.2.1"}, {"host": "*a"}, {"http": {"paths": []}}],
                    "tls": [{"secretName": "A"}]}),
                ),
                vec![
                    r#"spec.rules[0].host: Invalid value: "192.0.2.1": must be a DNS name, not an IP address"#,
                    r#"spec.rules[1].host: Invalid value: "*a": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                    "spec.rules[2].http.paths: Required value",
                    r#"spec.tls[0].secretName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                ],
            ),
            (
                paths(json!([
                    {"path": "/", "pathType": "Exact"},
                    {"path": "/", "pathType": "Exact", "backend": to(json!({"name": "", "port": {}}))},
                    {"path": "/", "pathType": "Exact", "backend": to(json!({"name": "a", "port": {"name": "x", "number": 1}}))},
                    {"path": "/", "pathType": "Exact", "backend": to(json!({"name": "a", "port": {"number": 65536}}))},
                    {"path": "/", "pathType": "Exact", "backend": {"resource": {"apiGroup": "a", "kind": "", "name": "a/b"}}},
                ])),
                vec![
                    r#"spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required"#,
                    "spec.rules[0].http.paths[1].backend.service.name: Required value",
                    "spec.rules[0].http.paths[1].backend: Required value: port name or number is required",
                    r#"spec.rules[0].http.paths[2].backend: Invalid value: "": cannot set both port name & port number"#,
                    "spec.rules[0].http.paths[3].backend.service.port.number: Invalid value: 65536: must be between 1 and 65535, inclusive",
                    "spec.rules[0].http.paths[4].backend.resource.kind: Required value",
                    r#"spec.rules[0].http.paths[4].backend.resource.name: Invalid value: "a/b": may not contain '/'"#,
                ],
            ),
        ],
        table: vec![shown, ingress(json!({"rules": [{}]}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    fn with_points(points: Value) -> Object {
        object(json!({"metadata": {"name": "web", "namespace": "ns"}, "status": {"loadBalancer": {"ingress": points}}}))
    }

    #[test]
    fn a_status_names_places() {
        let old = with_points(json!([{"ip": "010.0.0.1"}]));
        let new =
            with_points(json!([{"ip": "010.0.0.1"}, {"ip": "01.0.0.1"}, {"ip": "FE80::1"}, {"hostname": "10.0.0.1"}]));
        let op = Operation::UpdateStatus { old: &old };
        context(Some("ns"), |cx| {
            assert_eq!(
                messages(Ingresses.validate(cx, &op, &new)),
                [
                    r#"status.loadBalancer.ingress[1].ip: Invalid value: "01.0.0.1": must not have leading 0s"#,
                    r#"status.loadBalancer.ingress[3].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
                ]
            );
            assert_eq!(Ingresses.warnings(cx, &op, &new).len(), 3);
        });
    }

    #[test]
    fn what_was_let_in_once_may_stay() {
        let with = |secret: &str, host: &str, paths: Value| {
            object(
                json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"tls": [{"secretName": secret}],
                "rules": [{"host": host, "http": {"paths": paths}}]}}),
            )
        };
        let old = with("A", "*.example", json!([]));
        context(Some("ns"), |cx| {
            let found = |new: &Object| messages(Ingresses.validate(cx, &Operation::Update { old: &old }, new));
            assert!(found(&with("B", "*.example", json!([]))).is_empty());
            assert_eq!(
                found(&with("B", "a.example", json!([]))),
                ["spec.rules[0].http.paths: Required value"]
            );
        });
    }

    #[test]
    fn the_old_way_to_name_a_class_is_warned_of() {
        let new = object(json!({"metadata": {"annotations": {CLASS: "a"}}, "spec": {}}));
        context(Some("ns"), |cx| {
            assert_eq!(
                Ingresses.warnings(cx, &Operation::Create, &new),
                [
                    "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
                ]
            );
        });
    }
}
