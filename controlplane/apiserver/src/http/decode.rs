//! Reading request bodies: the size limit, the media type, and the decoded object.

use api::{Object, Status};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use schema::protobuf::{self, DecodeError};

use super::accept::PROTOBUF;
use super::body::Body;

/// What Kubernetes accepts at most, in bytes.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// Media types of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
}

/// The whole body, or 413.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Status> {
    if let Some(bytes) = body.as_full().cloned() {
        return within_limit(bytes.len()).map(|()| bytes);
    }
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("error reading the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        within_limit(first.len() + joined.len() + data.len())?;
        match (first.is_empty(), joined.is_empty()) {
            (true, true) => first = data,
            _ => {
                if joined.is_empty() {
                    joined.extend_from_slice(&std::mem::take(&mut first));
                }
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

fn within_limit(length: usize) -> Result<(), Status> {
    if length > MAX_BODY {
        return Err(Status::too_large(&format!("limit is {MAX_BODY}")));
    }
    Ok(())
}

/// The media type without its parameters; `None` when there is no header.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// The object in a body as JSON or YAML; protobuf becomes the JSON it stands for.
pub(crate) async fn content(headers: &HeaderMap, body: Body) -> Result<(Bytes, Media), Status> {
    let unfit = |error: DecodeError, _: &[u8]| Status::bad_request(error.to_string());
    content_or(headers, body, unfit).await
}

/// The same for an object that must be of a kind, by which it is spoken of if it is none.
pub(crate) async fn content_of(
    headers: &HeaderMap,
    body: Body,
    version: &str,
    kind: &str,
) -> Result<(Bytes, Media), Status> {
    let unfit = |error: DecodeError, body: &[u8]| {
        Status::bad_request(match &error {
            DecodeError::Envelope => format!(
                "the object provided is unrecognized (must be of type {kind}): {error} ({})",
                summary(body)
            ),
            DecodeError::UnknownKind {
                api_version,
                kind: found,
            } => {
                let version = api_version.rsplit('/').next().unwrap_or_default();
                format!("{found} in version {version:?} cannot be handled as a {kind}: {error}")
            }
            _ => format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"),
        })
    };
    content_or(headers, body, unfit).await
}

async fn content_or(
    headers: &HeaderMap,
    body: Body,
    unfit: impl Fn(DecodeError, &[u8]) -> Status,
) -> Result<(Bytes, Media), Status> {
    if content_type(headers) != Some(PROTOBUF) {
        let media = media(headers, &[JSON, YAML, PROTOBUF])?;
        return Ok((read(body).await?, media));
    }
    let bytes = read(body).await?;
    // None at all is left to whoever reads it.
    if bytes.is_empty() {
        return Ok((bytes, Media::Json));
    }
    let tree = protobuf::decode(&bytes).map_err(|error| unfit(error, &bytes))?;
    Ok((tree.to_string().into(), Media::Json))
}

/// The first bytes of a body in hexadecimal, as Kubernetes shows what it cannot read.
pub(crate) fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let hex: String = body.iter().take(SHOWN).map(|b| format!("{b:02x}")).collect();
    if body.len() > SHOWN { format!("{hex} ...") } else { hex }
}

/// The same for a kind that has no protobuf message.
pub(crate) async fn content_without_protobuf(headers: &HeaderMap, body: Body) -> Result<(Bytes, Media), Status> {
    let media = media(headers, &[JSON, YAML])?;
    Ok((read(body).await?, media))
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The media type of an object in a body, or 415 with those that would do.
fn media(headers: &HeaderMap, accepted: &[&str]) -> Result<Media, Status> {
    match content_type(headers) {
        None | Some("" | JSON) => Ok(Media::Json),
        Some(YAML) => Ok(Media::Yaml),
        Some(_) => Err(Status::unsupported_media_type(accepted)),
    }
}

/// Reads and parses an object that has no schema here.
pub(crate) async fn object(request: http::Request<Body>) -> Result<Object, Status> {
    let (parts, body) = request.into_parts();
    let (bytes, media) = content(&parts.headers, body).await?;
    parse(&bytes, media)
}

/// Parses an object that has no schema here, within the usual bounds on size and depth.
pub(crate) fn parse(bytes: &[u8], media: Media) -> Result<Object, Status> {
    let schema = schema::Schema::preserve_unknown();
    let decoded = match media {
        Media::Json => schema::decode_json(bytes, &schema),
        Media::Yaml => schema::decode_yaml(bytes, &schema),
    };
    decoded
        .map(|d| d.object)
        .map_err(|error| Status::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn kinds_without_a_message_take_no_protobuf() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        let refused = content_without_protobuf(&headers, Body::empty())
            .await
            .expect_err("refused");
        assert_eq!(refused.code, 415);
        assert!(refused.message.ends_with("include: application/json, application/yaml"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/yaml; charset=utf-8"),
        );
        let (_, media) = content_without_protobuf(&headers, Body::from("a: 1"))
            .await
            .expect("taken");
        assert_eq!(media, Media::Yaml);
    }
}
