//! Webhooks: what other programs are asked over TLS, by URL or by the Service in front of them.
//!
//! A Service is reached through its ready endpoints, so that no proxy has to stand between, and by its address where it has
//! none; its certificate must be for `NAME.NAMESPACE.svc`. Answers are bounded in size and time. What a webhook is asked,
//! and what its answer means, is its caller's business.

pub(crate) mod cache;
pub(crate) mod connect;
pub mod endpoint;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::names::GroupResource;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use http_body_util::Full;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use self::connect::{ConnectError, Connector, Kept, Way, collect};

use crate::registry::reader::Reader;

/// Bytes of an answer.
const MAX_ANSWER: usize = 32 << 20;
/// Clients that are kept: more than one for each webhook is not needed.
const MAX_CLIENTS: usize = 256;
/// Where a webhook is, and by whom its certificate is signed: a `clientConfig`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    place: Place,
    /// PEM; empty for the authorities that the system trusts.
    ca_bundle: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Url(String),
    Service {
        namespace: String,
        name: String,
        path: String,
        port: u16,
    },
}

/// Why a webhook gave no answer, as Go's client words it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("Post \"{url}\": {why}")]
    Unreachable { url: String, why: String },
    /// It answered with something other than success.
    #[error("{message}")]
    Refused { code: u16, message: String },
    #[error("service {name:?} not found")]
    NoService { name: String },
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    CaBundle,
}

impl CallError {
    /// Whether the one who was asked says so, and that it may be otherwise soon.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            CallError::Refused {
                code: 429 | 500 | 504,
                ..
            }
        )
    }
}

impl Target {
    /// Reads a `clientConfig` that has been validated.
    pub(crate) fn read(config: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let ca_bundle = STANDARD.decode(text(config.get("caBundle"))).unwrap_or_default();
        let place = match config.get("service").filter(|service| service.is_object()) {
            Some(service) => Place::Service {
                namespace: text(service.get("namespace")),
                name: text(service.get("name")),
                path: text(service.get("path")),
                port: service
                    .get("port")
                    .and_then(Value::as_u64)
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or(443),
            },
            None => Place::Url(text(config.get("url"))),
        };
        Target {
            place,
            ca_bundle: if ca_bundle.trim_ascii().is_empty() {
                Vec::new()
            } else {
                ca_bundle
            },
        }
    }

    /// The URL with the timeout, as errors show it.
    pub(crate) fn url(&self, timeout: Duration) -> String {
        let (base, separator) = match &self.place {
            Place::Url(url) => (url.clone(), if url.contains('?') { '&' } else { '?' }),
            Place::Service {
                namespace,
                name,
                path,
                port,
            } => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                (format!("https://{name}.{namespace}.svc:{port}{slash}{path}"), '?')
            }
        };
        format!("{base}{separator}timeout={}s", timeout.as_secs())
    }
}

/// Calls webhooks.
pub(crate) struct Caller {
    reader: Arc<dyn Reader>,
    kept: Mutex<HashMap<Remembered, Kept<Full<Bytes>>>>,
}

/// What connections are kept by: the Service or the host, and whose certificates are believed.
#[derive(PartialEq, Eq, Hash)]
struct Remembered {
    place: (String, String, u16),
    ca_bundle: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(reader: Arc<dyn Reader>) -> Self {
        Caller {
            reader,
            kept: Mutex::default(),
        }
    }

    /// What connections to Services are found by.
    pub(crate) fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    /// Posts JSON; gives the body of a successful answer.
    pub(crate) async fn call(&self, target: &Target, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let url = target.url(timeout);
        let client = self.client(target, &url)?;
        match tokio::time::timeout(timeout, post(&client, &url, None, body, MAX_ANSWER)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Unreachable {
                url,
                why: "context deadline exceeded".to_owned(),
            }),
        }
    }

    fn client(&self, target: &Target, url: &str) -> Result<Kept<Full<Bytes>>, CallError> {
        let (place, way) = match &target.place {
            Place::Service {
                namespace, name, port, ..
            } => {
                let way = Way::Service {
                    reader: self.reader.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    port: *port,
                };
                ((namespace.clone(), name.clone(), *port), way)
            }
            Place::Url(_) => {
                let uri: Option<http::Uri> = url.parse().ok();
                let host = uri.and_then(|uri| uri.authority().map(ToString::to_string));
                ((String::new(), host.unwrap_or_default(), 0), Way::Direct)
            }
        };
        let remembered = Remembered {
            place,
            ca_bundle: target.ca_bundle.clone(),
        };
        if let Some(known) = self.kept.lock().get(&remembered) {
            return Ok(known.clone());
        }
        let made: Kept<Full<Bytes>> = Connector::new(way, client_config(&target.ca_bundle)?, None).client();
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_CLIENTS {
            kept.clear();
        }
        kept.insert(remembered, made.clone());
        Ok(made)
    }
}

/// Posts JSON; gives the body of a successful answer.
pub(crate) async fn post(
    client: &Kept<Full<Bytes>>,
    url: &str,
    authorization: Option<&HeaderValue>,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, CallError> {
    let unreachable = |why: String| CallError::Unreachable {
        url: url.to_owned(),
        why,
    };
    let mut request = Request::post(url)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(Full::new(body))
        .map_err(|error| unreachable(error.to_string()))?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    }
    let response = client.request(request).await;
    let response = response.map_err(|error| match connect::missing_service(&error) {
        Some(name) => CallError::NoService { name: name.to_owned() },
        None => unreachable(connect::why(&error)),
    })?;
    let (code, body) = collect(response, limit).await.map_err(unreachable)?;
    match code.is_success() {
        true => Ok(body),
        false => Err(CallError::Refused {
            code: code.as_u16(),
            message: refusal(code, &body),
        }),
    }
}

/// Where a Service is reached: its ready endpoints, then its own address.
pub(crate) async fn endpoints(
    reader: &dyn Reader,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let services = GroupResource::new("", "services");
    let found = reader.get_fresh(&services, Some(namespace), name).await;
    let Ok(Some(service)) = found else {
        return Err(ConnectError::NoService { name: name.to_owned() });
    };
    let ports = service.list_at("spec.ports");
    let wanted = ports
        .iter()
        .find(|p| p.get("port").and_then(Value::as_u64) == Some(u64::from(port)));
    let port_name = wanted
        .and_then(|p| p.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let slices = reader.list(
        &GroupResource::new("discovery.k8s.io", "endpointslices"),
        Some(namespace),
    );
    let of_service = slices.iter().filter(|slice| {
        let owner = slice
            .at("metadata.labels")
            .and_then(|labels| labels.get("kubernetes.io/service-name"));
        owner.and_then(Value::as_str) == Some(name)
    });
    let mut addresses: Vec<SocketAddr> = of_service.flat_map(|slice| ready(slice, port_name)).take(8).collect();
    let own = service
        .str_at("spec.clusterIP")
        .and_then(|ip| ip.parse::<IpAddr>().ok());
    addresses.extend(own.map(|ip| SocketAddr::new(ip, port)));
    Ok(addresses)
}

/// The ready addresses of a slice, with the port of that name.
fn ready(slice: &api::Object, port_name: &str) -> Vec<SocketAddr> {
    let ports = slice.list_at("ports").iter();
    let named = |port: &&Value| port.get("name").and_then(Value::as_str).unwrap_or_default() == port_name;
    let port = ports.filter(named).find_map(|port| port.get("port")?.as_u64());
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
        return Vec::new();
    };
    let is_ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
    let addresses = slice
        .list_at("endpoints")
        .iter()
        .filter(is_ready)
        .filter_map(|endpoint| {
            let address = endpoint.get("addresses")?.as_array()?.first()?.as_str()?;
            Some(SocketAddr::new(address.parse().ok()?, port))
        });
    addresses.collect()
}

/// How servers are spoken to whose certificates are signed by the authorities of a bundle.
pub(crate) fn client_config(ca_bundle: &[u8]) -> Result<Arc<ClientConfig>, CallError> {
    tls::config(ca_bundle, false, None).map_err(|_| CallError::CaBundle)
}

/// Whether a bundle holds certificates and nothing else: what is wrong with it otherwise.
pub(crate) fn check_ca_bundle(ca_bundle: &[u8]) -> Option<&'static str> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(ca_bundle) {
        let valid = certificate.is_ok_and(|der| RootCertStore::empty().add(der).is_ok());
        if !valid {
            return Some("unable to load root certificates: error parsing cert: x509: malformed certificate");
        }
        count += 1;
    }
    (count == 0).then_some("unable to load root certificates: unable to parse bytes as PEM block")
}

/// What client-go makes of an answer that is no success.
fn refusal(code: http::StatusCode, body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = status
        .as_ref()
        .and_then(|status| status.get("message"))
        .and_then(Value::as_str);
    match message {
        Some(message) => message.to_owned(),
        None if code == http::StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
        None => {
            let detail: String = String::from_utf8_lossy(body).chars().take(256).collect();
            format!(
                "an error on the server ({detail:?}) has prevented the request from succeeding (code {})",
                code.as_u16()
            )
        }
    }
}
