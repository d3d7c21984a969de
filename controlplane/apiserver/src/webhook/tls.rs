//! How servers are spoken to over TLS: whose certificates are believed, and which one is shown.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use trust::Authorities;

use super::CallError;

/// Believes those of a bundle, or anybody where that is asked for; shows a certificate where there is one.
pub(crate) fn config(
    bundle: &[u8],
    insecure: bool,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = match insecure {
        true => trust::anybody(),
        false => authorities(bundle).map_err(|error| error.to_string())?.client(),
    };
    let config = match identity {
        Some((certificates, key)) => builder
            .with_client_auth_cert(certificates, key)
            .map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Whom a bundle has one believe; an empty one leaves it to the machine, whose authorities are read once.
fn authorities(bundle: &[u8]) -> Result<Authorities, CallError> {
    static MACHINE: OnceLock<Authorities> = OnceLock::new();
    if bundle.is_empty() {
        return Ok(MACHINE.get_or_init(Authorities::of_machine).clone());
    }
    let mut authorities = Authorities::none();
    match authorities.add(bundle) {
        0 => Err(CallError::CaBundle),
        _ => Ok(authorities),
    }
}
