//! gzip, where it helps: only when asked, only large answers, and never to a client on the same machine, for which it
//! costs more than the list itself.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderValue, Response};

use super::body::Body;

/// Answers below this size, in bytes, go out as they are.
const WORTHWHILE: usize = 128 * 1024;

/// Compresses a response of known, large size.
pub(crate) fn gzip(mut response: Response<Body>) -> Response<Body> {
    if response.body().about().is_none_or(|about| about < WORTHWHILE) {
        return response;
    }
    let about = response.body().about().unwrap_or_default();
    let body = std::mem::replace(response.body_mut(), Body::empty());
    match body.into_chunks() {
        Ok(chunks) => {
            *response.body_mut() = Body::chunks(
                Compressed {
                    chunks,
                    encoder: Some(encoder()),
                },
                about,
            );
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        Err(body) => *response.body_mut() = body,
    }
    response
}

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

struct Compressed {
    chunks: Box<dyn Iterator<Item = Bytes> + Send>,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for Compressed {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let encoder = self.encoder.as_mut()?;
            let Some(chunk) = self.chunks.next() else {
                let last = self.encoder.take()?.finish().expect("memory takes every write");
                return Some(last.into());
            };
            encoder.write_all(&chunk).expect("memory takes every write");
            let ready = std::mem::take(encoder.get_mut());
            if !ready.is_empty() {
                return Some(ready.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;

    fn response(length: usize) -> (Response<Body>, Vec<u8>) {
        let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let chunks: Vec<Bytes> = content.chunks(64 * 1024).map(Bytes::copy_from_slice).collect();
        (Response::new(Body::chunks(chunks.into_iter(), length)), content)
    }

    #[tokio::test]
    async fn large_answers_come_back_as_they_were() {
        let (response, content) = response(300 * 1024);
        let response = gzip(response);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let packed = response.into_body().collect().await.expect("a body").to_bytes();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed)
            .read_to_end(&mut unpacked)
            .expect("gzip");
        assert_eq!(unpacked, content);
    }

    #[test]
    fn small_answers_stay_as_they_are() {
        let (response, _) = response(1024);
        assert!(gzip(response).headers().get(CONTENT_ENCODING).is_none());
    }
}
