//! Passing a request on to the server that answers for it: bodies stream both ways, upgrades are joined, and the server is
//! told who asks. Whether the user may has been decided before.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, UPGRADE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::identity;
use super::remote::Remote;
use crate::authn::UserInfo;
use crate::http::body::Body;
use crate::http::respond;
use crate::server::Shared;

/// Passes a request on; `path` is that of the request and its query.
pub(crate) async fn pass(
    server: &Arc<Shared>,
    remote: &Remote,
    user: &UserInfo,
    parts: &Parts,
    body: Body,
    lasts: bool,
) -> Response<Body> {
    if !remote.available {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    }
    let client = match &remote.client {
        Ok(client) => client,
        Err(why) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    let upgrade = parts.headers.contains_key(UPGRADE);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let Some(uri) = uri(remote, path) else {
        return refusal(StatusCode::BAD_REQUEST, "the path makes no request");
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = identity::outgoing(&parts.headers, user, upgrade);
    match client.request(request).await {
        Ok(response) => answer(server, response, parts, lasts),
        Err(error) => {
            let why = format!("error trying to reach service: {}", in_full(&error));
            refusal(StatusCode::SERVICE_UNAVAILABLE, &why)
        }
    }
}

fn uri(remote: &Remote, path: &str) -> Option<Uri> {
    let authority = format!("{}:{}", remote.host(), remote.port);
    Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query(path)
        .build()
        .ok()
}

fn answer(server: &Arc<Shared>, response: Response<Incoming>, parts: &Parts, lasts: bool) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return joined(server, response, parts);
    }
    if response.status().is_redirection() && response.headers().contains_key(LOCATION) {
        let why = "the backend attempted to redirect this request, which is not permitted";
        return refusal(StatusCode::BAD_GATEWAY, why);
    }
    let (mut head, body) = response.into_parts();
    identity::strip(&mut head.headers, false);
    let body = match lasts {
        // A watch would keep the server from ending.
        true => {
            head.headers.remove(CONTENT_LENGTH);
            let ending = server.ending.clone();
            Body::stream(Body::from(body).into_data_stream().take_until(ending.cancelled_owned()))
        }
        false => Body::from(body),
    };
    let mut out = Response::new(body);
    *out.status_mut() = head.status;
    *out.headers_mut() = head.headers;
    out
}

/// Joins the two connections once both have been upgraded, until either ends or the server does.
fn joined(server: &Arc<Shared>, mut response: Response<Incoming>, parts: &Parts) -> Response<Body> {
    let Some(client) = parts.extensions.get::<OnUpgrade>().cloned() else {
        return refusal(StatusCode::BAD_REQUEST, "the connection does not speak HTTP/1.1");
    };
    let backend = hyper::upgrade::on(&mut response);
    let ending = server.ending.clone();
    server.aggregator.tasks.spawn(async move {
        let join = async {
            let (client, backend) = tokio::try_join!(client, backend)?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // Either side may break off at any time.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            Ok::<(), hyper::Error>(())
        };
        tokio::select! {
            joined = join => if let Err(error) = joined {
                tracing::debug!(%error, "an upgraded connection to an aggregated server could not be made");
            },
            () = ending.cancelled() => {}
        }
    });
    let mut out = Response::new(Body::empty());
    *out.status_mut() = response.status();
    *out.headers_mut() = std::mem::take(response.headers_mut());
    out
}

/// Asks a remote on the aggregator's own behalf: the code, the headers and the body, which has at most `limit` bytes.
pub(super) async fn ask(
    remote: &Remote,
    path: &str,
    accept: &'static str,
    user: &UserInfo,
    limit: usize,
) -> Result<(StatusCode, Option<HeaderValue>, Bytes), String> {
    let client = remote.client.as_ref().map_err(Clone::clone)?;
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri(remote, path).ok_or("the path makes no request")?;
    request
        .headers_mut()
        .insert(http::header::ACCEPT, HeaderValue::from_static(accept));
    identity::identify(request.headers_mut(), user);
    let response = client.request(request).await.map_err(|error| in_full(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    Ok((head.status, head.headers.get(CONTENT_TYPE).cloned(), body.to_bytes()))
}

/// Plain text, as Go's `http.Error` has it: a client makes of the code what it is.
fn refusal(code: StatusCode, why: &str) -> Response<Body> {
    let mut response = respond::text(code, format!("{why}\n"));
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What lies at the bottom of an error: the layers above it only say that something failed.
fn in_full(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
