//! Defaults that depend on other fields, by definition: the conditional part of Kubernetes' `SetDefaults_*`.

mod batch;
mod core;
mod service;

use serde_json::{Map, Value};

type Tree = Map<String, Value>;

/// The computation that belongs to a definition.
pub(super) fn of(definition: &str) -> Option<fn(&mut Tree)> {
    let (group, name) = definition.strip_prefix("io.k8s.api.")?.split_once('.')?;
    Some(match (group, name) {
        ("core", "v1.Container" | "v1.EphemeralContainer") => core::container,
        ("core", "v1.ImageVolumeSource") => core::image_volume,
        ("core", "v1.Namespace") => core::namespace,
        ("core", "v1.NodeStatus") => core::node_status,
        ("core", "v1.Pod") => core::pod,
        ("core", "v1.Volume") => core::volume,
        ("core", "v1.LimitRangeItem") => core::limit_range_item,
        ("core", "v1.ReplicationController") => core::replication_controller,
        ("core", "v1.Service") => service::status,
        ("core", "v1.ServiceSpec") => service::spec,
        ("core", "v1.ServicePort") => service::port,
        ("apps", "v1.DeploymentStrategy" | "v1.DaemonSetUpdateStrategy") => rolling,
        ("apps", "v1.StatefulSetSpec") => stateful_set_spec,
        ("batch", "v1.Job") => batch::job,
        ("networking", "v1.NetworkPolicySpec") => policy_types,
        ("rbac", "v1.Subject") => subject,
        _ => return None,
    })
}

/// A rolling update has parameters, which have defaults.
fn rolling(strategy: &mut Tree) {
    if text(strategy, "type") == "RollingUpdate" {
        ensure(strategy, "rollingUpdate", || Value::Object(Map::new()));
    }
}

/// Who names no strategy gets all of it; the claims' templates say what they are.
fn stateful_set_spec(spec: &mut Tree) {
    if let Some(strategy) = spec.get_mut("updateStrategy").and_then(Value::as_object_mut)
        && text(strategy, "type").is_empty()
    {
        ensure(strategy, "rollingUpdate", || Value::Object(Map::new()));
    }
    for claim in maps_of(spec, "volumeClaimTemplates") {
        claim.insert("apiVersion".to_owned(), "v1".into());
        claim.insert("kind".to_owned(), "PersistentVolumeClaim".into());
    }
}

/// A policy is about ingress, and about egress when it names some.
fn policy_types(spec: &mut Tree) {
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty());
    if list(spec, "policyTypes").is_empty() {
        let types = if egress {
            vec!["Ingress", "Egress"]
        } else {
            vec!["Ingress"]
        };
        spec.insert("policyTypes".to_owned(), types.into());
    }
}

/// Users and groups belong to the RBAC group, service accounts to the core.
fn subject(subject: &mut Tree) {
    if matches!(text(subject, "kind"), "User" | "Group") && text(subject, "apiGroup").is_empty() {
        subject.insert("apiGroup".to_owned(), "rbac.authorization.k8s.io".into());
    }
}

fn text<'a>(map: &'a Tree, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(map: &'a Tree, field: &str) -> &'a [Value] {
    map.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn maps_of<'a>(map: &'a mut Tree, field: &str) -> impl Iterator<Item = &'a mut Tree> {
    map.get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

fn ensure(map: &mut Tree, field: &str, value: impl FnOnce() -> Value) {
    let entry = map.entry(field).or_insert(Value::Null);
    if entry.is_null() {
        *entry = value();
    }
}

/// Copies what `to` lacks, entry by entry.
fn complete(map: &mut Tree, to: &str, from: &str) {
    let Some(source) = map
        .get(from)
        .and_then(Value::as_object)
        .filter(|source| !source.is_empty())
        .cloned()
    else {
        return;
    };
    ensure(map, to, || Value::Object(Map::new()));
    if let Some(target) = map.get_mut(to).and_then(Value::as_object_mut) {
        for (key, value) in source {
            target.entry(key).or_insert(value);
        }
    }
}
