//! Whom a connection to a registry trusts, and by what certificate it shows itself.

use std::{fs, io, path::Path};

use ::trust::Authorities;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{error::RegistryError, hosts::Trust};

/// Client settings that trust the machine's authorities and those of the endpoint. Reads files.
pub(super) fn config(trust: &Trust) -> Result<ClientConfig, RegistryError> {
    let builder = if trust.skip_verify {
        ::trust::anybody()
    } else {
        let mut authorities = Authorities::of_machine();
        for path in &trust.ca {
            authorities.add(&read(path)?);
        }
        authorities.client()
    };
    match &trust.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let (chain, secret) = identity(certificate, key)?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| unusable(certificate, error))
        }
    }
}

fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), RegistryError> {
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(certificate, error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unusable(key, error))?;
    Ok((chain, key))
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: impl std::error::Error) -> RegistryError {
    let text = format!("{} cannot be used: {error}", path.display());
    RegistryError::Hosts(io::Error::other(text).into())
}
