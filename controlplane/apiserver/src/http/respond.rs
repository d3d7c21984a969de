//! The one place where outcomes become responses: objects, lists, and every error as a `Status`.

use std::borrow::Cow;
use std::collections::HashSet;

use api::Status;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::accept::{Accepted, Encoding, PROTOBUF, negotiate_plain};
use super::body::Body;
use super::pretty::Indenter;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
pub(crate) const PROTOBUF_TYPE: HeaderValue = HeaderValue::from_static(PROTOBUF);
pub(crate) const PROTOBUF_STREAM: HeaderValue =
    HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A response with a JSON body.
pub(crate) fn json(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(code, JSON, Body::from(bytes.into()))
}

/// A response of any media type that must not be cached.
pub(crate) fn with_type(code: StatusCode, media: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    response
}

/// Plain text, as the health endpoints answer.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    with_type(
        code,
        HeaderValue::from_static("text/plain; charset=utf-8"),
        Body::from(text.into()),
    )
}

/// A `Status` as a response, with its code and `Retry-After`, in the encoding that the caller takes.
pub(crate) fn status(status: &Status, accept: Option<&str>) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // An error is not hidden behind one of negotiation.
    let accepted = negotiate_plain(accept).unwrap_or(Accepted::JSON);
    let mut response = document(code, status.to_vec().into(), accepted.encoding, accepted.pretty);
    let retry = status
        .details
        .as_ref()
        .map(|details| details.retry_after_seconds)
        .filter(|seconds| *seconds > 0);
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A JSON document in the encoding that was asked for.
pub(crate) fn document(code: StatusCode, json: Bytes, encoding: Encoding, pretty: bool) -> Response<Body> {
    match encoding {
        Encoding::Yaml => match to_yaml(&json) {
            Some(yaml) => with_type(code, YAML, Body::from(yaml)),
            None => unwritable("the object cannot be written as YAML"),
        },
        Encoding::Protobuf => match schema::protobuf::Encoder::default().object(&json) {
            Ok(bytes) => with_type(code, PROTOBUF_TYPE, Body::from(bytes.to_vec())),
            Err(error) => unwritable(&format!("the object cannot be written as protobuf: {error}")),
        },
        Encoding::Json if pretty => self::json(code, Indenter::default().indent(&json)),
        Encoding::Json => self::json(code, json),
    }
}

fn unwritable(why: &str) -> Response<Body> {
    tracing::error!(why, "an answer cannot be encoded");
    json(StatusCode::INTERNAL_SERVER_ERROR, Status::internal(why).to_vec())
}

/// The JSON answer of a handler that knows no other encoding, in the one that was asked for; other media types stay.
pub(crate) fn in_encoding(response: Response<Body>, accepted: Accepted) -> Response<Body> {
    let same = accepted.encoding == Encoding::Json && !accepted.pretty;
    if same || response.headers().get(CONTENT_TYPE) != Some(&JSON) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Some(json) = body.as_full().cloned() else {
        return Response::from_parts(parts, body);
    };
    let (made, body) = document(parts.status, json, accepted.encoding, accepted.pretty).into_parts();
    parts.status = made.status;
    parts.headers.extend(made.headers);
    Response::from_parts(parts, body)
}

/// JSON that comes in chunks, indented.
pub(crate) fn indented(body: Body) -> Body {
    let about = body.about().unwrap_or_default();
    match body.into_chunks() {
        Ok(chunks) => {
            let mut indenter = Indenter::default();
            Body::chunks(chunks.map(move |chunk| indenter.indent(&chunk)), about)
        }
        Err(body) => body,
    }
}

fn to_yaml(json: &Bytes) -> Option<Bytes> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    Some(serde_saphyr::to_string(&value).ok()?.into_bytes().into())
}

/// Characters that all warnings of an answer may have; where they have more, each has only so many, as in Kubernetes.
const MAX_WARNINGS: usize = 4096;
const MAX_WARNING: usize = 256;

/// The texts without doubles, cut to what an answer's head takes.
fn told(texts: &[String]) -> Vec<String> {
    let mut known = HashSet::new();
    let once = texts.iter().filter(|text| known.insert(text.as_str()));
    let told: Vec<String> = once.take(MAX_WARNINGS).cloned().collect();
    let length = |text: &String| text.chars().count();
    if told.iter().map(length).sum::<usize>() <= MAX_WARNINGS {
        return told;
    }
    let cut = told
        .into_iter()
        .map(|text| text.chars().take(MAX_WARNING).collect::<String>());
    let mut left = MAX_WARNINGS;
    let fits = |text: &String| {
        let length = length(text);
        let fits = length <= left;
        left = left.saturating_sub(length);
        fits
    };
    cut.take_while(fits).collect()
}

/// Adds `Warning: 299 - "text"` for each text, the way kubectl shows them.
pub(crate) fn warn(headers: &mut HeaderMap, texts: &[String]) {
    for text in told(texts) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let line: String = quoted.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{line}\"").as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}

/// What a store's failure is to a user; its detail goes to the log.
pub(crate) fn store_error(error: store::Error) -> Status {
    use store::Error;
    match &error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided request is too old."),
        Error::FutureRevision { asked, current } => {
            Status::timeout(&format!("Too large resource version: {asked}, current: {current}"), 1)
        }
        Error::Timeout { revision } => Status::timeout(
            &format!("the server has not come to resource version {revision} yet"),
            1,
        ),
        Error::Full { place } => {
            tracing::error!(%place, "the store has no space left");
            Status::internal(&format!("the store has no space left: free space on {place}"))
        }
        Error::Closed => Status::service_unavailable("the server is shutting down".to_owned()),
        Error::TooLarge => Status::too_large("Request entity too large: the object is larger than the store takes"),
        // Not 503, which clients take for "not done" and answer by doing it again.
        Error::Undecided { .. } => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the outcome of a write is not known"
            );
            Status::timeout(
                "the store did not say whether the request was carried out: look before trying again",
                0,
            )
        }
        Error::Unavailable { .. } | Error::Corrupt { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
            let mut status = Status::service_unavailable("the store is unavailable, try again".to_owned());
            status.details.get_or_insert_default().retry_after_seconds = 1;
            status
        }
    }
}

/// Why a patch could not be applied.
pub(crate) fn patch_error(error: schema::patch::PatchError) -> Status {
    use schema::patch::PatchError;
    match &error {
        PatchError::Malformed { .. } | PatchError::Directive { .. } => Status::bad_request(error.to_string()),
        PatchError::TooManyOperations { .. } | PatchError::TooLarge { .. } => Status::too_large(&error.to_string()),
        PatchError::Unapplicable { message } => {
            // Kubernetes answers with a generic 422 that keeps the reason to itself.
            tracing::debug!(why = %message, "a patch does not apply");
            let mut status = Status::internal("");
            status.code = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
            "Invalid".clone_into(&mut status.reason);
            "the server rejected our request due to an error in our request".clone_into(&mut status.message);
            status.details = Some(Box::default());
            status
        }
    }
}

/// A text that is safe as a header value.
pub(crate) fn header_text(text: &str) -> HeaderValue {
    let clean: Cow<'_, str> = match text.chars().any(char::is_control) {
        true => text.chars().filter(|c| !c.is_control()).collect::<String>().into(),
        false => text.into(),
    };
    HeaderValue::from_bytes(clean.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}
