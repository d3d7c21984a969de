//! What several controllers do with pods: find their controller, rank them for deletion, delete them by uid.

use api::NamespacedName;
use client::{Client, DeleteOptions, Error, Informer, Meta, OptionalExt, OwnerRef, kinds};
use serde_json::{Value, json};

use crate::view::Pod;

/// The key of the controlling owner of that kind, if it has one.
pub(crate) fn controller_key(meta: &Meta, kind: &str) -> Option<NamespacedName> {
    let owner = meta.controller().filter(|owner| &*owner.kind == kind)?;
    Some(NamespacedName::new(&meta.namespace, &owner.name))
}

/// An owner reference that makes `meta` the controller.
pub(crate) fn controller_reference(kind: &client::Kind, meta: &Meta) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// A merge patch that adds a controller to an object without one, refused if the object changed since.
pub(crate) fn adopt(kind: &client::Kind, owner: &Meta, object: &Meta) -> Value {
    let mut references: Vec<Value> = object.owner_references.iter().map(reference).collect();
    references.push(controller_reference(kind, owner));
    metadata_patch(object, &references)
}

/// A merge patch that removes the references to one owner, refused if the object changed since.
pub(crate) fn release(owner_uid: &str, object: &Meta) -> Value {
    let others = object.owner_references.iter().filter(|owner| &*owner.uid != owner_uid);
    metadata_patch(object, &others.map(reference).collect::<Vec<_>>())
}

fn metadata_patch(object: &Meta, references: &[Value]) -> Value {
    json!({"metadata": {"uid": object.uid, "resourceVersion": object.resource_version, "ownerReferences": references}})
}

/// An owner reference as JSON.
pub(crate) fn reference(owner: &OwnerRef) -> Value {
    let mut value = json!({
        "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
    });
    if let Some(map) = value.as_object_mut() {
        if owner.controller {
            map.insert("controller".into(), true.into());
        }
        if owner.block_owner_deletion {
            map.insert("blockOwnerDeletion".into(), true.into());
        }
    }
    value
}

/// Deletes this very pod with its own grace period; one that is gone already is fine.
pub(crate) async fn delete(client: &Client, pod: &Meta) -> Result<(), Error> {
    let options = DeleteOptions::of_uid(&pod.uid);
    client
        .delete(&kinds::POD, &pod.key(), &options)
        .await
        .optional()
        .map(drop)
}

/// Waits until the informer shows this very pod gone or going.
pub(crate) async fn wait_deleted(pods: &Informer<Pod>, pod: &Meta) {
    pods.wait_until(&pod.key(), |now| {
        now.is_none_or(|now| now.metadata.uid != pod.uid || now.metadata.is_deleting())
    })
    .await;
}
