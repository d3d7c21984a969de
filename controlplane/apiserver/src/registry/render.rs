//! Stored bytes in the form a client asked for: another version, metadata only, or a table.
//!
//! What many readers share is made once per object and remembered on the cached item; tables are not, since ages move.

use api::table::Column;
use api::time::Timestamp;
use api::{Object, Row};
use bytes::Bytes;
use schema::protobuf::Encoder;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::catalog::{CachedItem, Endpoint};
use super::encode;
use super::index::parse;
use super::printer::age;
use super::verbs::from_storage;
use crate::http::accept::{Form, Include};

/// Which encoding of an item is remembered: its served version, or that version's metadata, each also as protobuf.
const METADATA_SLOT: u8 = 128;
const PROTOBUF_SLOT: u8 = 64;

/// Whether stored bytes are in the version of the endpoint already.
pub(crate) fn is_in_version(endpoint: &Endpoint, bytes: &[u8]) -> bool {
    let (kind, version) = (&endpoint.resource().kind, &endpoint.served().api_version);
    endpoint.is_storage() || encode::metadata_offset(bytes, kind, version).is_some()
}

/// Whether an item has been converted for the endpoint.
pub(crate) fn is_remembered(endpoint: &Endpoint, item: &CachedItem) -> bool {
    item.has_memo(slot(endpoint))
}

/// Remembers an item as it is in the version of the endpoint.
pub(crate) fn remember(endpoint: &Endpoint, item: &CachedItem, bytes: Bytes) {
    item.memo(slot(endpoint), || bytes);
}

/// An object in the version of the endpoint.
pub(crate) fn versioned(endpoint: &Endpoint, bytes: &Bytes) -> Bytes {
    if is_in_version(endpoint, bytes) {
        return bytes.clone();
    }
    encode::served(&versioned_tree(endpoint, bytes))
}

fn versioned_tree(endpoint: &Endpoint, bytes: &[u8]) -> Object {
    let mut object = parse(bytes);
    from_storage(endpoint, &mut object);
    object
}

/// A cached object in the version of the endpoint.
pub(crate) fn item(endpoint: &Endpoint, item: &CachedItem) -> Bytes {
    if is_in_version(endpoint, &item.bytes) {
        return item.bytes.clone();
    }
    item.memo(slot(endpoint), || versioned(endpoint, &item.bytes))
}

/// A cached object in the version in which tables show its kind: as it rests, or of custom resources, which have columns
/// in each version, as the endpoint serves it.
pub(crate) fn shown(endpoint: &Endpoint, found: &CachedItem) -> Bytes {
    match endpoint.kind.custom {
        Some(_) => item(endpoint, found),
        None => found.bytes.clone(),
    }
}

/// The metadata of a cached object as `PartialObjectMetadata`.
pub(crate) fn item_metadata(endpoint: &Endpoint, item: &CachedItem) -> Bytes {
    item.memo(METADATA_SLOT | slot(endpoint), || metadata(&item.bytes))
}

fn slot(endpoint: &Endpoint) -> u8 {
    u8::try_from(endpoint.nth()).unwrap_or(u8::MAX).min(PROTOBUF_SLOT - 1)
}

/// The metadata of an object as `PartialObjectMetadata`.
pub(crate) fn metadata(bytes: &[u8]) -> Bytes {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let found = encode::metadata_of(bytes);
    let metadata = found.or_else(|| Some(serde_json::from_slice::<Head<'_>>(bytes).ok()?.metadata.get()));
    let head = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
    [head.as_bytes(), metadata.unwrap_or("{}").as_bytes(), b"}"]
        .concat()
        .into()
}

/// One object in any form.
pub(crate) fn object(endpoint: &Endpoint, form: Form, include: Include, bytes: &Bytes, now: Timestamp) -> Bytes {
    match form {
        Form::Object => versioned(endpoint, bytes),
        Form::Metadata => metadata(bytes),
        Form::Table => table(endpoint, include, bytes, now, true),
    }
}

/// One cached object in any form but a table.
pub(crate) fn cached(endpoint: &Endpoint, form: Form, found: &CachedItem) -> Bytes {
    match form {
        Form::Metadata => item_metadata(endpoint, found),
        Form::Object | Form::Table => item(endpoint, found),
    }
}

/// An object in its envelope; empty when it cannot be encoded, which is logged.
pub(crate) fn envelope(json: &[u8]) -> Bytes {
    match Encoder::default().object(json) {
        Ok(bytes) => Bytes::copy_from_slice(bytes),
        Err(error) => {
            tracing::error!(%error, "a stored object cannot be written as protobuf");
            Bytes::new()
        }
    }
}

/// A cached object in its envelope. What changes is told to many at once, so that `recent` ones are remembered.
pub(crate) fn cached_envelope(endpoint: &Endpoint, form: Form, found: &CachedItem, recent: bool) -> Bytes {
    let of_form = if form == Form::Metadata { METADATA_SLOT } else { 0 };
    let slot = PROTOBUF_SLOT | of_form | slot(endpoint);
    let make = || match form {
        Form::Metadata => envelope(&metadata(&found.bytes)),
        Form::Object | Form::Table => envelope(&versioned(endpoint, &found.bytes)),
    };
    match recent {
        true => found.memo(slot, make),
        false => found.known(slot).unwrap_or_else(make),
    }
}

/// A table of one row, whose list metadata is the object's.
pub(crate) fn table(endpoint: &Endpoint, include: Include, bytes: &[u8], now: Timestamp, columns: bool) -> Bytes {
    let tree = parse(bytes);
    let table = api::Table {
        columns: if columns {
            columns_of(endpoint).to_vec()
        } else {
            Vec::new()
        },
        resource_version: tree.resource_version().map(str::to_owned),
        rows: vec![row_of(endpoint, include, tree, now)],
        ..api::Table::default()
    };
    table.to_json().to_string().into()
}

/// The columns of a kind's table in the version of the endpoint.
pub(crate) fn columns_of(endpoint: &Endpoint) -> &[Column] {
    match &endpoint.served().view {
        Some(view) => &view.columns,
        None => &endpoint.resource().columns,
    }
}

/// One row of a table.
pub(crate) fn row(endpoint: &Endpoint, include: Include, bytes: &[u8], now: Timestamp) -> Row {
    row_of(endpoint, include, parse(bytes), now)
}

fn row_of(endpoint: &Endpoint, include: Include, mut tree: Object, now: Timestamp) -> Row {
    if endpoint.kind.custom.is_some() {
        from_storage(endpoint, &mut tree);
    }
    let cells = match &endpoint.served().view {
        Some(view) => (view.cells)(&tree, now),
        None => (endpoint.resource().cells)(&tree, now),
    };
    let object = match include {
        Include::None => Value::Null,
        Include::Object => {
            from_storage(endpoint, &mut tree);
            tree.into_value()
        }
        Include::Metadata => partial(&mut tree),
    };
    Row { cells, object }
}

/// What a row holds of its object when nobody asked for all of it or nothing.
fn partial(tree: &mut Object) -> Value {
    let mut partial = Object::new("meta.k8s.io/v1", "PartialObjectMetadata");
    partial.set("metadata", tree.remove("metadata").unwrap_or_default());
    partial.into_value()
}

/// A Scale, which is a part of any kind, in any form.
pub(crate) fn scale(scale: Value, form: Form, include: Include, now: Timestamp) -> Bytes {
    match form {
        Form::Object => scale.to_string().into(),
        Form::Metadata => metadata(scale.to_string().as_bytes()),
        Form::Table => scale_table(scale, include, now),
    }
}

fn scale_columns() -> Vec<Column> {
    let (desired, available) = (
        "desired number of instances for the scaled object.",
        "actual number of observed instances of the scaled object.",
    );
    vec![
        Column::name(),
        Column::new("Desired", "integer", desired),
        Column::new("Available", "integer", available),
        Column::new("Age", "string", "How long ago the object was created."),
    ]
}

fn scale_table(scale: Value, include: Include, now: Timestamp) -> Bytes {
    let Ok(mut tree) = Object::from_value(scale) else {
        return Bytes::new();
    };
    let count = |path| tree.i64_at(path).unwrap_or_default().into();
    let (desired, available) = (count("spec.replicas"), count("status.replicas"));
    let cells = vec![
        tree.name().into(),
        desired,
        available,
        age(tree.creation_timestamp(), now),
    ];
    let resource_version = tree.resource_version().map(str::to_owned);
    let object = match include {
        Include::None => Value::Null,
        Include::Object => tree.into_value(),
        Include::Metadata => partial(&mut tree),
    };
    let table = api::Table {
        columns: scale_columns(),
        rows: vec![Row { cells, object }],
        resource_version,
        ..api::Table::default()
    };
    table.to_json().to_string().into()
}
