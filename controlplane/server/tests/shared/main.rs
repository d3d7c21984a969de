//! Control planes on a real etcd: several that are one, and one whose etcd goes away.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic is how a test says that something is wrong"
)]

#[path = "../images/mod.rs"]
mod images;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../store-etcd/tests/etcd/members.rs"]
mod members;

mod away;
mod together;

use std::{net::Ipv4Addr, path::Path, time::Duration};

use client::Client;
use server::{Config, Server, Store, Token};
use tempfile::TempDir;

use members::Cluster;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(cluster: &Cluster, directory: &Path, nth: u8) -> Config {
    Config {
        data_dir: directory.to_owned(),
        store: Store::Etcd {
            options: cluster.options(),
            token: Token::new(TOKEN).unwrap(),
        },
        kms_endpoint: None,
        tls_san: vec!["cluster.example".into(), "192.0.2.100".into()],
        advertise: Some(Ipv4Addr::new(192, 0, 2, nth).into()),
        api_bind: (Ipv4Addr::LOCALHOST, 0).into(),
        kubeconfig: directory.join("kubeconfig"),
        node_name: format!("n{nth}"),
        node_addresses: Vec::new(),
        gateway: Ipv4Addr::new(10, 128, 0, 1),
        cluster_range: "10.128.0.0/9".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        node_ports: 30000..=32767,
        node_prefix: 17,
        images: images::none(),
        audit: None,
        authentication: Default::default(),
        authorization: Default::default(),
        max_inflight: server::MaxInflight::default(),
    }
}

/// A control plane of one test, with an administrator over TLS.
struct Plane {
    server: Server,
    admin: Client,
    directory: TempDir,
}

impl Plane {
    async fn start(cluster: &Cluster, nth: u8) -> Plane {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        // Waits for the members to have found each other.
        cluster.connect().await;
        let server = Server::start(config(cluster, directory.path(), nth)).await.unwrap();
        let admin = Client::from_kubeconfig(&directory.path().join("kubeconfig"))
            .await
            .unwrap();
        Plane {
            server,
            admin,
            directory,
        }
    }
}

/// Waits until `check` answers.
async fn until<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}
