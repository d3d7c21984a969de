//! Whom a guest's outgoing TLS trusts: the authorities of the node, and the cluster's own in pods that carry them.

use std::sync::Arc;

use rustls::{ClientConfig, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;

use crate::roots;

/// Client settings that trust the node's authorities and the given ones. Certificates that cannot be read are skipped.
pub(crate) fn client_config(cluster_authorities: Option<&[u8]>) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs offers the default versions")
        .with_root_certificates(roots::with(cluster_authorities))
        .with_no_client_auth();
    Arc::new(config)
}

/// The name a server must prove; `None`: neither a name nor an address.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}
