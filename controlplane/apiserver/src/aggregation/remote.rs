//! An aggregated server as its APIService describes it, and the connections to it. They are kept for the next request, and
//! each goes to an endpoint of the Service; the server's certificate must be for `NAME.NAMESPACE.svc`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::Object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Aggregator, ProxyClient};
use crate::http::body::Body;
use crate::webhook;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS: usize = 8;

/// A group and version that another server answers for.
pub(crate) struct Remote {
    /// Of the APIService.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// Whether it was there when it was last asked.
    pub(crate) available: bool,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) uid: String,
    /// The `Available` condition, as stored.
    pub(super) condition: Option<Value>,
    spec: Value,
    /// Or why there can be none.
    pub(super) client: Result<Client<Connector, Body>, String>,
}

impl Remote {
    /// Reads an APIService that names a Service; what is known of it goes on where nothing has changed.
    pub(super) fn read(service: &Object, known: Option<&Arc<Remote>>, of: &Aggregator) -> Option<Arc<Remote>> {
        let spec = service.at("spec")?;
        let reference = spec.get("service").filter(|reference| reference.is_object())?;
        let conditions = service.list_at("status.conditions").iter();
        let condition = conditions
            .into_iter()
            .find(|condition| condition.get("type").and_then(Value::as_str) == Some("Available"))
            .cloned();
        let same = known.filter(|known| known.spec == *spec && known.uid == service.uid());
        if let Some(same) = same.filter(|same| same.condition == condition) {
            return Some(same.clone());
        }
        let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |field: &str| spec.get(field).and_then(Value::as_i64).unwrap_or_default();
        let port = reference.get("port").and_then(Value::as_u64);
        let mut remote = Remote {
            name: service.name().to_owned(),
            group: text(spec, "group"),
            version: text(spec, "version"),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            available: condition.as_ref().is_some_and(|c| text(c, "status") == "True"),
            namespace: text(reference, "namespace"),
            service: text(reference, "name"),
            port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            uid: service.uid().to_owned(),
            condition,
            spec: spec.clone(),
            client: Err(String::new()),
        };
        remote.client = match same {
            Some(same) => same.client.clone(),
            None => remote.connect(of),
        };
        Some(Arc::new(remote))
    }

    /// What its certificate must be for.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Where discovery of its group and version is.
    pub(super) fn discovery_path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    fn connect(&self, of: &Aggregator) -> Result<Client<Connector, Body>, String> {
        let bundle = self.spec.get("caBundle").and_then(Value::as_str).unwrap_or_default();
        let bundle = STANDARD.decode(bundle).unwrap_or_default();
        let insecure = self.spec.get("insecureSkipTLSVerify").and_then(Value::as_bool) == Some(true);
        let tls = tls(&bundle, insecure, of.client.as_ref())?;
        let name = ServerName::try_from(self.host()).map_err(|error| error.to_string())?;
        let connector = Connector(Arc::new(Place {
            webhooks: of.webhooks.clone(),
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            port: self.port,
            name,
            tls,
        }));
        Ok(Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector))
    }
}

fn tls(bundle: &[u8], insecure: bool, client: Option<&ProxyClient>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match insecure {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(webhook::roots(bundle).map_err(|error| error.to_string())?),
    };
    let config = match client {
        Some(client) => builder
            .with_client_auth_cert(client.certificates.clone(), client.key.clone_key())
            .map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Believes every certificate: an APIService may ask for that.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Opens connections to the endpoints of a Service.
#[derive(Clone)]
pub(super) struct Connector(Arc<Place>);

struct Place {
    webhooks: Arc<webhook::Caller>,
    namespace: String,
    service: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let place = self.0.clone();
        Box::pin(async move {
            let found = place.webhooks.endpoints(&place.namespace, &place.service, place.port);
            let addresses = found.await.map_err(|error| io::Error::other(error.to_string()))?;
            let mut last = "no endpoints available".to_owned();
            for address in addresses {
                match webhook::dial(address, &place.tls, place.name.clone()).await {
                    Ok(stream) => return Ok(TokioIo::new(Stream(stream))),
                    Err(why) => last = why,
                }
            }
            Err(io::Error::other(last))
        })
    }
}

/// A connection to an aggregated server.
pub(super) struct Stream(TlsStream<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
