//! Every call of CRI v1 over the socket, by a client of its own, with a runtime that keeps everything in memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test says that something is wrong"
)]

mod containers;
mod fake;
mod images;
mod node;
mod sandboxes;
mod streams;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use cri::CgroupDriver;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proto::v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};
use tokio::net::UnixStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Channel, Endpoint};

use fake::Fake;

/// A server with its clients; ends with it.
struct Served {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    fake: Arc<Fake>,
    /// The ranges that the network was made for.
    networks: Arc<Networks>,
    tasks: TaskTracker,
    quit: CancellationToken,
    socket: PathBuf,
    _home: tempfile::TempDir,
}

#[derive(Default)]
struct Networks(Mutex<Vec<String>>);

#[async_trait]
impl shim::PodNetwork for Networks {
    async fn ensure(&self, pod_range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if pod_range == "10.9.0.0/32" {
            return Err("too small".into());
        }
        self.0.lock().push(pod_range.to_owned());
        Ok(())
    }
}

impl Served {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("run/cri.sock");
        let (fake, networks) = (Arc::new(Fake::default()), Arc::new(Networks::default()));
        let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
        let config = shim::Config {
            socket: socket.clone(),
            network: Some(networks.clone()),
            cgroup_driver: CgroupDriver::Cgroupfs,
        };
        shim::serve(config, fake.clone(), &tasks, quit.clone()).unwrap();
        let channel = connect(&socket).await;
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
            fake,
            networks,
            tasks,
            quit,
            socket,
            _home: home,
        }
    }

    /// A sandbox of a pod with this name.
    async fn sandbox(&mut self, name: &str) -> String {
        let request = v1::RunPodSandboxRequest {
            config: Some(sandbox_config(name)),
            runtime_handler: String::new(),
        };
        self.runtime
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id
    }

    /// The id of an image that is on the node afterwards.
    async fn pull(&mut self, name: &str) -> String {
        let request = v1::PullImageRequest {
            image: Some(image(name)),
            ..v1::PullImageRequest::default()
        };
        self.images.pull_image(request).await.unwrap().into_inner().image_ref
    }

    /// A container of an image that has been pulled, created.
    async fn container(&mut self, sandbox: &str, name: &str) -> String {
        self.pull("registry/hello:1").await;
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container_config(name)),
            sandbox_config: Some(sandbox_config("pod")),
        };
        self.runtime
            .create_container(request)
            .await
            .unwrap()
            .into_inner()
            .container_id
    }

    async fn running(&mut self, sandbox: &str, name: &str) -> String {
        let container_id = self.container(sandbox, name).await;
        let request = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        self.runtime.start_container(request).await.unwrap();
        container_id
    }

    async fn status(&mut self, container: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        self.runtime
            .container_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }
}

async fn connect(socket: &std::path::Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.unwrap()
}

fn image(name: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: name.to_owned(),
        ..v1::ImageSpec::default()
    }
}

fn labels(app: &str) -> std::collections::BTreeMap<String, String> {
    [("app".to_owned(), app.to_owned())].into()
}

fn sandbox_config(name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: "/logs".to_owned(),
        port_mappings: vec![v1::PortMapping {
            container_port: 8080,
            ..v1::PortMapping::default()
        }],
        labels: labels(name),
        annotations: [("note".to_owned(), "kept".to_owned())].into(),
        ..v1::PodSandboxConfig::default()
    }
}

fn container_config(name: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 2,
        }),
        image: Some(image("registry/hello:1")),
        labels: labels(name),
        annotations: [("note".to_owned(), "kept".to_owned())].into(),
        log_path: format!("{name}/2.log"),
        ..v1::ContainerConfig::default()
    }
}
