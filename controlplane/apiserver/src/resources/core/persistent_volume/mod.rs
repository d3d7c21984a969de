//! PersistentVolume: a piece of storage that outlives pods.

mod source;

use api::table::Column;
use api::time::{Timestamp, rfc3339};
use api::{FieldErrors, Object, Path, Quantity};
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::pod::update::differences;
use crate::resources::validation::quantity::parse;
use crate::resources::validation::{At, meta, pod};
use crate::resources::{copy_field, unlike};

/// The storage class of volumes and claims, as it was written before there was a field for it.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
pub(crate) const CLASS_ANNOTATION_WARNING: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";
const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub(crate) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub(crate) fn resource() -> Resource {
    Resource::of::<PersistentVolume>()
        .short_names(&["pv"])
        .strategy(Volumes)
        .printer(definitions(), cells)
        .status()
        .returns_deleted()
        .build()
}

struct Volumes;

impl Strategy for Volumes {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => new.set(
                "status",
                json!({"phase": "Pending", "lastPhaseTransitionTime": rfc3339(cx.now)}),
            ),
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => {
                copy_field(old, new, "spec");
                note_transition(old, new, cx.now);
            }
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if let Operation::UpdateStatus { .. } = op {
            return errors;
        }
        let spec = At::root(new, "spec");
        rules(&spec, &mut errors);
        if let Operation::Update { old } = op {
            changes(&At::root(old, "spec"), &spec, &mut errors);
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        match op {
            Operation::Create | Operation::Update { .. } => warnings(new),
            Operation::UpdateStatus { .. } | Operation::Delete { .. } => Vec::new(),
        }
    }
}

/// When the phase last changed, unless the client says so itself.
fn note_transition(old: &Object, new: &mut Object, now: Timestamp) {
    const WHEN: &str = "status.lastPhaseTransitionTime";
    let same_phase = old.str_at("status.phase") == new.str_at("status.phase");
    match (same_phase, new.str_at(WHEN)) {
        (true, None) => copy_field(old, new, WHEN),
        (false, told) if told.is_none() || told == old.str_at(WHEN) => new.set(WHEN, rfc3339(now)),
        _ => {}
    }
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    let modes = spec.child("accessModes");
    if modes.is_empty() {
        errors.push(modes.required(""));
    }
    access_modes(&modes, errors);
    capacity(&spec.child("capacity"), errors);
    spec.child("persistentVolumeReclaimPolicy")
        .one_of(errors, &["Delete", "Recycle", "Retain"]);
    let affinity = spec.child("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.child("required");
        match required.is_set() {
            true => pod::node_selector_terms(&required, errors),
            false => errors.push(required.required("must specify required node constraints")),
        }
    }
    source::source(spec, errors);
    let path = spec.child("hostPath").child("path");
    if spec.child("persistentVolumeReclaimPolicy").str() == "Recycle" && is_root(path.str()) {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(spec.child("persistentVolumeReclaimPolicy").forbidden(detail));
    }
    spec.child("storageClassName")
        .check_if_set(errors, is_dns1123_subdomain);
    spec.child("volumeMode").one_of(errors, VOLUME_MODES);
    let attributes = spec.child("volumeAttributesClassName");
    if attributes.is_set() {
        match attributes.is_empty() {
            true => errors.push(attributes.required("an empty string is disallowed")),
            false => attributes.check(errors, is_dns1123_subdomain),
        }
        if !spec.child("csi").is_set() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(spec.child("csi").required(detail));
        }
    }
}

/// `accessModes` of a volume or a claim.
pub(crate) fn access_modes(at: &At<'_>, errors: &mut FieldErrors) {
    let modes: Vec<&str> = at.items().iter().map(At::str).collect();
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(api::FieldError::not_supported(at.path(), *mode, ACCESS_MODES));
    }
    let alone = modes.contains(&"ReadWriteOncePod");
    let others = modes
        .iter()
        .any(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode));
    if alone && others {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

fn capacity(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
    if at.len() != 1 || !at.key("storage").is_set() {
        let shown = at.value().cloned().unwrap_or(Value::Null);
        errors.push(api::FieldError::not_supported(at.path(), shown, &["storage"]));
    }
    for (_, amount) in at.entries() {
        if let Some(quantity) = parse(&amount) {
            if quantity.value() < 0 {
                errors.push(amount.invalid_as(quantity.value(), "must be a valid resource quantity"));
            }
            positive(&amount, errors);
        }
    }
}

/// An amount above zero.
pub(crate) fn positive(at: &At<'_>, errors: &mut FieldErrors) -> bool {
    let wrong = parse(at).is_some_and(|quantity| quantity <= Quantity::default());
    if wrong {
        errors.push(at.invalid("must be greater than zero"));
    }
    !wrong
}

fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "."))
}

/// Where the storage is does not change; where it can be reached from may become known.
fn changes(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    let allowed = with_new_expand_secret(old, new);
    let source_changed = unlike(old.value(), Some(&allowed), source::NOT_SOURCES);
    if source_changed {
        let mut lines = Vec::new();
        for kind in source::SOURCES {
            let side = |spec: Option<&Value>| spec.and_then(|spec| spec.get(kind)).cloned().unwrap_or_default();
            differences(&side(new.value()), &side(old.value()), kind, &mut lines);
        }
        let path = new.path().child("persistentvolumesource");
        let detail = format!("{path} is immutable after creation\n{}", lines.join("\n"));
        errors.push(api::FieldError::forbidden(&path, detail));
    }
    let mode = Path::root("volumeMode");
    new.child("volumeMode")
        .named(mode.clone())
        .immutable(errors, &old.child("volumeMode").named(mode));
    let affinity = |spec: &At<'_>| spec.child("nodeAffinity").value().cloned();
    if let Some(before) = affinity(old)
        && affinity(new).as_ref() != Some(&before)
        && affinity(new) != Some(with_current_labels(&before))
    {
        let at = new.child("nodeAffinity").named(Path::root("nodeAffinity"));
        errors.push(at.invalid_as(affinity(new).unwrap_or_default(), "field is immutable"));
    }
    let class = new.child("volumeAttributesClassName");
    if old.child("volumeAttributesClassName").is_set() && !class.is_set() {
        errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
}

/// The new spec without a secret for expansion, if it had none before: such a one may come later.
fn with_new_expand_secret(old: &At<'_>, new: &At<'_>) -> Value {
    let mut spec = new.value().cloned().unwrap_or_default();
    let had = old.child("csi").child("controllerExpandSecretRef").is_set();
    if let Some(csi) = spec.get_mut("csi").and_then(Value::as_object_mut)
        && !had
    {
        csi.remove("controllerExpandSecretRef");
    }
    spec
}

/// A node affinity with today's names of labels that once were in beta: what the old ones may be replaced by.
fn with_current_labels(affinity: &Value) -> Value {
    let mut affinity = affinity.clone();
    let terms = affinity
        .pointer_mut("/required/nodeSelectorTerms")
        .and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        let requirements = term.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for requirement in requirements.into_iter().flatten() {
            let key = requirement.get("key").and_then(Value::as_str).unwrap_or_default();
            if let (Some(now), Some(map)) = (pod::current_node_label(key), requirement.as_object_mut()) {
                map.insert("key".to_owned(), now.into());
            }
        }
    }
    affinity
}

fn warnings(volume: &Object) -> Vec<String> {
    let mut found = Vec::new();
    if volume.annotation(CLASS_ANNOTATION).is_some() {
        found.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: {CLASS_ANNOTATION_WARNING}"
        ));
    }
    let spec = At::root(volume, "spec");
    let policy = spec.child("persistentVolumeReclaimPolicy");
    if policy.str() == "Recycle" {
        let words = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        found.push(format!("{}: {words}", policy.path()));
    }
    let required = spec.child("nodeAffinity").child("required");
    for term in required.child("nodeSelectorTerms").items() {
        for requirement in term.child("matchExpressions").items() {
            let key = requirement.child("key");
            if let Some(words) = pod::node_label(key.str()) {
                found.push(format!("{}: {} is {words}", key.path(), key.str()));
            }
        }
    }
    found.extend(source::warnings(&spec));
    found
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Capacity|string||How much it holds.",
        "Access Modes|string||Who can use it at once.",
        "Reclaim Policy|string||What becomes of it when its claim is gone.",
        "Status|string||Whether it is free or bound.",
        "Claim|string||Whose it is.",
        "StorageClass|string||The class that it belongs to.",
        "VolumeAttributesClass|string||The class of its attributes.",
        "Reason|string||Why it failed.",
        "Age|string",
        "VolumeMode|string||Whether it is a file system or a raw device.|wide",
    ])
}

fn cells(volume: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| volume.str_at(path).unwrap_or_default();
    let claim = match volume.at("spec.claimRef") {
        Some(Value::Object(_)) => format!("{}/{}", text("spec.claimRef.namespace"), text("spec.claimRef.name")),
        _ => String::new(),
    };
    vec![
        volume.name().into(),
        volume.str_at("spec.capacity.storage").unwrap_or("0").into(),
        short_modes(volume.list_at("spec.accessModes")).into(),
        text("spec.persistentVolumeReclaimPolicy").into(),
        phase(volume),
        claim.into(),
        class(volume),
        or_unset(volume, "spec.volumeAttributesClassName"),
        text("status.reason").into(),
        age(volume.creation_timestamp(), now),
        or_unset(volume, "spec.volumeMode"),
    ]
}

/// The phase of a volume or a claim.
pub(crate) fn phase(object: &Object) -> Value {
    match object.is_deleting() {
        true => "Terminating".into(),
        false => object.str_at("status.phase").unwrap_or_default().into(),
    }
}

/// The storage class of a volume or a claim; the annotation goes before the field.
pub(crate) fn class(object: &Object) -> Value {
    let annotated = object.annotation(CLASS_ANNOTATION);
    annotated
        .or(object.str_at("spec.storageClassName"))
        .unwrap_or_default()
        .into()
}

/// A text, or `<unset>`.
pub(crate) fn or_unset(object: &Object, path: &str) -> Value {
    object.str_at(path).unwrap_or("<unset>").into()
}

/// Access modes as kubectl shows them: `RWO,ROX`.
pub(crate) fn short_modes(modes: &[Value]) -> String {
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found = short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short);
    found.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let volume = |spec: Value| {
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"]}});
        if let (Some(map), Value::Object(spec)) = (volume["spec"].as_object_mut(), spec) {
            map.extend(spec);
        }
        volume
    };
    let local = json!({"local": {"path": "/mnt"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}});
    let mut bound = volume(
        json!({"hostPath": {"path": "/data"}, "claimRef": {"namespace": "ns", "name": "c"},
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "slow", "volumeMode": "Filesystem",
        "accessModes": ["ReadOnlyMany", "ReadWriteOnce"]}),
    );
    bound["status"] = json!({"phase": "Bound"});
    crate::resources::testing::Cases {
        valid: vec![volume(json!({"hostPath": {"path": "/data"}})), volume(local)],
        invalid: vec![
            (
                volume(json!({"capacity": {}, "accessModes": [], "local": {"path": "/mnt"}})),
                vec![
                    "spec.accessModes: Required value",
                    "spec.capacity: Required value",
                    "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
                    "spec.nodeAffinity: Required value: Local volume requires node affinity",
                ],
            ),
            (
                volume(
                    json!({"capacity": {"storage": "0"}, "accessModes": ["Mine", "ReadWriteOncePod", "ReadWriteOnce"],
                    "volumeMode": "Tape", "persistentVolumeReclaimPolicy": "Burn", "storageClassName": "A"}),
                ),
                vec![
                    "spec.accessModes: Unsupported value: \"Mine\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
                     \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                    "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                    "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \
                     \"Retain\"",
                    "spec: Required value: must specify a volume type",
                    "spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                     alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                     'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                    "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
                ],
            ),
            (
                volume(
                    json!({"hostPath": {"path": "/"}, "nfs": {"server": "", "path": "x"}, "volumeAttributesClassName": "",
                    "persistentVolumeReclaimPolicy": "Recycle"}),
                ),
                vec![
                    "spec.nfs: Forbidden: may not specify more than 1 volume type",
                    "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
                    "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                    "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
                    "spec.nfs.server: Required value",
                ],
            ),
        ],
        table: vec![bound, volume(json!({"hostPath": {"path": "/data"}}))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, now, object};

    fn update(old: &Object, change: fn(&mut Object)) -> Vec<String> {
        let mut new = old.clone();
        change(&mut new);
        context(None, |cx| {
            messages(Volumes.validate(cx, &Operation::Update { old }, &new))
        })
    }

    fn csi() -> Object {
        object(
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": {"driver": "a.b", "volumeHandle": "h"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "failure-domain.beta.kubernetes.io/zone", "operator": "In", "values": ["z"]}]}]}}}}),
        )
    }

    #[test]
    fn the_source_stays_and_a_secret_for_expansion_may_come() {
        let old = csi();
        assert_eq!(
            update(&old, |new| new.set(
                "spec.csi.controllerExpandSecretRef",
                json!({"name": "s", "namespace": "ns"})
            )),
            Vec::<String>::new()
        );
        assert_eq!(
            update(&old, |new| new.set("spec.csi.volumeHandle", "other")),
            [
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n  \
                 csi.volumeHandle: \"other\" != \"h\""
            ]
        );
        assert_eq!(
            update(&old, |new| new.set("spec.volumeMode", "Block")),
            ["volumeMode: Invalid value: \"Block\": field is immutable"]
        );
    }

    #[test]
    fn labels_of_the_affinity_may_be_replaced_by_those_that_came_after_them() {
        let old = csi();
        fn labelled(new: &mut Object, label: &str) {
            let requirement = json!([{"matchExpressions": [{"key": label, "operator": "In", "values": ["z"]}]}]);
            new.set("spec.nodeAffinity.required.nodeSelectorTerms", requirement);
        }
        let found = [
            update(&old, |new| labelled(new, "topology.kubernetes.io/zone")),
            update(&old, |new| labelled(new, "topology.kubernetes.io/region")),
        ];
        assert!(found[0].is_empty(), "{found:?}");
        assert!(found[1][0].starts_with("nodeAffinity: Invalid value"), "{found:?}");
    }

    #[test]
    fn phases_are_dated() {
        let mut old = csi();
        old.set(
            "status",
            json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"}),
        );
        let mut same = old.clone();
        same.remove("status.lastPhaseTransitionTime");
        note_transition(&old, &mut same, now());
        assert_eq!(
            same.str_at("status.lastPhaseTransitionTime"),
            Some("2026-01-01T00:00:00Z")
        );
        let mut bound = old.clone();
        bound.set("status.phase", "Bound");
        note_transition(&old, &mut bound, now());
        assert_eq!(
            bound.str_at("status.lastPhaseTransitionTime"),
            Some("2026-01-01T02:00:00Z")
        );
    }

    #[test]
    fn what_has_been_superseded_is_said() {
        let mut volume = csi();
        volume.set_annotation(CLASS_ANNOTATION, "slow");
        volume.set("spec.rbd", json!({}));
        assert_eq!(
            warnings(&volume),
            [
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" \
                 attribute instead",
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: failure-domain.beta.kubernetes.io/zone is \
                 deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
    }
}
