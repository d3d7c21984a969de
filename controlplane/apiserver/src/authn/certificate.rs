//! Client certificates: the common name is the user, the organizations are the groups.
//!
//! The TLS layer only proves that the client holds the key of what it shows ([`optional`]), so that a client with a
//! certificate of another authority gets a 401 in words instead of a broken handshake. Who may be believed is decided
//! here, once per connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AUTHENTICATED, UserInfo};
use crate::server::StartError;

/// Which credential somebody showed, among what is said of them (KEP-740).
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// Verifies client certificates against the authorities of the cluster.
pub(crate) struct Certificates {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Certificates {
    pub(crate) fn new(authorities: Vec<CertificateDer<'static>>) -> Result<Self, StartError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(StartError::Certificate)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Certificates {
            verifier: verifier.map_err(StartError::ClientCa)?,
        })
    }

    /// The user that a chain of certificates stands for; `None` when it is not to be believed.
    pub(crate) fn user(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<UserInfo> {
        let (leaf, intermediates) = chain.split_first()?;
        if let Err(error) = self.verifier.verify_client_cert(leaf, intermediates, now) {
            tracing::debug!(%error, "a client certificate is not valid");
            return None;
        }
        user_of(leaf)
    }
}

fn user_of(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    // Of several common names the last counts, as in Go: whoever signs must mean the same one.
    let username = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    if username.is_empty() {
        return None;
    }
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok());
    let groups = organizations.chain([AUTHENTICATED]).map(str::to_owned).collect();
    let digest = Sha256::digest(certificate.as_ref());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(UserInfo {
        username,
        groups,
        extra: BTreeMap::from([(CREDENTIAL.to_owned(), vec![format!("X509SHA256={digest}")])]),
        ..UserInfo::default()
    })
}

/// A TLS verifier that asks for a client certificate and takes any, or none; the request path judges it.
pub fn optional() -> Arc<dyn ClientCertVerifier> {
    Arc::new(Optional(
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
    ))
}

#[derive(Debug)]
struct Optional(rustls::crypto::WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Optional {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
