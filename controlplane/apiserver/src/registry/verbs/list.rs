//! list: a page of objects, streamed from their stored bytes in chunks of about 64 KB.

mod protobuf;

use api::time::Timestamp;
use api::{Status, Table};
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use super::Call;
use super::page::{Listed, Page, page};
use crate::http::accept::{Encoding, Form, Include};
use crate::http::body::Body;
use crate::registry::catalog::Endpoint;
use crate::registry::render;
use crate::registry::select::Selection;

/// Size of the chunks a list goes out in, in bytes.
const CHUNK: usize = 64 * 1024;

/// The body of a list in the form that was asked for, as JSON or protobuf.
pub(crate) async fn list(call: &Call<'_>, include: Include) -> Result<Body, Status> {
    let selection = Selection::parse(call.query, call.endpoint.resource(), None)?;
    let page = page(call, &selection).await?;
    Ok(match call.accepted.form {
        form if call.accepted.encoding == Encoding::Protobuf => {
            protobuf::body(call.endpoint.clone(), form, page).await?
        }
        Form::Table => table(call.endpoint, include, &page, call.now),
        form => stream(call.endpoint.clone(), form, page),
    })
}

fn table(endpoint: &Endpoint, include: Include, page: &Page, now: Timestamp) -> Body {
    let row = |listed: &Listed| render::row(endpoint, include, listed.stored(), now);
    let table = Table {
        columns: endpoint.resource().columns.clone(),
        rows: page.items.iter().map(row).collect(),
        resource_version: Some(page.revision.to_string()),
        continue_token: page.next.clone(),
        remaining_item_count: page.remaining.and_then(|count| i64::try_from(count).ok()),
    };
    Body::from(table.to_json().to_string().into_bytes())
}

fn stream(endpoint: Endpoint, form: Form, page: Page) -> Body {
    let length = page.items.iter().map(|listed| listed.stored().len() + 1).sum::<usize>();
    let mut out = BytesMut::with_capacity(CHUNK.min(length + 256));
    out.extend_from_slice(&head(&endpoint, form, &page));
    let mut items = page.items.into_iter().peekable();
    let mut out = Some(out);
    let chunks = std::iter::from_fn(move || {
        let mut chunk = out.take()?;
        while let Some(listed) = items.next() {
            chunk.extend_from_slice(&listed.rendered(&endpoint, form));
            if items.peek().is_some() {
                chunk.extend_from_slice(b",");
                if chunk.len() >= CHUNK {
                    out = Some(BytesMut::with_capacity(CHUNK));
                    return Some(chunk.freeze());
                }
            }
        }
        chunk.extend_from_slice(b"]}");
        Some(chunk.freeze())
    });
    Body::chunks(chunks, length)
}

/// `metav1.ListMeta`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    continue_: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_item_count: Option<u64>,
}

/// The kind and version of a list in a form.
pub(super) fn list_type(endpoint: &Endpoint, form: Form) -> (&str, &str) {
    match form {
        Form::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1"),
        Form::Object | Form::Table => (&*endpoint.resource().list_kind, &*endpoint.served().api_version),
    }
}

fn metadata(page: &Page) -> Value {
    json!(Metadata {
        resource_version: page.revision.to_string(),
        continue_: page.next.as_deref(),
        remaining_item_count: page.remaining,
    })
}

/// Everything up to the first item.
fn head(endpoint: &Endpoint, form: Form, page: &Page) -> Vec<u8> {
    let (kind, version) = list_type(endpoint, form);
    let (kind, version, metadata) = (json!(kind), json!(version), metadata(page));
    format!(r#"{{"kind":{kind},"apiVersion":{version},"metadata":{metadata},"items":["#).into_bytes()
}

impl Listed {
    /// In the storage version.
    fn stored(&self) -> &Bytes {
        match self {
            Listed::Cached(item) => &item.bytes,
            Listed::Past(bytes) => bytes,
        }
    }

    fn rendered(&self, endpoint: &Endpoint, form: Form) -> Bytes {
        match (self, form) {
            (Listed::Cached(item), _) => render::cached(endpoint, form, item),
            (Listed::Past(bytes), Form::Metadata) => render::metadata(bytes),
            (Listed::Past(bytes), Form::Object | Form::Table) => render::versioned(endpoint, bytes),
        }
    }
}
