//! Stamping: the parts of `metadata` that are the server's and not the caller's. Pure.

use api::time::{Timestamp, rfc3339};
use api::{Object, Status};
use serde_json::Value;

use super::resource::Resource;

/// Stamps a new object. The caller's uid, times and managed fields are dropped, as Kubernetes does.
pub(crate) fn on_create(resource: &Resource, object: &mut Object, namespace: Option<&str>, uid: &str, now: Timestamp) {
    for field in [
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
        "metadata.managedFields",
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
    for field in ["metadata.managedFields", "metadata.selfLink"] {
        new.remove(field);
    }
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

/// The namespace of an object and the one of the request must be the same.
pub(crate) fn check_namespace(object: &Object, namespace: Option<&str>) -> Result<(), Status> {
    match (object.namespace(), namespace) {
        (None, _) => Ok(()),
        (Some(given), Some(asked)) if given == asked => Ok(()),
        (Some(_), None) => Err(Status::bad_request(
            "namespace is not allowed on a cluster-scoped object".to_owned(),
        )),
        (Some(_), Some(_)) => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
        )),
    }
}
