//! A running control plane: the API server over its store, with the controllers, as clients see it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test says that something is wrong"
)]

mod certificates;
mod disruption;
mod garbage;
#[path = "../images/mod.rs"]
mod images;

use std::{net::Ipv4Addr, time::Duration};

use api::Object;
use client::{Client, Informer, Informers, Kind, Scope};
use server::{Config, Server, Store};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const NAMESPACE: &str = "default";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane of one test, with an administrator over TLS.
struct Plane {
    server: Server,
    admin: Client,
    informers: Informers,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    directory: TempDir,
}

impl Plane {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        let server = Server::start(Config {
            data_dir: directory.path().to_owned(),
            store: Store::Redb(directory.path().join("store.redb")),
            kms_endpoint: None,
            tls_san: Vec::new(),
            advertise: None,
            api_bind: (Ipv4Addr::LOCALHOST, 0).into(),
            kubeconfig: kubeconfig.clone(),
            node_name: "n1".into(),
            node_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            // An address that nobody has can be listened on, without any privilege.
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
        });
        let server = server.await.unwrap();
        let admin = Client::from_kubeconfig(&kubeconfig).await.unwrap();
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        Self {
            informers: Informers::new(admin.clone(), tasks.clone(), shutdown.clone()),
            server,
            admin,
            tasks,
            shutdown,
            directory,
        }
    }

    /// The objects of a kind in the test's namespace, kept current.
    async fn follow(&self, kind: &Kind) -> Informer<Object> {
        let informer = self.informers.get(kind, Scope::Namespace(NAMESPACE.into()));
        informer.synced().await;
        informer
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.server.stop().await;
    }
}

/// Waits until the objects are as `accept` wants them; it says what is amiss.
async fn until(objects: &Informer<Object>, accept: impl Fn(&[&Object]) -> Result<(), String>) {
    let mut version = objects.version();
    let wait = async {
        loop {
            version.borrow_and_update();
            if check(objects, &accept).is_ok() {
                return;
            }
            version.changed().await.unwrap();
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        check(objects, &accept).unwrap();
    }
}

fn check(objects: &Informer<Object>, accept: impl Fn(&[&Object]) -> Result<(), String>) -> Result<(), String> {
    let snapshot = objects.snapshot();
    let all: Vec<&Object> = snapshot.iter().map(|(_, object)| &**object).collect();
    accept(&all)
}
