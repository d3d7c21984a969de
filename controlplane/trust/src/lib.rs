//! Whose certificates are believed of a server that is spoken to over TLS.
//!
//! A certificate is believed where webpki finds an authority of ours that has signed it. So is one that is itself among
//! ours, byte for byte: `openssl req -x509` makes such a certificate for a webhook, calls it an authority, and its maker
//! gives it as its own `caBundle`. Webpki refuses an authority as a server; Go's TLS, by which Kubernetes goes, does not.
//! In both cases its time, its names and its purpose must hold, and whoever shows it must have its key.
//!
//! Revocation is not looked at. Where the certificates come from is the caller's business, but for those of the machine.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where Linux distributions keep the bundle of public authorities.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A client's settings that lack only the certificate it shows, if any.
pub type Client = ConfigBuilder<ClientConfig, WantsClientCert>;

/// The certificates that one believes.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: RootCertStore,
    /// The SHA-256 of each, by which it is known again when a server shows it.
    own: HashSet<[u8; 32]>,
}

impl Authorities {
    /// None: no server is believed.
    pub fn none() -> Self {
        Authorities {
            roots: RootCertStore::empty(),
            own: HashSet::new(),
        }
    }

    /// Those that this machine trusts, for connections that leave it. Reads files.
    pub fn of_machine() -> Self {
        let mut machine = Authorities::none();
        if let Some(bundle) = BUNDLES.iter().find_map(|path| fs::read(path).ok()) {
            machine.add(&bundle);
        }
        machine
    }

    /// Adds the certificates of a PEM and says how many. What cannot be read is passed over.
    pub fn add(&mut self, pem: &[u8]) -> usize {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
            let digest = Sha256::digest(&certificate).into();
            if self.roots.add(certificate).is_ok() {
                self.own.insert(digest);
                added += 1;
            }
        }
        added
    }

    /// The settings of a client that believes these.
    pub fn client(self) -> Client {
        client(Some(self))
    }

    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), rustls::Error> {
        if self.own.contains::<[u8; 32]>(&Sha256::digest(shown).into()) {
            return serves_now(shown, now);
        }
        let algorithms = provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(shown)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)
    }
}

/// The settings of a client that believes every server that has the key of what it shows. Only for whom the user has said so.
pub fn anybody() -> Client {
    client(None)
}

fn client(believed: Option<Authorities>) -> Client {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier {
        believed,
        provider: provider.clone(),
    };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs offers the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

/// Whether a certificate of our own may stand for a server at this time: what webpki asks of those that others sign.
fn serves_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let bad = |_| rustls::Error::from(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let time =
        |seconds: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.try_into().unwrap_or(0)));
    let not_before = time(parsed.validity().not_before.timestamp());
    let not_after = time(parsed.validity().not_after.timestamp());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    match parsed.extended_key_usage().map_err(bad)? {
        Some(usage) if !usage.value.server_auth && !usage.value.any => Err(CertificateError::InvalidPurpose.into()),
        _ => Ok(()),
    }
}

/// Judges what a server shows; without anybody to believe it takes everything.
#[derive(Debug)]
struct Verifier {
    believed: Option<Authorities>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(believed) = &self.believed {
            believed.judge(shown, intermediates, now, &self.provider)?;
            verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
