//! Reading request bodies: the size limit, the media type, and the decoded object.

use api::{Object, Status};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;

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
    if content_type(headers) == Some(PROTOBUF) {
        let bytes = read(body).await?;
        return Ok((from_protobuf(&bytes)?, Media::Json));
    }
    let media = media(headers, &[JSON, YAML, PROTOBUF])?;
    Ok((read(body).await?, media))
}

/// The same for a kind that has no protobuf message.
pub(crate) async fn content_without_protobuf(headers: &HeaderMap, body: Body) -> Result<(Bytes, Media), Status> {
    let media = media(headers, &[JSON, YAML])?;
    Ok((read(body).await?, media))
}

/// A body as the JSON it stands for. None at all is left to whoever reads it.
fn from_protobuf(body: &Bytes) -> Result<Bytes, Status> {
    if body.is_empty() {
        return Ok(body.clone());
    }
    match schema::protobuf::decode(body) {
        Ok(tree) => Ok(tree.to_string().into()),
        Err(error) => Err(Status::bad_request(error.to_string())),
    }
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
