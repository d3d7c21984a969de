//! A program that the operator has asked about tokens or requests: where it is, how it is believed, and as whom the server
//! comes to it. What a kubeconfig file says, read by the caller.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http_body_util::Full;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use super::connect::{Connector, Kept, Way};
use super::{CallError, post, tls};

/// Bytes of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// How often one question is asked of a program that says it has a passing problem, as Kubernetes has it.
const STEPS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a kubeconfig file says of a server and of who comes to it.
#[derive(Clone, Default)]
pub struct Access {
    pub url: String,
    /// PEM; empty for the authorities that the system trusts.
    pub authorities: Vec<u8>,
    /// Whether any certificate is believed.
    pub insecure: bool,
    /// What its certificate must be for, if not its host.
    pub server_name: Option<String>,
    /// PEM: a certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    pub credentials: Credentials,
}

/// What is shown beside a certificate.
#[derive(Clone, Default)]
pub enum Credentials {
    #[default]
    None,
    Token(String),
    Password {
        username: String,
        password: String,
    },
}

/// Why a program cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("server {0:?} is no http or https URL")]
    Url(String),
    #[error("the certificate authority cannot be used: {0}")]
    Authorities(String),
    #[error("the client certificate or its key cannot be used: {0}")]
    Identity(String),
    #[error("the token or password cannot be sent in a header")]
    Credentials,
    #[error("tls-server-name {0:?} is no name of a server")]
    ServerName(String),
}

/// A program that can be asked.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) url: String,
    authorization: Option<HeaderValue>,
    client: Kept<Full<Bytes>>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Makes ready to ask; connections are opened when the first question comes, and kept.
    pub fn new(access: &Access) -> Result<Self, Error> {
        let uri: Option<http::Uri> = access.url.parse().ok();
        let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) {
            return Err(Error::Url(access.url.clone()));
        }
        let server_name = match &access.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| Error::ServerName(name.clone()))?),
            None => None,
        };
        let connector = Connector::new(Way::Direct, access.tls()?, server_name);
        Ok(Endpoint {
            url: access.url.clone(),
            authorization: access.credentials.header()?,
            client: connector.client(),
        })
    }

    /// Asks, and asks again where the program says that its problem passes.
    pub(crate) async fn ask(&self, question: &Value, timeout: Duration) -> Result<Value, CallError> {
        let body = Bytes::from(question.to_string());
        let mut pause = FIRST_PAUSE;
        for _ in 1..STEPS {
            match self.once(body.clone(), timeout).await {
                Err(error) if error.may_pass() => tokio::time::sleep(pause).await,
                decided => return decided,
            }
            pause = pause.mul_f32(1.5);
        }
        self.once(body, timeout).await
    }

    async fn once(&self, body: Bytes, timeout: Duration) -> Result<Value, CallError> {
        let unreachable = |why: String| CallError::Unreachable {
            url: self.url.clone(),
            why,
        };
        let asked = post(&self.client, &self.url, self.authorization.as_ref(), body, MAX_ANSWER);
        let answer = match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer?,
            Err(_) => return Err(unreachable("context deadline exceeded".to_owned())),
        };
        serde_json::from_slice(&answer).map_err(|error| unreachable(error.to_string()))
    }
}

impl Access {
    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        let identity = match &self.identity {
            None => None,
            Some((certificates, key)) => {
                let failed = |error: rustls_pki_types::pem::Error| Error::Identity(error.to_string());
                let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(failed)?;
                Some((certificates.map_err(failed)?, key))
            }
        };
        let authorities = self.authorities.trim_ascii();
        if let Some(why) = super::check_ca_bundle(authorities).filter(|_| !authorities.is_empty()) {
            return Err(Error::Authorities(why.to_owned()));
        }
        tls::config(authorities, self.insecure, identity).map_err(Error::Identity)
    }
}

impl Credentials {
    fn header(&self) -> Result<Option<HeaderValue>, Error> {
        let text = match self {
            Credentials::None => return Ok(None),
            Credentials::Token(token) => format!("Bearer {token}"),
            Credentials::Password { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
        };
        let mut header = HeaderValue::from_str(&text).map_err(|_| Error::Credentials)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}
