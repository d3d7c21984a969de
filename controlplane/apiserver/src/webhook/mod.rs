//! Webhooks: what other programs are asked over TLS, by URL or by the Service in front of them.
//!
//! A Service is reached through its ready endpoints, so that no proxy has to stand between, and by its address where it has
//! none; its certificate must be for `NAME.NAMESPACE.svc`. Answers are bounded in size and time. What a webhook is asked,
//! and what its answer means, is its caller's business.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::names::GroupResource;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::registry::reader::Reader;

/// Bytes of an answer.
const MAX_ANSWER: usize = 32 << 20;
/// Sets of authorities that are remembered.
const MAX_CONFIGS: usize = 64;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Where systems keep the authorities that they trust.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

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
    #[error("{0}")]
    Refused(String),
    #[error("service {name:?} not found")]
    NoService { name: String },
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    CaBundle,
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
    /// By authorities; so that sessions are resumed, and no certificate is read for every call.
    configs: Mutex<HashMap<Vec<u8>, Arc<ClientConfig>>>,
}

impl Caller {
    pub(crate) fn new(reader: Arc<dyn Reader>) -> Self {
        Caller {
            reader,
            configs: Mutex::default(),
        }
    }

    /// Posts JSON; gives the body of a successful answer.
    pub(crate) async fn call(&self, target: &Target, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let url = target.url(timeout);
        let unreachable = |why: String| CallError::Unreachable { url: url.clone(), why };
        let uri: http::Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| unreachable(error.to_string()))?;
        let exchange = async {
            let stream = self.connect(target, &uri).await?;
            exchange(stream, &uri, body).await.map_err(&unreachable)?
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable("context deadline exceeded".to_owned())),
        }
    }

    async fn connect(
        &self,
        target: &Target,
        uri: &http::Uri,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CallError> {
        let unreachable = |why: String| CallError::Unreachable {
            url: uri.to_string(),
            why,
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let addresses = match &target.place {
            Place::Service {
                namespace, name, port, ..
            } => self.endpoints(namespace, name, *port).await?,
            Place::Url(_) => {
                let place = (host.as_str(), uri.port_u16().unwrap_or(443));
                let found = tokio::net::lookup_host(place).await;
                found
                    .map_err(|error| unreachable(format!("dial tcp: lookup {host}: {error}")))?
                    .collect()
            }
        };
        let tls = self.client_config(&target.ca_bundle)?;
        let server = ServerName::try_from(host).map_err(|error| unreachable(error.to_string()))?;
        let mut last = "no endpoints available".to_owned();
        for address in addresses {
            match dial(address, &tls, server.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(why) => last = why,
            }
        }
        Err(unreachable(last))
    }

    fn client_config(&self, ca_bundle: &[u8]) -> Result<Arc<ClientConfig>, CallError> {
        if let Some(known) = self.configs.lock().get(ca_bundle) {
            return Ok(known.clone());
        }
        let made = client_config(ca_bundle)?;
        let mut configs = self.configs.lock();
        if configs.len() >= MAX_CONFIGS {
            configs.clear();
        }
        configs.insert(ca_bundle.to_owned(), made.clone());
        Ok(made)
    }

    /// Where a Service is reached: its ready endpoints, then its own address.
    pub(crate) async fn endpoints(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<SocketAddr>, CallError> {
        let services = GroupResource::new("", "services");
        let found = self.reader.get_fresh(&services, Some(namespace), name).await;
        let Ok(Some(service)) = found else {
            return Err(CallError::NoService { name: name.to_owned() });
        };
        let ports = service.list_at("spec.ports");
        let wanted = ports
            .iter()
            .find(|p| p.get("port").and_then(Value::as_u64) == Some(u64::from(port)));
        let port_name = wanted
            .and_then(|p| p.get("name"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        let slices = self.reader.list(
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

/// A system call's error as Go words it: `connection refused`.
fn errno_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let mut words = text.split(" (os error").next().unwrap_or_default().chars();
    let first = words.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(words).collect()
}

pub(crate) async fn dial(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    server: ServerName<'static>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let connect = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("dial tcp {address}: connect: {}", errno_words(&error)))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(tls.clone());
        connector
            .connect(server, stream)
            .await
            .map_err(|error| tls_words(&error))
    };
    match tokio::time::timeout(CONNECT, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// What is wrong with a certificate, as Go says it.
fn tls_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.as_str() {
        // A signature that does not fit is that of another authority of the same name.
        text if text.contains("UnknownIssuer") || text.contains("BadSignature") => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        text if text.contains("NotValidForName") || text.contains("not valid for name") => {
            format!("tls: failed to verify certificate: x509: {text}")
        }
        text => format!("tls: {text}"),
    }
}

/// Whom a bundle has one believe; an empty one leaves it to the system.
pub(crate) fn roots(ca_bundle: &[u8]) -> Result<RootCertStore, CallError> {
    let mut roots = RootCertStore::empty();
    if ca_bundle.is_empty() {
        roots.clone_from(system_roots());
    } else {
        let (added, _) =
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca_bundle).filter_map(Result::ok));
        if added == 0 {
            return Err(CallError::CaBundle);
        }
    }
    Ok(roots)
}

fn client_config(ca_bundle: &[u8]) -> Result<Arc<ClientConfig>, CallError> {
    let roots = roots(ca_bundle)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|_| CallError::CaBundle)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The authorities that this machine trusts, read once.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let bundle = SYSTEM_ROOTS
            .iter()
            .find_map(|path| std::fs::read(path).ok())
            .unwrap_or_default();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok));
        roots
    })
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

async fn exchange(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    uri: &http::Uri,
    body: Bytes,
) -> Result<Result<Bytes, CallError>, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, host);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        read(response).await
    };
    // The connection lives as long as the exchange, and is driven by it.
    tokio::pin!(connection);
    tokio::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Result<Bytes, CallError>, String> {
    let code = response.status();
    let mut body = response.into_body();
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else { continue };
        if out.len() + data.len() > MAX_ANSWER {
            return Err(format!("the answer is larger than {MAX_ANSWER} bytes"));
        }
        out.extend_from_slice(&data);
    }
    Ok(match code.is_success() {
        true => Ok(out.freeze()),
        false => Err(CallError::Refused(refusal(code, &out))),
    })
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
