//! Stored bytes in the form a client asked for: another version, metadata only, or a table.
//!
//! What many readers share is made once per object and remembered on the cached item; tables are not, since ages move.

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
use super::verbs::from_storage;
use crate::http::accept::{Form, Include};

/// Which encoding of an item is remembered: its served version, or that version's metadata, each also as protobuf.
const METADATA_SLOT: u8 = 128;
const PROTOBUF_SLOT: u8 = 64;

/// An object in the version of the endpoint.
pub(crate) fn versioned(endpoint: &Endpoint, bytes: &Bytes) -> Bytes {
    if endpoint.is_storage() {
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
    if endpoint.is_storage() {
        return item.bytes.clone();
    }
    item.memo(slot(endpoint), || versioned(endpoint, &item.bytes))
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
    let metadata = serde_json::from_slice::<Head<'_>>(bytes).map_or("{}", |head| head.metadata.get());
    let head = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
    [head.as_bytes(), metadata.as_bytes(), b"}"].concat().into()
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
            endpoint.resource().columns.clone()
        } else {
            Vec::new()
        },
        resource_version: tree.resource_version().map(str::to_owned),
        rows: vec![row_of(endpoint, include, tree, now)],
        ..api::Table::default()
    };
    table.to_json().to_string().into()
}

/// One row of a table.
pub(crate) fn row(endpoint: &Endpoint, include: Include, bytes: &[u8], now: Timestamp) -> Row {
    row_of(endpoint, include, parse(bytes), now)
}

fn row_of(endpoint: &Endpoint, include: Include, mut tree: Object, now: Timestamp) -> Row {
    let cells = (endpoint.resource().cells)(&tree, now);
    let object = match include {
        Include::None => Value::Null,
        Include::Object => {
            from_storage(endpoint, &mut tree);
            tree.into_value()
        }
        Include::Metadata => {
            let mut partial = Object::new("meta.k8s.io/v1", "PartialObjectMetadata");
            partial.set("metadata", tree.remove("metadata").unwrap_or_default());
            partial.into_value()
        }
    };
    Row { cells, object }
}
