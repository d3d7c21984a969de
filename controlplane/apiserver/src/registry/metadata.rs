//! Stamping: the parts of `metadata` that are the server's and not the caller's. Pure.

use api::time::{Timestamp, rfc3339};
use api::{Object, Status};
use serde_json::Value;

use super::resource::Resource;

/// Stamps a new object. The caller's uid and times are dropped, as Kubernetes does.
pub(crate) fn on_create(resource: &Resource, object: &mut Object, namespace: Option<&str>, uid: &str, now: Timestamp) {
    for field in [
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
        "metadata.selfLink",
        "metadata.generation",
    ] {
        object.remove(field);
    }
    object.set_namespace(namespace);
    object.set_uid(uid);
    object.set("metadata.creationTimestamp", rfc3339(now));
    if resource.generation.is_some() {
        object.set("metadata.generation", 1);
    }
}

/// Carries over from the stored object what an update may leave out and what it may not set.
pub(crate) fn on_update(old: &Object, new: &mut Object) {
    new.remove("metadata.selfLink");
    // Left out means unchanged; a different value is refused by validation.
    let kept = [
        "metadata.uid",
        "metadata.creationTimestamp",
        "metadata.namespace",
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
    ];
    for path in kept {
        let absent = new.at(path).is_none_or(|v| v.is_null() || v.as_str() == Some(""));
        if absent && let Some(value) = old.at(path) {
            new.set(path, value.clone());
        }
    }
    match old.at("metadata.generation") {
        Some(generation) => new.set("metadata.generation", generation.clone()),
        None => {
            new.remove("metadata.generation");
        }
    }
}

/// Raises the generation when the kind says that the write changed what was asked for.
pub(crate) fn bump_generation(resource: &Resource, old: &Object, new: &mut Object) {
    if let Some(changed) = resource.generation
        && changed(old, new)
    {
        new.set("metadata.generation", old.generation() + 1);
    }
}

/// Marks an object as being deleted, `grace` seconds from now at the latest.
pub(crate) fn mark_deleted(object: &mut Object, now: Timestamp, grace: i64) {
    let at = now
        .saturating_add(jiff::SignedDuration::from_secs(grace))
        .unwrap_or(now);
    object.set("metadata.deletionTimestamp", rfc3339(at));
    object.set("metadata.deletionGracePeriodSeconds", grace);
    if object.generation() > 0 {
        object.set("metadata.generation", object.generation() + 1);
    }
}

/// Puts back everything but `metadata` and `status`: what an update of the status may not change.
pub(crate) fn keep_all_but_status(old: &Object, new: &mut Object) {
    let owned = |key: &str| matches!(key, "metadata" | "status");
    new.map_mut().retain(|key, _| owned(key));
    let kept = old.map().iter().filter(|(key, _)| !owned(key));
    new.map_mut().extend(kept.map(|(k, v)| (k.clone(), v.clone())));
}

/// Takes the stored object but for `spec.finalizers`: what an update of the `finalize` subresource may change.
pub(crate) fn keep_all_but_finalizers(old: &Object, new: &mut Object) {
    let finalizers = new.at("spec.finalizers").cloned();
    *new = old.clone();
    match finalizers {
        Some(Value::Array(list)) if !list.is_empty() => new.set("spec.finalizers", list),
        _ => {
            new.remove("spec.finalizers");
        }
    }
}

/// Leaves out owner references that are there already; what to warn of if there were any, `when` saying after what.
pub(crate) fn without_duplicate_owners(object: &mut Object, when: &str) -> Option<String> {
    let references = object.list_at("metadata.ownerReferences");
    let mut kept: Vec<Value> = Vec::with_capacity(references.len());
    let mut duplicates = Vec::new();
    for reference in references {
        if kept.contains(reference) {
            duplicates.push(reference.get("uid").and_then(Value::as_str).unwrap_or_default());
        } else {
            kept.push(reference.clone());
        }
    }
    if duplicates.is_empty() {
        return None;
    }
    let warning = format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        duplicates.join(", ")
    );
    object.set("metadata.ownerReferences", kept);
    Some(warning)
}

/// The namespace of an object and the one of the request must be the same. An object that lies in none loses it: many
/// manifests name one all the same.
pub(crate) fn check_namespace(object: &mut Object, namespace: Option<&str>) -> Result<(), Status> {
    match (object.namespace(), namespace) {
        (None, _) => Ok(()),
        (Some(given), Some(asked)) if given == asked => Ok(()),
        (Some(_), None) => {
            object.set_namespace(None);
            Ok(())
        }
        (Some(_), Some(_)) => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
        )),
    }
}
