//! rustls configurations from the cluster's certificates.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::pki::Identity;

/// A certificate or key that rustls does not take.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a certificate or key is not in PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("a certificate and its key are refused")]
    Rustls(#[from] rustls::Error),
}

/// Serves as `identity`; clients may show a certificate, and who they are is found out per connection.
pub(crate) fn server(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = (certificates(&identity.certificate)?, private_key(identity)?);
    let verifier = apiserver::authn::certificate::optional();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Dials as `identity` and believes servers of `authority`.
pub(crate) fn client(identity: &Identity, authority: &str) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate)?;
    }
    let (chain, key) = (certificates(&identity.certificate)?, private_key(identity)?);
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// The certificates of a PEM.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
}

/// The key of an identity.
pub(crate) fn private_key(identity: &Identity) -> Result<PrivateKeyDer<'static>, Error> {
    Ok(PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?)
}
