//! The certificate of the kubelet API, which can be replaced while connections go on: those that are open keep theirs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Held;

pub(crate) struct Resolver {
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// # Errors
    /// The key is not the certificate's, or of no kind that is known.
    pub(crate) fn new(
        provider: Arc<CryptoProvider>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let first = CertifiedKey::from_der(chain, key, &provider)?;
        Ok(Self {
            current: ArcSwap::from_pointee(first),
            provider,
        })
    }

    /// New connections are met with this from now on, if it can be used.
    pub(crate) fn replace(&self, held: &Held) {
        match CertifiedKey::from_der(held.chain.clone(), held.key.clone_key(), &self.provider) {
            Ok(key) => self.current.store(Arc::new(key)),
            Err(error) => tracing::warn!(%error, "a new serving certificate cannot be used"),
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}
