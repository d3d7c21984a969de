//! HTTP to one endpoint: redirects, and bounds on time and size. Knows nothing of registries.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

use super::{
    error::{RegistryError, printable, root_cause},
    hosts::Endpoint,
    limits::{Limits, Pace},
    tls,
};

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// What a registry's log shows.
const USER_AGENT: &str = concat!("wherry/", env!("CARGO_PKG_VERSION"));

/// Sends requests to one endpoint and where it redirects to.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

/// A request that can be sent more than once.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Outgoing {
    pub(super) fn get(uri: Uri) -> Self {
        Self {
            method: Method::GET,
            uri,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

/// An answer, with the address that gave it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) url: String,
    pub(super) response: Response<Incoming>,
}

impl Transport {
    /// Reads the files that the endpoint's trust names.
    pub(super) fn new(endpoint: &Endpoint, limits: &Limits) -> Result<Self, RegistryError> {
        let mut dialer = HttpConnector::new();
        dialer.enforce_http(false);
        dialer.set_nodelay(true);
        dialer.set_connect_timeout(Some(endpoint.dial_timeout.unwrap_or(limits.connect)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(&endpoint.trust)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialer);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            limits: limits.clone(),
        })
    }

    /// Sends a request and waits for the beginning of the answer; a `GET` or `HEAD` follows redirects. Credentials go to
    /// nobody but the host that was asked.
    pub(super) async fn send(&self, mut outgoing: Outgoing) -> Result<Answer, RegistryError> {
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(&outgoing).await?;
            let followed = [Method::GET, Method::HEAD].contains(&outgoing.method);
            if !followed || !answer.response.status().is_redirection() {
                return Ok(answer);
            }
            let next = redirected(&outgoing.uri, answer.response.headers())
                .map_err(|what| RegistryError::Wrong { url: answer.url, what })?;
            if origin(&next) != origin(&outgoing.uri) {
                outgoing.headers.remove(header::AUTHORIZATION);
            }
            outgoing.uri = next;
        }
        Err(RegistryError::Wrong {
            url: place(&outgoing.uri),
            what: format!("it redirects more than {MAX_REDIRECTS} times"),
        })
    }

    async fn once(&self, outgoing: &Outgoing) -> Result<Answer, RegistryError> {
        let url = place(&outgoing.uri);
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.uri.clone();
        *request.headers_mut() = outgoing.headers.clone();
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        // Sending takes its time too.
        let patience = self.limits.answer + Duration::from_secs(outgoing.body.len() as u64 / self.limits.least.max(1));
        match tokio::time::timeout(patience, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(Answer { url, response }),
            Ok(Err(error)) => Err(RegistryError::Unreachable {
                url,
                reason: root_cause(&error),
            }),
            Err(_elapsed) => Err(RegistryError::Timeout { url, after: patience }),
        }
    }

    /// The frames of an answer's body, as long as they come fast enough.
    pub(super) fn body(&self, answer: Answer) -> Body {
        Body {
            url: answer.url,
            frames: answer.response.into_body(),
            pace: Pace::new(&self.limits, Instant::now()),
            window: self.limits.window,
            received: 0,
        }
    }

    /// A whole body of at most `limit` bytes.
    pub(super) async fn read(&self, answer: Answer, limit: u64) -> Result<Bytes, RegistryError> {
        let mut body = self.body(answer);
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            if whole.len() as u64 + chunk.len() as u64 > limit {
                return Err(RegistryError::Wrong {
                    url: body.url,
                    what: format!("its answer is longer than the {limit} bytes that are allowed"),
                });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

/// A body that arrives.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) url: String,
    frames: Incoming,
    pace: Pace,
    window: Duration,
    received: u64,
}

impl Body {
    /// The next part; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.frames).poll_frame(context));
            let arrived = tokio::time::timeout_at(self.pace.until(), frame).await;
            if let Ok(Some(Ok(frame))) = &arrived {
                self.pace.count(frame.data_ref().map_or(0, Bytes::len));
            }
            if let Some(received) = self.pace.too_slow(Instant::now()) {
                return Err(RegistryError::Slow {
                    url: self.url.clone(),
                    received,
                    window: self.window,
                });
            }
            match arrived {
                Err(_elapsed) => {}
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(_broken))) => {
                    let expected = self.frames.size_hint().lower();
                    return Err(RegistryError::Cut {
                        url: self.url.clone(),
                        received: self.received,
                        expected: self.received.saturating_add(expected),
                    });
                }
            }
        }
    }
}

/// The scheme and host of an address, for messages: never its query, which may hold a signature.
pub(super) fn place(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    format!("{scheme}://{authority}")
}

fn origin(uri: &Uri) -> (Option<&str>, Option<&str>, Option<u16>) {
    (uri.scheme_str(), uri.host(), uri.port_u16())
}

/// Where a redirect leads. Never from TLS into the clear.
fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri, String> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or("it redirects to nowhere")?;
    let next = absolute(from, location).ok_or_else(|| format!("it redirects to \"{}\"", printable(location)))?;
    if from.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        return Err(format!("it redirects from TLS to {} without it", place(&next)));
    }
    Ok(next)
}

/// Resolves a reference against the address it was found at; what registries use of RFC 3986.
pub(super) fn absolute(base: &Uri, reference: &str) -> Option<Uri> {
    let text = if reference.starts_with("http://") || reference.starts_with("https://") {
        reference.to_owned()
    } else if let Some(rest) = reference.strip_prefix("//") {
        format!("{}://{rest}", base.scheme_str()?)
    } else if reference.starts_with('/') {
        format!("{}{reference}", place(base))
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{}{directory}/{reference}", place(base))
    };
    text.parse().ok().filter(|uri: &Uri| uri.authority().is_some())
}

/// When a registry asks to come again; dates are not heeded.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether a status calls for the error document.
pub(super) fn is_error(status: StatusCode) -> bool {
    !status.is_success()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_and_never_leave_tls() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/uploads/".parse().unwrap();
        for (reference, expected) in [
            ("https://cdn.example/x?sig=1", Some("https://cdn.example/x?sig=1")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("/v2/a?state=1", Some("https://r.example:5000/v2/a?state=1")),
            ("next", Some("https://r.example:5000/v2/a/blobs/uploads/next")),
            ("http://[", None),
        ] {
            let found = absolute(&base, reference).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{reference}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            header::LOCATION,
            HeaderValue::from_static("http://cdn.example/x?secret=1"),
        );
        let refused = redirected(&base, &headers).unwrap_err();
        assert_eq!(refused, "it redirects from TLS to http://cdn.example without it");
    }
}
