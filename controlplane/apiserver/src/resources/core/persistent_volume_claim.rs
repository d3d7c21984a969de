//! PersistentVolumeClaim: what somebody wants of storage, and the volume that was found or made for it.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object, Path};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Map, Value, json};

use super::persistent_volume::{
    CLASS_ANNOTATION, CLASS_ANNOTATION_WARNING, VOLUME_MODES, access_modes, class, or_unset, phase, positive,
    short_modes,
};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain, is_qualified_name};
use crate::resources::validation::pod::update::differences;
use crate::resources::validation::quantity::{non_negative, parse};
use crate::resources::validation::{At, labels, meta};

const RESIZE_STATES: &[&str] = &[
    "ControllerResizeFailed",
    "ControllerResizeInProgress",
    "NodeResizeFailed",
    "NodeResizeInProgress",
    "NodeResizePending",
];
const FIXED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

pub(crate) fn resource() -> Resource {
    Resource::of::<PersistentVolumeClaim>()
        .short_names(&["pvc"])
        .strategy(Claims)
        .printer(definitions(), cells)
        .status()
        .returns_deleted()
        .build()
}

struct Claims;

impl Strategy for Claims {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => new.set("status", json!({"phase": "Pending"})),
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => return copy_field(old, new, "spec"),
            Operation::Delete { .. } => return,
        }
        let had = op.old().and_then(|old| old.map_at("spec")).cloned().unwrap_or_default();
        if let Some(spec) = new.at_mut("spec").and_then(Value::as_object_mut) {
            data_sources(&had, spec);
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if let Operation::UpdateStatus { .. } = op {
            status(&At::root(new, "status"), &mut errors);
            return errors;
        }
        rules(&At::root(new, "spec"), &mut errors);
        if let Operation::Update { old } = op {
            changes(old, new, &mut errors);
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        if !matches!(op, Operation::Create | Operation::Update { .. }) {
            return Vec::new();
        }
        let mut found = Vec::new();
        if new.annotation(CLASS_ANNOTATION).is_some() {
            found.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: {CLASS_ANNOTATION_WARNING}"
            ));
        }
        found.extend(spec_warnings(&At::root(new, "spec")));
        found
    }
}

/// What is odd about the spec of a claim or of a template for claims: bytes come in whole numbers.
pub(crate) fn spec_warnings(spec: &At<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for list in ["requests", "limits"] {
        let amount = spec.child("resources").child(list).key("storage");
        if let Some(quantity) = parse(&amount).filter(|quantity| !quantity.is_whole()) {
            let words = "is invalid, must be an integer";
            found.push(format!(
                "{}: fractional byte value \"{quantity}\" {words}",
                amount.path()
            ));
        }
    }
    found
}

/// `dataSource` is the old form of `dataSourceRef`, which takes more kinds of sources; both say the same (KEP-1495).
/// References into other namespaces need a feature that is not offered.
fn data_sources(had: &Map<String, Value>, spec: &mut Map<String, Value>) {
    let given = |map: &Map<String, Value>, field: &str| map.get(field).is_some_and(|value| !value.is_null());
    let foreign = |map: &Map<String, Value>| {
        let namespace = map.get("dataSourceRef").and_then(|source| source.get("namespace"));
        namespace.and_then(Value::as_str).is_some_and(|name| !name.is_empty())
    };
    if foreign(spec) && !given(had, "dataSourceRef") {
        spec.remove("dataSourceRef");
    }
    let in_use = given(had, "dataSource") || given(had, "dataSourceRef");
    if !in_use && !given(spec, "dataSourceRef") && !spec.get("dataSource").is_some_and(is_claim_or_snapshot) {
        spec.remove("dataSource");
    }
    match (given(spec, "dataSource"), given(spec, "dataSourceRef")) {
        (true, false) => copy_source(spec, "dataSource", "dataSourceRef"),
        (false, true) if !foreign(spec) => copy_source(spec, "dataSourceRef", "dataSource"),
        _ => {}
    }
}

fn is_claim_or_snapshot(source: &Value) -> bool {
    let text = |field: &str| source.get(field).and_then(Value::as_str).unwrap_or_default();
    matches!(
        (text("kind"), text("apiGroup")),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    )
}

fn copy_source(spec: &mut Map<String, Value>, from: &str, to: &str) {
    let mut source = spec.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
    source.retain(|field, _| matches!(field.as_str(), "apiGroup" | "kind" | "name"));
    spec.insert(to.to_owned(), source.into());
}

/// The spec of a claim, or of a template for claims.
pub(crate) fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    let modes = spec.child("accessModes");
    if modes.is_empty() {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    labels::selector(&spec.child("selector"), errors);
    access_modes(&modes, errors);
    let storage = spec
        .child("resources")
        .child("requests")
        .key("storage")
        .named(spec.path().child("resources").key("storage"));
    match storage.is_set() {
        false => errors.push(storage.required("")),
        true => drop(positive(&storage, errors)),
    }
    spec.child("storageClassName")
        .check_if_set(errors, is_dns1123_subdomain);
    spec.child("volumeMode").one_of(errors, VOLUME_MODES);
    let (source, reference) = (spec.child("dataSource"), spec.child("dataSourceRef"));
    for at in [&source, &reference] {
        if at.is_set() {
            data_source(at, errors);
        }
    }
    let namespace = reference.child("namespace");
    namespace.check_if_set(errors, is_dns1123_label);
    let shown = source.path().to_string();
    let same = |field: &str| source.child(field).value() == reference.child(field).value();
    if source.is_set() && !namespace.is_empty() {
        errors.push(spec.invalid_as(shown, "may not be specified when dataSourceRef.namespace is specified"));
    } else if source.is_set() && reference.is_set() && !["apiGroup", "kind", "name"].iter().all(|field| same(field)) {
        errors.push(spec.invalid_as(shown, "must match dataSourceRef"));
    }
    spec.child("volumeAttributesClassName")
        .check_if_set(errors, is_dns1123_subdomain);
}

fn data_source(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["name", "kind"] {
        if at.child(field).is_empty() {
            errors.push(at.child(field).required(""));
        }
    }
    let (group, kind) = (at.child("apiGroup"), at.child("kind"));
    if group.is_empty() && kind.str() != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(at.invalid_as(kind.str(), detail));
    }
    group.check_if_set(errors, is_dns1123_subdomain);
}

/// What was asked for stays, but for a volume's name once, a class where there was none, and the size of a bound claim.
fn changes(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let spec = At::root(new, "spec");
    if !class_moved_to_field(old, new) && old.annotation(CLASS_ANNOTATION) != new.annotation(CLASS_ANNOTATION) {
        let path = Path::root("metadata").child("annotations").key(CLASS_ANNOTATION);
        let shown = new.annotation(CLASS_ANNOTATION).unwrap_or_default();
        errors.push(FieldError::invalid(&path, shown, "field is immutable"));
    }
    let before = old.at("spec").cloned().unwrap_or_default();
    let after = with_changeable_fields_of(old, new);
    let mut lines = Vec::new();
    differences(&after, &before, "", &mut lines);
    if !lines.is_empty() {
        errors.push(spec.forbidden(format!("{FIXED}\n{}", lines.join("\n"))));
    }
    size(old, new, errors);
    let mode = |object| {
        At::root(object, "spec")
            .child("volumeMode")
            .named(Path::root("volumeMode"))
    };
    mode(new).immutable(errors, &mode(old));
    attributes(old, new, &spec.child("volumeAttributesClassName"), errors);
}

/// A class of attributes that has been applied may be changed for another, but not taken away.
fn attributes(old: &Object, new: &Object, at: &At<'_>, errors: &mut FieldErrors) {
    let path = "spec.volumeAttributesClassName";
    if old.at(path) == new.at(path) || old.str_at("status.currentVolumeAttributesClassName").is_none() {
        return;
    }
    let applied = "is forbidden when status.currentVolumeAttributesClassName is not nil";
    if !at.is_set() {
        errors.push(at.forbidden(format!("update to nil {applied}")));
    } else if at.is_empty() {
        errors.push(at.forbidden(format!("update to empty string {applied}")));
    }
}

/// Whether the class in the annotation has become the class in the field.
fn class_moved_to_field(old: &Object, new: &Object) -> bool {
    let was = old.annotation(CLASS_ANNOTATION);
    let annotated = new.annotation(CLASS_ANNOTATION);
    was.is_some()
        && old.str_at("spec.storageClassName").is_none()
        && new.str_at("spec.storageClassName") == was
        && (annotated.is_none() || annotated == was)
}

/// The new spec with everything that may change put back to what it was.
fn with_changeable_fields_of(old: &Object, new: &Object) -> Value {
    let mut spec = Object::new("", "");
    spec.set("spec", new.at("spec").cloned().unwrap_or_default());
    let class = new.str_at("spec.storageClassName");
    let annotated = old.annotation(CLASS_ANNOTATION);
    let class_appears = class.is_some() && (annotated.is_none() || annotated == class);
    let bound = new.str_at("status.phase") == Some("Bound");
    let changeable = [
        (
            "spec.volumeName",
            old.str_at("spec.volumeName").unwrap_or_default().is_empty(),
        ),
        (
            "spec.storageClassName",
            old.str_at("spec.storageClassName").is_none() && class_appears,
        ),
        ("spec.resources.requests.storage", bound),
        ("spec.volumeAttributesClassName", bound),
    ];
    for (path, _) in changeable.iter().filter(|(_, may)| *may) {
        copy_field(old, &mut spec, path);
    }
    spec.remove("spec").unwrap_or_default()
}

/// A claim grows; it shrinks only back to more than what it has, when growing failed (KEP-1790).
fn size(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let amount = |object: &Object, path: &str| {
        let (field, rest) = path.split_once('.').unwrap_or((path, ""));
        let at = rest
            .split('.')
            .fold(At::root(object, field), |at, field| at.child(field));
        parse(&at).unwrap_or_default()
    };
    let wanted = amount(new, "spec.resources.requests.storage");
    if wanted < amount(old, "spec.resources.requests.storage") && wanted <= amount(old, "status.capacity.storage") {
        let path = Path::root("spec").child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(
            &path,
            "field can not be less than status.capacity",
        ));
    }
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for (_, amount) in at.child("capacity").entries() {
        basic(&amount, errors);
    }
    let states = at.child("allocatedResourceStatuses");
    for (name, state) in states.entries() {
        resource_key(name, &states, errors);
        if !RESIZE_STATES.contains(&state.str()) {
            errors.push(FieldError::not_supported(states.path(), name, RESIZE_STATES));
        }
    }
    let allocated = at.child("allocatedResources");
    for (name, amount) in allocated.entries() {
        if resource_key(name, &allocated, errors) && basic(&amount, errors) {
            non_negative(&amount, errors);
        }
    }
}

fn basic(amount: &At<'_>, errors: &mut FieldErrors) -> bool {
    let value = parse(amount).unwrap_or_default().value();
    if value < 0 {
        errors.push(amount.invalid_as(value, "must be a valid resource quantity"));
    }
    value >= 0
}

fn resource_key(name: &str, at: &At<'_>, errors: &mut FieldErrors) -> bool {
    let bad = is_qualified_name(name);
    if !bad.is_empty() {
        errors.extend(bad.into_iter().map(|message| at.invalid_as(name, message)));
        return false;
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native && name != "storage" {
        errors.push(FieldError::not_supported(at.path(), name, &["storage"]));
        return false;
    }
    true
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Status|string||Whether a volume has been found.",
        "Volume|string||The volume.",
        "Capacity|string||How much it holds.",
        "Access Modes|string||Who can use it at once.",
        "StorageClass|string||The class that it belongs to.",
        "VolumeAttributesClass|string||The class of its attributes.",
        "Age|string",
        "VolumeMode|string||Whether it is a file system or a raw device.|wide",
    ])
}

fn cells(claim: &Object, now: Timestamp) -> Vec<Value> {
    let volume = claim.str_at("spec.volumeName").unwrap_or_default();
    let (mut capacity, mut modes) = (String::new(), String::new());
    if !volume.is_empty() {
        claim
            .str_at("status.capacity.storage")
            .unwrap_or("0")
            .clone_into(&mut capacity);
        modes = short_modes(claim.list_at("status.accessModes"));
    }
    vec![
        claim.name().into(),
        phase(claim),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(claim),
        or_unset(claim, "spec.volumeAttributesClassName"),
        age(claim.creation_timestamp(), now),
        or_unset(claim, "spec.volumeMode"),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let claim = |spec: Value| {
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "ns",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}});
        if let (Some(map), Value::Object(spec)) = (claim["spec"].as_object_mut(), spec) {
            map.extend(spec);
        }
        claim
    };
    let mut bound = claim(json!({"volumeName": "v", "storageClassName": "slow", "volumeMode": "Filesystem"}));
    bound["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce", "ReadWriteMany"]});
    crate::resources::testing::Cases {
        valid: vec![
            claim(json!({})),
            claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "other"}})),
            claim(json!({"dataSource": {"kind": "Cat", "name": "dropped"}})),
        ],
        invalid: vec![
            (
                claim(json!({"accessModes": [], "resources": {}, "volumeMode": "Tape",
                    "dataSourceRef": {"kind": "Cat", "name": ""}})),
                vec![
                    "spec.accessModes: Required value: at least 1 access mode is required",
                    "spec.resources[storage]: Required value",
                    "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
                    "spec.dataSource.name: Required value",
                    "spec.dataSource: Invalid value: \"Cat\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                    "spec.dataSourceRef.name: Required value",
                    "spec.dataSourceRef: Invalid value: \"Cat\": must be 'PersistentVolumeClaim' when referencing the default \
                     apiGroup",
                ],
            ),
            (
                claim(json!({"resources": {"requests": {"storage": "-1Gi"}},
                    "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
                    "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"}})),
                vec![
                    "spec.resources[storage]: Invalid value: \"-1Gi\": must be greater than zero",
                    "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
                ],
            ),
        ],
        table: vec![claim(json!({})), bound],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    fn bound() -> Object {
        object(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "ns"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}, "volumeName": "v"},
            "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}),
        )
    }

    fn update(old: &Object, path: &str, value: Value) -> Vec<String> {
        let mut new = old.clone();
        new.set(path, value);
        context(Some("ns"), |cx| {
            messages(Claims.validate(cx, &Operation::Update { old }, &new))
        })
    }

    #[test]
    fn a_bound_claim_may_be_resized_within_what_it_has() {
        let old = bound();
        let size = |text: &str| update(&old, "spec.resources.requests.storage", json!(text));
        let ok: Vec<String> = Vec::new();
        assert_eq!((size("8Gi"), size("3Gi")), (ok.clone(), ok));
        assert_eq!(
            size("2Gi"),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
        let mut pending = old.clone();
        pending.set("status.phase", "Pending");
        let found = update(&pending, "spec.resources.requests.storage", json!("8Gi"));
        assert_eq!(
            found,
            [format!(
                "spec: Forbidden: {FIXED}\n  resources.requests.storage: \"8Gi\" != \"4Gi\""
            )]
        );
    }

    #[test]
    fn a_class_may_appear_and_a_volume_is_named_once() {
        let old = bound();
        assert_eq!(
            update(&old, "spec.storageClassName", json!("slow")),
            Vec::<String>::new()
        );
        assert_eq!(
            update(&old, "spec.volumeName", json!("w")),
            [format!("spec: Forbidden: {FIXED}\n  volumeName: \"w\" != \"v\"")]
        );
        let mut annotated = old.clone();
        annotated.set_annotation(CLASS_ANNOTATION, "fast");
        assert_eq!(
            update(&annotated, "spec.storageClassName", json!("fast")),
            Vec::<String>::new()
        );
        assert_eq!(update(&annotated, "spec.storageClassName", json!("slow")).len(), 1);
    }

    #[test]
    fn attributes_that_have_been_applied_are_changed_but_not_taken_away() {
        let mut old = bound();
        old.set("spec.volumeAttributesClassName", "gold");
        old.set("status.currentVolumeAttributesClassName", "gold");
        let class = |old: &Object, class: Value| update(old, "spec.volumeAttributesClassName", class);
        let applied = "is forbidden when status.currentVolumeAttributesClassName is not nil";
        assert_eq!(class(&old, json!("silver")), Vec::<String>::new());
        assert_eq!(
            class(&old, json!("")),
            [format!(
                "spec.volumeAttributesClassName: Forbidden: update to empty string {applied}"
            )]
        );
        assert_eq!(
            class(&old, Value::Null),
            [format!(
                "spec.volumeAttributesClassName: Forbidden: update to nil {applied}"
            )]
        );
        old.set("status.phase", "Pending");
        assert_eq!(class(&old, json!("silver")).len(), 1);
    }

    #[test]
    fn status_says_what_is_being_resized() {
        let old = bound();
        let mut new = old.clone();
        new.set(
            "status",
            json!({"allocatedResourceStatuses": {"storage": "Odd", "cpu": "NodeResizePending"},
                "allocatedResources": {"storage": "-1"}}),
        );
        let found = context(Some("ns"), |cx| {
            messages(Claims.validate(cx, &Operation::UpdateStatus { old: &old }, &new))
        });
        assert_eq!(
            found,
            [
                "status.allocatedResourceStatuses: Unsupported value: \"cpu\": supported values: \"storage\"",
                "status.allocatedResourceStatuses: Unsupported value: \"storage\": supported values: \"ControllerResizeFailed\", \
                 \"ControllerResizeInProgress\", \"NodeResizeFailed\", \"NodeResizeInProgress\", \"NodeResizePending\"",
                "status.allocatedResources[storage]: Invalid value: -1: must be a valid resource quantity",
            ]
        );
    }
}
