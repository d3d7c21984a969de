//! The administrator's kubeconfig: one file with everything in it, as `kubectl` reads it.

use std::{net::SocketAddr, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{files, pki::Pki};

/// Writes a kubeconfig that reaches the API at `address` as the administrator.
pub(crate) fn write(path: &Path, address: SocketAddr, pki: &Pki) -> Result<(), files::Error> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        files::make_directory(parent)?;
    }
    files::write_private(path, &render(address, pki))
}

fn render(address: SocketAddr, pki: &Pki) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: wherry\n\
         clusters:\n\
         - name: wherry\n\
         \x20 cluster:\n\
         \x20   server: https://{address}\n\
         \x20   certificate-authority-data: {ca}\n\
         users:\n\
         - name: wherry-admin\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: wherry\n\
         \x20 context:\n\
         \x20   cluster: wherry\n\
         \x20   user: wherry-admin\n",
        ca = encode(&pki.ca),
        certificate = encode(&pki.admin.certificate),
        key = encode(&pki.admin.key),
    )
}
