//! Whom a guest's outgoing TLS trusts: the authorities of the node, and the cluster's own in pods that carry them.

use std::sync::Arc;

use ::trust::Authorities;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

/// Client settings that trust the node's authorities and the given ones. Certificates that cannot be read are skipped.
pub(crate) fn client_config(cluster_authorities: Option<&[u8]>) -> Arc<ClientConfig> {
    let mut authorities = Authorities::of_machine();
    if let Some(pem) = cluster_authorities {
        authorities.add(pem);
    }
    Arc::new(authorities.client().with_no_client_auth())
}

/// The name a server must prove; `None`: neither a name nor an address.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}
