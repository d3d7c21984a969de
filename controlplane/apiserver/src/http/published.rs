//! Documents that are the same for everybody and seldom change, at paths of their own.

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::body::Body;
use super::respond;

/// For how long clients may keep one; as Kubernetes.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// A document with its path and media type.
pub(crate) struct Published {
    path: &'static str,
    media: &'static str,
    bytes: Bytes,
}

impl Published {
    pub(crate) fn new(path: &'static str, media: &'static str, document: &Value) -> Self {
        Published {
            path,
            media,
            bytes: document.to_string().into(),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }
}

/// The document at a path, if there is one.
pub(super) fn answer(documents: &[Published], path: &str) -> Option<Response<Body>> {
    let found = documents.iter().find(|document| document.path == path)?;
    let body = Body::from(found.bytes.clone());
    let mut response = respond::with_type(StatusCode::OK, HeaderValue::from_static(found.media), body);
    response.headers_mut().insert(CACHE_CONTROL, KEPT);
    Some(response)
}
