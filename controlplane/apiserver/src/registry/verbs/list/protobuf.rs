//! Lists as protobuf: each item is written from its stored JSON when the connection has room for it.
//!
//! An envelope names its length first, so the lengths of all items must be known before the first goes out. A short list
//! is simply held. Of a long one the items are measured, which is remembered, and written again when their turn comes.

use api::Status;
use bytes::Bytes;
use schema::protobuf::{Encoder, LIST_END, Message, item_length, list_head, put_item};

use super::super::page::{Listed, Page};
use super::{CHUNK, list_type, metadata};
use crate::http::accept::Form;
use crate::http::body::Body;
use crate::registry::catalog::Endpoint;
use crate::registry::render;

/// A list whose stored JSON is up to this long is encoded once and held until it is sent, in bytes.
const HELD: usize = 512 * 1024;
/// So many items are measured before others get their turn.
const MEASURED_AT_ONCE: usize = 128;

pub(super) async fn body(endpoint: Endpoint, form: Form, page: Page) -> Result<Body, Status> {
    let (kind, version) = list_type(&endpoint, form);
    let head = |length| list_head(version, kind, metadata(&page).to_string().as_bytes(), length).map_err(unwritable);
    let mut items = Items::of(&endpoint, form)?;
    let stored: usize = page.items.iter().map(|listed| listed.stored().len()).sum();
    if stored <= HELD {
        let mut held = Vec::with_capacity(stored);
        for listed in &page.items {
            put_item(&mut held, items.encode(listed)?);
        }
        let mut out = head(held.len())?;
        out.extend_from_slice(&held);
        out.extend_from_slice(&LIST_END);
        return Ok(Body::from(out));
    }
    let mut length = 0;
    for (nth, listed) in page.items.iter().enumerate() {
        length += item_length(items.measure(listed)?);
        if nth % MEASURED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    let head = head(length)?;
    let whole = head.len() + length + LIST_END.len();
    Ok(Body::chunks(chunks(items, page, head), whole))
}

/// The list in pieces, each made when it is asked for.
fn chunks(mut items: Items, page: Page, head: Vec<u8>) -> impl Iterator<Item = Bytes> {
    let mut listed = page.items.into_iter();
    let mut next = Some(head);
    std::iter::from_fn(move || {
        let mut chunk = next.take()?;
        for listed in listed.by_ref() {
            // It has been encoded before, to be measured. A list that breaks off does not have the length it names.
            let item = items.encode(&listed).ok()?;
            put_item(&mut chunk, item);
            if chunk.len() >= CHUNK {
                next = Some(Vec::with_capacity(CHUNK + CHUNK / 8));
                return Some(chunk.into());
            }
        }
        chunk.extend_from_slice(&LIST_END);
        Some(chunk.into())
    })
}

/// Encodes the items of a list.
struct Items {
    endpoint: Endpoint,
    form: Form,
    message: Message,
    encoder: Encoder,
}

impl Items {
    fn of(endpoint: &Endpoint, form: Form) -> Result<Self, Status> {
        let (version, kind) = match form {
            Form::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            Form::Object | Form::Table => (&*endpoint.served().api_version, &*endpoint.resource().kind),
        };
        let message = Message::of_kind(version, kind);
        let message = message.ok_or_else(|| Status::internal(&format!("{kind} has no protobuf message")))?;
        Ok(Items {
            endpoint: endpoint.clone(),
            form,
            message,
            encoder: Encoder::default(),
        })
    }

    fn encode(&mut self, listed: &Listed) -> Result<&[u8], Status> {
        let json = match self.form {
            Form::Metadata => render::metadata(listed.stored()),
            Form::Object | Form::Table => render::versioned(&self.endpoint, listed.stored()),
        };
        self.encoder.message(self.message, &json).map_err(unwritable)
    }

    /// How long an item is. That of a whole object in its storage version is remembered with it.
    fn measure(&mut self, listed: &Listed) -> Result<usize, Status> {
        match listed {
            Listed::Cached(item) if self.form == Form::Object && self.endpoint.is_storage() => {
                item.entry.protobuf_length(|| self.encode(listed).map(<[u8]>::len))
            }
            _ => self.encode(listed).map(<[u8]>::len),
        }
    }
}

fn unwritable(error: schema::protobuf::EncodeError) -> Status {
    Status::internal(&format!("an item of the list cannot be written as protobuf: {error}"))
}
