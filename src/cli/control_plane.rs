//! The flags of `wherry controlplane`, and of what is done to its data.

use std::{net::IpAddr, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, ValueHint};

use super::{Audit, Authentication, Authorization, DataDir, Inflight, KeptImages, Ranges};

#[derive(Args)]
pub(crate) struct ControlPlane {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Where objects are kept: in a file that this control plane has for itself, or on an etcd cluster that it shares with
    /// others [default: redb:DIR/store.redb].
    #[arg(long, value_name = "redb:PATH|etcd:URL,...")]
    pub(crate) store: Option<Store>,
    /// Who signs the certificates of etcd's members.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// The certificate that is shown to etcd.
    #[arg(long, value_name = "FILE", requires_all = ["etcd_keyfile", "etcd_cafile"], value_hint = ValueHint::FilePath)]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "etcd_certfile", value_hint = ValueHint::FilePath)]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// The cluster token, the same for every control plane on one etcd: the first keeps the cluster's keys in it, sealed by
    /// this token, and the others open them. Make one with `openssl rand -hex 32`. On the command line everybody on the
    /// machine can read it; the environment is better.
    #[arg(long, value_name = "TOKEN", env = "WHERRY_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Where the Kubernetes API is served.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub(crate) api_bind: SocketAddr,
    #[command(flatten)]
    pub(crate) inflight: Inflight,
    /// Where nodes, pods and the other control planes' clients reach this one; the endpoints of the Service `kubernetes`
    /// show it. Every control plane needs one of its own, with the same port [default: the address it listens on, or the
    /// machine's].
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// A further name or address that the API server's certificate is for, such as a load balancer's. May be repeated.
    #[arg(long, value_name = "NAME|ADDR", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
    /// Where to write the administrator's kubeconfig [default: DIR/kubeconfig].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A key management plugin (KMS v2) that wraps the keys with which Secrets are encrypted.
    #[arg(long, value_name = "unix:///PATH")]
    pub(crate) kms_endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) images: KeptImages,
    #[command(flatten)]
    pub(crate) audit: Audit,
    #[command(flatten)]
    pub(crate) authentication: Authentication,
    #[command(flatten)]
    pub(crate) authorization: Authorization,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
}

#[derive(Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The store, where it is not DIR/store.redb and no control plane runs.
    #[arg(long, value_name = "redb:PATH")]
    pub(crate) store: Option<Store>,
    /// Where the backup is written. It holds the keys of the cluster: keep it as secret as the data directory.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

#[derive(Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The store that is made, where it is not DIR/store.redb.
    #[arg(long, value_name = "redb:PATH")]
    pub(crate) store: Option<Store>,
    /// The backup.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

#[derive(Args)]
pub(crate) struct RotateEncryptionKey {
    #[command(flatten)]
    pub(crate) data: DataDir,
}

/// `redb:PATH` or `etcd:URL,URL,...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Redb(PathBuf),
    Etcd(Vec<String>),
}

/// The text names no store.
#[derive(Debug, thiserror::Error)]
#[error("a store is redb:PATH or etcd:https://HOST:PORT,...")]
pub(crate) struct BadStore;

impl FromStr for Store {
    type Err = BadStore;

    fn from_str(text: &str) -> Result<Self, BadStore> {
        match text.split_once(':') {
            Some(("redb", path)) if !path.is_empty() => Ok(Store::Redb(path.into())),
            Some(("etcd", endpoints)) if !endpoints.is_empty() => {
                let endpoints = endpoints
                    .split(',')
                    .map(|endpoint| endpoint.trim_end_matches('/').to_owned());
                Ok(Store::Etcd(endpoints.collect()))
            }
            _ => Err(BadStore),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_their_kind() {
        assert_eq!(
            "redb:/srv/w.redb".parse::<Store>().unwrap(),
            Store::Redb("/srv/w.redb".into())
        );
        assert_eq!(
            "etcd:https://a:2379/,https://b:2379".parse::<Store>().unwrap(),
            Store::Etcd(vec!["https://a:2379".into(), "https://b:2379".into()])
        );
        for text in ["", "redb:", "etcd:", "/srv/w.redb", "sqlite:x"] {
            assert!(text.parse::<Store>().is_err(), "{text}");
        }
    }
}
