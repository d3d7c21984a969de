//! Passing a request on, and its answer back: bodies stream both ways, upgrades are joined, redirects stay within the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use api::Status;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, LOCATION, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aggregation::{strip, without_bearer};
use crate::http::body::Body;
use crate::http::dial::Connection;
use crate::registry::virtuals::{Request, Response};
use crate::webhook::tls;

/// How long a pod may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// What is moved at once on a joined connection.
const BUFFER: usize = 64 * 1024;

/// Whom a request goes to.
pub(super) enum To {
    /// Over TLS or not.
    Address(SocketAddr, bool),
    Node(Box<dyn Connection>),
}

/// Passes requests on.
pub(super) struct Forward {
    tasks: TaskTracker,
}

impl Forward {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { tasks }
    }

    /// Passes a request on to `path`; `before` is the part of its own path that the other server knows nothing of.
    pub(super) async fn pass(
        &self,
        to: To,
        mut request: Request,
        before: &str,
        path: &str,
        ending: CancellationToken,
    ) -> Result<Response, Status> {
        let host = match &to {
            To::Address(address, _) => address.to_string(),
            To::Node(_) => "kubelet".to_owned(),
        };
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let upgrade = request.headers().contains_key(UPGRADE);
        prepare(request.headers_mut(), &host, before, upgrade);
        *request.uri_mut() = path
            .parse()
            .map_err(|_| Status::bad_request("the path makes no request"))?;
        let failed = |error: &dyn std::error::Error| {
            Status::service_unavailable(format!("error trying to reach service: {error}"))
        };
        let connection = connect(to).await.map_err(|error| failed(&error))?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .map_err(|error| failed(&error))?;
        self.tasks.spawn(async move {
            // Whoever reads the answer sees how it ends.
            let _ = driver.with_upgrades().await;
        });
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = client.ok_or_else(|| Status::bad_request("the connection does not speak HTTP/1.1"))?;
            return Ok(self.join(client, response, ending));
        }
        Ok(answer(response, &host, before, ending))
    }

    /// Joins the two connections once both have been upgraded, until either ends or the server does.
    fn join(&self, client: OnUpgrade, mut response: http::Response<Incoming>, ending: CancellationToken) -> Response {
        let upgraded = hyper::upgrade::on(&mut response);
        self.tasks.spawn(async move {
            let join = async {
                let (client, other) = tokio::try_join!(client, upgraded)?;
                let (mut client, mut other) = (TokioIo::new(client), TokioIo::new(other));
                // Either side may break off at any time.
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut other, BUFFER, BUFFER).await;
                Ok::<(), hyper::Error>(())
            };
            if let Some(Err(error)) = ending.run_until_cancelled(Box::pin(join)).await {
                tracing::debug!(%error, "a proxied connection was not upgraded");
            }
        });
        let mut out = http::Response::new(Body::empty());
        *out.status_mut() = response.status();
        *out.headers_mut() = std::mem::take(response.headers_mut());
        out
    }
}

/// What the other server is told: nothing of the caller's credentials, and by which way it was reached.
fn prepare(headers: &mut HeaderMap, host: &str, before: &str, upgrade: bool) {
    strip(headers, upgrade);
    headers.remove(AUTHORIZATION);
    without_bearer(headers);
    let original = headers.remove(HOST);
    let value = |text: &str| HeaderValue::from_str(text).ok();
    headers.extend(value(host).map(|host| (HOST, host)));
    let name = HeaderName::from_static;
    headers.extend(original.map(|host| (name("x-forwarded-host"), host)));
    headers.insert(name("x-forwarded-proto"), HeaderValue::from_static("https"));
    headers.extend(value(before).map(|before| (name("x-forwarded-uri"), before)));
}

fn answer(response: http::Response<Incoming>, host: &str, before: &str, ending: CancellationToken) -> Response {
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers, false);
    if let Some(location) = head
        .headers
        .get(LOCATION)
        .and_then(|location| relocated(location, host, before))
    {
        head.headers.insert(LOCATION, location);
    }
    // What lasts would keep the server from ending; cut short, it no longer has the length that was promised.
    let endless = !head.headers.contains_key(CONTENT_LENGTH);
    let body = match endless {
        true => Body::stream(Body::from(body).into_data_stream().take_until(ending.cancelled_owned())),
        false => Body::from(body),
    };
    let mut out = http::Response::new(body);
    *out.status_mut() = head.status;
    *out.headers_mut() = head.headers;
    out
}

/// A redirect to the same server, as it is reached through the proxy; `None`: it leads elsewhere, or is relative.
fn relocated(location: &HeaderValue, host: &str, before: &str) -> Option<HeaderValue> {
    let location = location.to_str().ok()?;
    let absolute = ["http://", "https://"]
        .iter()
        .find_map(|scheme| location.strip_prefix(scheme));
    let path = match absolute {
        Some(rest) => match rest.strip_prefix(host)? {
            "" => "/",
            path => path,
        },
        None => location,
    };
    let inside = path.starts_with('/') && !path.starts_with("//");
    HeaderValue::from_str(&format!("{before}{path}"))
        .ok()
        .filter(|_| inside)
}

async fn connect(to: To) -> std::io::Result<Box<dyn Connection>> {
    let (address, tls) = match to {
        To::Node(connection) => return Ok(connection),
        To::Address(address, tls) => (address, tls),
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if !tls {
            return Ok(Box::new(stream) as Box<dyn Connection>);
        }
        // Pods' certificates are signed by whom they like: as in Kubernetes, TLS towards them keeps nothing but listeners
        // out. No credentials are ever sent there.
        let unverified = tls::config(&[], true, None).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(unverified);
        let stream = connector
            .connect(ServerName::IpAddress(address.ip().into()), stream)
            .await?;
        Ok(Box::new(stream) as Box<dyn Connection>)
    };
    timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_the_proxy() {
        let cases = [
            ("/login?x=1", Some("/proxy/login?x=1")),
            ("http://10.0.0.1:80/a", Some("/proxy/a")),
            ("http://10.0.0.1:80", Some("/proxy/")),
            ("http://elsewhere/a", None),
            ("http://10.0.0.1:80.evil/a", None),
            ("//elsewhere/a", None),
            ("relative", None),
        ];
        for (location, expected) in cases {
            let found = relocated(&HeaderValue::from_static(location), "10.0.0.1:80", "/proxy");
            let found = found.as_ref().map(|value| value.to_str().expect("text"));
            assert_eq!(found, expected, "{location}");
        }
    }

    #[test]
    fn credentials_go_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("host", "api"),
            ("connection", "x-private"),
            ("x-private", "1"),
            ("accept", "text/html"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        prepare(&mut headers, "10.0.0.1:80", "/before", false);
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert!(
            !names.contains(&"authorization") && !names.contains(&"x-private"),
            "{names:?}"
        );
        assert_eq!(headers.get(HOST).expect("a host"), "10.0.0.1:80");
        assert_eq!(headers.get("x-forwarded-host").expect("a host"), "api");
        assert_eq!(headers.get("x-forwarded-uri").expect("a path"), "/before");
    }
}
