//! Images as objects of the API: whole, as metadata, as rows of a table. Pure.

use api::table::{Column, Row, Table};
use api::time::{Timestamp, human_duration, rfc3339};
use apiserver::images::{DOMAIN, GROUP, VERSION};
use apiserver::registry::virtuals::Shape;
use serde_json::{Value, json};

use crate::catalogue::{Change, Kind, Named};
use crate::room::bytes;

/// One image.
pub(crate) fn whole(image: &Named) -> Value {
    json!({
        "kind": "Image",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": metadata(image),
        "status": {
            "image": format!("{DOMAIN}/{}/{}", image.namespace, image.name),
            "digest": image.entry.digest,
            "mediaType": image.manifest.media_type,
            "size": image.manifest.layer.size,
            "pushedBy": image.manifest.pushed_by,
            "program": image.manifest.program,
        },
    })
}

fn metadata(image: &Named) -> Value {
    json!({
        "name": image.name,
        "namespace": image.namespace,
        "uid": image.entry.uid,
        "creationTimestamp": rfc3339(image.entry.created),
        "resourceVersion": image.entry.revision.to_string(),
    })
}

fn partial(image: &Named) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata(image)})
}

/// One image in a shape.
pub(crate) fn one(image: &Named, shape: Shape, now: Timestamp, with_object: bool) -> Value {
    match shape {
        Shape::Whole => whole(image),
        Shape::Metadata => partial(image),
        Shape::Table => table(std::slice::from_ref(image), image.entry.revision, now, with_object),
    }
}

/// A list in a shape.
pub(crate) fn list(images: &[Named], revision: u64, shape: Shape, now: Timestamp, with_object: bool) -> Value {
    let metadata = json!({"resourceVersion": revision.to_string()});
    let of = |kind: &str, version: &str, items: Vec<Value>| json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items});
    match shape {
        Shape::Whole => of(
            "ImageList",
            &format!("{GROUP}/{VERSION}"),
            images.iter().map(whole).collect(),
        ),
        Shape::Metadata => of(
            "PartialObjectMetadataList",
            "meta.k8s.io/v1",
            images.iter().map(partial).collect(),
        ),
        Shape::Table => table(images, revision, now, with_object),
    }
}

/// A line of a watch.
pub(crate) fn event(change: &Change, shape: Shape, now: Timestamp, with_object: bool) -> String {
    let kind = match change.kind {
        Kind::Added => "ADDED",
        Kind::Modified => "MODIFIED",
        Kind::Deleted => "DELETED",
    };
    let object = one(&change.named, shape, now, with_object);
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn table(images: &[Named], revision: u64, now: Timestamp, with_object: bool) -> Value {
    let row = |image: &Named| {
        let program = &image.manifest.program;
        let text = |pointer: &str| program.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Row {
            cells: vec![
                image.name.clone().into(),
                text("/kind").into(),
                text("/worlds/0").into(),
                bytes(image.manifest.layer.size).into(),
                age(image.entry.created, now).into(),
                format!("{DOMAIN}/{}/{}", image.namespace, image.name).into(),
                image.entry.digest.as_str().into(),
                image.manifest.pushed_by.clone().into(),
            ],
            object: match with_object {
                true => whole(image),
                false => partial(image),
            },
        }
    };
    let column = |name, description| Column::new(name, "string", description);
    let table = Table {
        columns: vec![
            Column::name(),
            column("Kind", "Whether it is a component or a module."),
            column("World", "What it is for: a service, or a command."),
            column("Size", "How large the program is."),
            column("Age", "How long ago the name was first given."),
            column("Image", "What pods call it.").wide(),
            column("Digest", "Of its manifest.").wide(),
            column("Pushed By", "Who brought it.").wide(),
        ],
        rows: images.iter().map(row).collect(),
        resource_version: Some(revision.to_string()),
        ..Table::default()
    };
    table.to_json()
}

fn age(since: Timestamp, now: Timestamp) -> String {
    human_duration(now.as_second().saturating_sub(since.as_second()))
}
