//! The authorities that this machine trusts, for connections that leave it.

use std::fs;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Where Linux distributions keep the bundle of public authorities.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The machine's authorities and those of the given PEM files. Certificates that cannot be read are skipped.
pub(crate) fn with<'a>(more: impl IntoIterator<Item = &'a [u8]>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Some(bundle) = BUNDLES.iter().find_map(|path| fs::read(path).ok()) {
        add(&mut roots, &bundle);
    }
    more.into_iter().for_each(|pem| add(&mut roots, pem));
    roots
}

fn add(roots: &mut RootCertStore, pem: &[u8]) {
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
}
