//! `/openapi/v2`: the one document of all groups, those of aggregated servers too, as JSON and as the protobuf that client-go
//! asks for.
//!
//! It is half a megabyte that few ask for: it is made on request, shared by all who are being answered, and gone with the
//! last of them. What stays is its hash, by which clients keep it.

use std::sync::{Arc, Weak};

use api::Status;
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use schema::openapi::V2Format;
use tokio::sync::Mutex;

use super::hash;
use crate::http::accept::choose;
use crate::http::body::Body;
use crate::http::respond;
use crate::server::Shared;

/// What clients name, and how it is written. The `@` is not a character of media types: clients ask with it, and are
/// answered without it, as Kubernetes answers.
const OFFERED: [(&str, V2Format); 3] = [
    ("application/json", V2Format::Json),
    (
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        V2Format::Protobuf,
    ),
    (
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        V2Format::Protobuf,
    ),
];

/// The document in its two formats.
#[derive(Default)]
pub(super) struct Documents {
    json: Document,
    protobuf: Document,
}

#[derive(Default)]
struct Document {
    /// Of the document of a version of the registry.
    etag: parking_lot::Mutex<Option<(u64, HeaderValue)>>,
    /// Locked while it is being made, so that it is made once for all who wait.
    shared: Mutex<(u64, Weak<Bytes>)>,
}

impl Documents {
    fn of(&self, format: V2Format) -> &Document {
        match format {
            V2Format::Json => &self.json,
            V2Format::Protobuf => &self.protobuf,
        }
    }
}

/// Holds the document for one answer.
struct Holder(Arc<Bytes>);

impl AsRef<[u8]> for Holder {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

pub(in crate::http) async fn answer(server: &Arc<Shared>, parts: &Parts) -> Result<Response<Body>, Status> {
    let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = choose(accept, &OFFERED).ok_or_else(|| Status::not_acceptable(&OFFERED.map(|(media, _)| media)))?;
    let document = server.openapi.v2.of(format);
    let media = match format {
        V2Format::Json => respond::JSON,
        V2Format::Protobuf => HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
    };
    let now = server.registry.version();
    let known = document.etag(now).filter(|etag| is_known(&parts.headers, etag));
    let (code, body) = match known {
        Some(_) => (StatusCode::NOT_MODIFIED, Body::empty()),
        None => {
            let bytes = document.bytes(server, format, now).await?;
            match document.etag(now).filter(|etag| is_known(&parts.headers, etag)) {
                Some(_) => (StatusCode::NOT_MODIFIED, Body::empty()),
                None => (StatusCode::OK, Body::from(Bytes::from_owner(Holder(bytes)))),
            }
        }
    };
    let mut response = respond::with_type(code, media, body);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Some(etag) = document.etag(now) {
        headers.insert(ETAG, etag);
    }
    Ok(response)
}

fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let asked = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    asked.is_some_and(|asked| asked.split(',').any(|known| known.trim() == etag))
}

impl Document {
    /// The tag of the document of a version of the registry, if it has been made.
    fn etag(&self, version: u64) -> Option<HeaderValue> {
        let known = self.etag.lock();
        known
            .as_ref()
            .filter(|(of, _)| *of == version)
            .map(|(_, etag)| etag.clone())
    }

    async fn bytes(&self, server: &Arc<Shared>, format: V2Format, version: u64) -> Result<Arc<Bytes>, Status> {
        let mut shared = self.shared.lock().await;
        if let Some(made) = shared.1.upgrade().filter(|_| shared.0 == version) {
            return Ok(made);
        }
        let maker = server.clone();
        // Making it takes long enough to keep other requests waiting.
        let made = tokio::task::spawn_blocking(move || {
            let remotes = maker.aggregator.remotes();
            let others: Vec<_> = remotes.iter().map(|remote| maker.aggregator.offer(remote)).collect();
            let bytes = maker.openapi.v2_document(format, &maker.version, &others);
            let hash = hash(&bytes);
            (Arc::new(bytes), hash)
        });
        let (bytes, hash) = made
            .await
            .map_err(|_| Status::internal("the OpenAPI document could not be made"))?;
        *self.etag.lock() = Some((version, respond::header_text(&format!("\"{hash}\""))));
        *shared = (version, Arc::downgrade(&bytes));
        Ok(bytes)
    }
}
