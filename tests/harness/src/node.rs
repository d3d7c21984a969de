//! A node of a test cluster: a kubelet that can crash, over a runtime whose containers outlive it.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use async_trait::async_trait;
use client::{Clock, Informers};
use kubelet::{PodNetwork, testing::FakeRuntime};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{api::Api, part::Part};

/// The images that nodes have.
pub const IMAGES: [&str; 3] = ["app:1", "app:2", "app:3"];

/// A node: its runtime and its disk stay, its kubelet comes and goes.
pub struct Node {
    pub name: String,
    pub runtime: FakeRuntime,
    number: u8,
    disk: tempfile::TempDir,
    kubelet: Option<Part>,
}

struct NoNetwork;

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn ensure(&self, _range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

impl Node {
    /// A node that is switched off.
    pub fn new(number: u8, clock: &Clock) -> Self {
        let runtime = FakeRuntime::new(clock.clone(), &IMAGES);
        runtime.assign_addresses();
        Self {
            name: format!("n{number}"),
            runtime,
            number,
            disk: tempfile::tempdir().expect("a directory"),
            kubelet: None,
        }
    }

    /// Starts the kubelet unless it runs.
    pub fn start(&mut self, api: &Arc<Api>, clock: &Clock) {
        if self.kubelet.is_some() {
            return;
        }
        let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
        let client = api.client(&format!("system:node:{}", self.name), &["system:nodes"]);
        let (certificate, key) = api.keys().serving.clone();
        let certificate = CertificateDer::from(certificate);
        let config = kubelet::Config {
            informers: Informers::new(client.clone(), tasks.clone(), quit.clone()),
            client,
            runtime: Arc::new(self.runtime.clone()),
            clock: clock.clone(),
            node_name: self.name.clone(),
            node_ips: vec![Ipv4Addr::new(192, 0, 2, 10 + self.number).into()],
            labels: BTreeMap::new(),
            max_pods: 110,
            reserved: kubelet::Reserved::default(),
            thresholds: kubelet::Thresholds::default(),
            version: "v1.36.2+wherry".into(),
            data_dir: self.disk.path().to_owned(),
            drivers_dir: self.disk.path().to_owned(),
            dns: kubelet::Dns::default(),
            metrics: Vec::new(),
            cgroup_prefix: None,
            static_pods: None,
            network: Arc::new(NoNetwork),
            api_listener: std::net::TcpListener::bind("127.0.0.1:0").expect("a port"),
            api_tls: kubelet::Tls {
                certificates: vec![certificate.clone()],
                key: PrivatePkcs8KeyDer::from(key).into(),
                client_authorities: vec![certificate],
                allowed_names: Vec::new(),
            },
            rotate_certificates: false,
            ready: watch::channel(false).0,
            limitation: None,
            tasks: tasks.clone(),
        };
        let run = kubelet::run(config, quit.clone());
        tasks.spawn(async move { run.await.expect("the kubelet starts") });
        self.kubelet = Some(Part { tasks, quit });
    }

    /// Ends the kubelet at whatever it is doing. Its containers run on.
    pub async fn crash(&mut self) {
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.end().await;
        }
    }
}
