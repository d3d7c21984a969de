//! The cluster's certificates and keys, made on first start and renewed by themselves.
//!
//! Layout below `DIR/pki` (the directory is 0700, keys are 0600): `ca.crt|key` signs everything inside the cluster,
//! `front-proxy-ca.crt|key` signs only the client certificate shown to aggregated API servers, `sa.key` signs service
//! account tokens. Leaves are reissued when they are near their end or when the names they must carry have changed;
//! authorities and the service account key never are, since clients hold them.

mod authority;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use authority::{Authority, Leaf, Purpose};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use zeroize::Zeroizing;

use crate::files;

/// Why the cluster's identity could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A certificate or key did not parse, or could not be made.
    #[error("cannot use certificate {}: {reason}; restore it from a backup, or remove the data directory to start a new cluster", path.display())]
    Certificate { path: PathBuf, reason: String },
}

/// A certificate with its private key, both PEM. Does not print the key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Every certificate and key the cluster's components hold.
pub struct Pki {
    /// The cluster's CA certificate: clients, the API server and kubelets trust it.
    pub ca: String,
    /// Its key, PKCS #8 PEM: signs what is approved of CertificateSigningRequests.
    pub ca_key: Zeroizing<String>,
    /// Serves the API.
    pub apiserver: Identity,
    /// Shown by the API server to kubelets.
    pub kubelet_client: Identity,
    /// Serves the kubelet API of the local node.
    pub kubelet_serving: Identity,
    /// Shown by the local node to the cluster's image registry.
    pub node: Identity,
    /// In the administrator's kubeconfig: group `system:masters`.
    pub admin: Identity,
    /// Shown by the API server to aggregated servers.
    pub front_proxy: Identity,
    /// CA of `front_proxy`.
    pub front_proxy_ca: String,
    /// Signs service account tokens: an EC P-256 private key, PKCS #8 PEM.
    pub service_account_key: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

/// What the leaves must carry.
#[derive(Clone, Debug)]
pub struct Names {
    /// Addresses on which the API is reached.
    pub api_addresses: Vec<IpAddr>,
    /// Further names of the API server.
    pub api_names: Vec<String>,
    /// The local node's name.
    pub node_name: String,
    /// Addresses of the local node.
    pub node_addresses: Vec<IpAddr>,
}

/// The names every Kubernetes API server answers to inside the cluster.
const API_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

impl Pki {
    /// Reads what `directory` holds, makes what is missing and renews what is due at `now`.
    pub fn ensure(directory: &Path, names: &Names, now: Timestamp) -> Result<Self, Error> {
        files::make_directory(directory)?;
        let ca = Authority::ensure(directory, "ca", "wherry-ca", now)?;
        let front_proxy_ca = Authority::ensure(directory, "front-proxy-ca", "wherry-front-proxy-ca", now)?;
        let api_names = API_NAMES
            .iter()
            .map(|n| (*n).to_owned())
            .chain(names.api_names.iter().cloned())
            .collect();
        let leaf = |file, common_name: &str, organizations: &[&str], purpose| Leaf {
            file,
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|o| (*o).to_owned()).collect(),
            purpose,
        };
        let node_user = format!("system:node:{}", names.node_name);
        let serve_api = Purpose::Server {
            names: api_names,
            addresses: names.api_addresses.clone(),
        };
        let serve_node = Purpose::Server {
            names: vec![names.node_name.clone()],
            addresses: names.node_addresses.clone(),
        };
        Ok(Self {
            apiserver: ca.ensure_leaf(directory, &leaf("apiserver", "kube-apiserver", &[], serve_api), now)?,
            kubelet_client: ca.ensure_leaf(
                directory,
                &leaf(
                    "apiserver-kubelet-client",
                    "kube-apiserver-kubelet-client",
                    &["system:masters"],
                    Purpose::Client,
                ),
                now,
            )?,
            kubelet_serving: ca.ensure_leaf(
                directory,
                &leaf("kubelet", &node_user, &["system:nodes"], serve_node),
                now,
            )?,
            node: ca.ensure_leaf(
                directory,
                &leaf("node", &node_user, &["system:nodes"], Purpose::Client),
                now,
            )?,
            admin: ca.ensure_leaf(
                directory,
                &leaf("admin", "kubernetes-admin", &["system:masters"], Purpose::Client),
                now,
            )?,
            front_proxy: front_proxy_ca.ensure_leaf(
                directory,
                &leaf("front-proxy-client", "front-proxy-client", &[], Purpose::Client),
                now,
            )?,
            ca: ca.certificate().to_owned(),
            ca_key: ca.key(),
            front_proxy_ca: front_proxy_ca.certificate().to_owned(),
            service_account_key: service_account_key(directory)?,
        })
    }
}

/// Makes, or reads, what all control planes of a cluster have in common: the authorities and the service account key.
pub(crate) fn make_roots(directory: &Path, now: Timestamp) -> Result<(), Error> {
    files::make_directory(directory)?;
    Authority::ensure(directory, "ca", "wherry-ca", now)?;
    Authority::ensure(directory, "front-proxy-ca", "wherry-front-proxy-ca", now)?;
    service_account_key(directory).map(drop)
}

fn service_account_key(directory: &Path) -> Result<String, Error> {
    let path = directory.join("sa.key");
    if let Some(key) = files::read(&path)? {
        return Ok(key);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|e| Error::Certificate {
            path: path.clone(),
            reason: e.to_string(),
        })?
        .serialize_pem();
    files::write_private(&path, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests;
