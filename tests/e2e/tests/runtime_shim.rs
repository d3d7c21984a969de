//! `wherry runtime-shim` as a kubelet and `crictl` use it: the real socket, a gRPC client of its own, a Wasm image, a pod.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};

use e2e::{Cluster, Options, kill, repository, run, until};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use proto::v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

const SOON: Duration = Duration::from_secs(60);
const IMAGE: &str = "hello:1";

e2e::with_and_without_root!(serves_a_pod_that_outlives_it, tells_what_it_cannot_do);

/// A running `wherry runtime-shim`, with clients.
struct Shim {
    process: Child,
    wait: Runtime,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// A machine whose node has the image; no `wherry up` runs on it any more.
fn machine(options: Options) -> Cluster {
    let mut cluster = Cluster::start(options);
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), IMAGE)
        .ok();
    assert!(cluster.stop(), "wherry up ends well");
    cluster
}

fn socket(cluster: &Cluster) -> PathBuf {
    cluster.data().join("cri.sock")
}

impl Shim {
    fn start(cluster: &Cluster, pod_cidr: Option<&str>) -> Self {
        let mut command = cluster.wherry("runtime-shim");
        command.args(["--containerd", "none"]);
        if let Some(range) = pod_cidr {
            command.args(["--pod-cidr", range]);
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(cluster.scratch().join("shim.log"))
            .expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("the binary starts");
        let stdout = process.stdout.take().expect("stdout is piped");
        let (said, line) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = said.send(line);
        });
        let first = line.recv_timeout(SOON).unwrap_or_default();
        let log = std::fs::read_to_string(cluster.scratch().join("shim.log")).unwrap_or_default();
        assert_eq!(first, "ready\n", "{log}");
        let wait = Runtime::new().expect("a runtime");
        let channel = wait.block_on(connect(&socket(cluster)));
        Self {
            process,
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
            wait,
        }
    }

    fn stop(mut self) {
        kill(self.process.id(), Signal::SIGTERM);
        assert!(self.process.wait().expect("it is waited for once").success());
    }

    fn tell_range(&mut self, pod_cidr: &str) -> Result<(), tonic::Status> {
        let request = v1::UpdateRuntimeConfigRequest {
            runtime_config: Some(v1::RuntimeConfig {
                network_config: Some(v1::NetworkConfig {
                    pod_cidr: pod_cidr.to_owned(),
                }),
            }),
        };
        self.wait
            .block_on(self.runtime.update_runtime_config(request))
            .map(drop)
    }

    /// Whether the pod network is ready.
    fn is_ready(&mut self) -> bool {
        let request = v1::StatusRequest { verbose: false };
        let told = self
            .wait
            .block_on(self.runtime.status(request))
            .expect("a status")
            .into_inner();
        let conditions = told.status.expect("conditions").conditions;
        conditions.len() == 2 && conditions.iter().all(|condition| condition.status)
    }

    fn sandbox(&mut self, logs: &Path) -> String {
        let request = v1::RunPodSandboxRequest {
            config: Some(sandbox_config(logs)),
            runtime_handler: "wasm".to_owned(),
        };
        let made = self
            .wait
            .block_on(self.runtime.run_pod_sandbox(request))
            .expect("a sandbox");
        made.into_inner().pod_sandbox_id
    }

    fn address(&mut self, sandbox: &str) -> String {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.to_owned(),
            verbose: true,
        };
        let told = self
            .wait
            .block_on(self.runtime.pod_sandbox_status(request))
            .expect("a status");
        told.into_inner()
            .status
            .expect("a status")
            .network
            .expect("a network")
            .ip
    }

    fn running(&mut self, sandbox: &str, logs: &Path) -> String {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(v1::ContainerConfig {
                metadata: Some(v1::ContainerMetadata {
                    name: "hello".to_owned(),
                    attempt: 0,
                }),
                image: Some(image(IMAGE)),
                log_path: "hello.log".to_owned(),
                ..v1::ContainerConfig::default()
            }),
            sandbox_config: Some(sandbox_config(logs)),
        };
        let made = self
            .wait
            .block_on(self.runtime.create_container(request))
            .expect("a container");
        let container_id = made.into_inner().container_id;
        let request = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        self.wait
            .block_on(self.runtime.start_container(request))
            .expect("it starts");
        container_id
    }

    fn state(&mut self, container: &str) -> Option<i32> {
        let request = v1::ListContainersRequest {
            filter: Some(v1::ContainerFilter {
                id: container.to_owned(),
                ..v1::ContainerFilter::default()
            }),
        };
        let told = self
            .wait
            .block_on(self.runtime.list_containers(request))
            .expect("a list");
        told.into_inner().containers.first().map(|container| container.state)
    }
}

async fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.expect("it serves")
}

fn image(name: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: name.to_owned(),
        ..v1::ImageSpec::default()
    }
}

fn sandbox_config(logs: &Path) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "hello".to_owned(),
            uid: "a-uid".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: logs.display().to_string(),
        port_mappings: vec![v1::PortMapping {
            container_port: 8080,
            ..v1::PortMapping::default()
        }],
        ..v1::PodSandboxConfig::default()
    }
}

/// A node's range among those that `wherry up` takes if nobody says otherwise.
fn pod_range(options: &Options) -> &'static str {
    match options.user {
        Some(_) => "127.32.0.0/17",
        None => "10.128.0.0/17",
    }
}

fn serves_a_pod_that_outlives_it(options: Options) {
    let (range, user) = (pod_range(&options), options.user);
    let cluster = machine(options);
    let logs = cluster.scratch().join("logs");
    std::fs::create_dir(&logs).expect("a directory");
    if let Some(user) = user {
        std::os::unix::fs::chown(&logs, Some(user.id), Some(user.id)).expect("root gives directories away");
    }
    let mut shim = Shim::start(&cluster, Some(range));
    assert_eq!(mode(&socket(&cluster)), 0o600);
    assert_eq!(mode(&cluster.data()), 0o700);
    assert!(shim.is_ready());
    let mut events = shim
        .wait
        .block_on(shim.runtime.get_container_events(v1::GetEventsRequest {}))
        .expect("events")
        .into_inner();
    let sandbox = shim.sandbox(&logs);
    let container = shim.running(&sandbox, &logs);
    assert_eq!(
        shim.state(&container),
        Some(v1::ContainerState::ContainerRunning.into())
    );
    let first = shim.wait.block_on(in_time(events.message())).expect("an event in time");
    assert_eq!(first.expect("an event").container_id, sandbox);
    let url = format!("http://{}:8080/", shim.address(&sandbox));
    let said = until("it answers", SOON, || {
        let said = cluster.curl(&url);
        if said.success {
            Ok(said.stdout)
        } else {
            Err(said.stderr)
        }
    });
    assert!(said.to_lowercase().contains("hello"), "{said}");
    assert!(logs.join("hello.log").exists());
    let request = v1::ListContainerStatsRequest { filter: None };
    let stats = shim
        .wait
        .block_on(shim.runtime.list_container_stats(request))
        .expect("stats")
        .into_inner()
        .stats;
    assert_eq!(stats[0].attributes.as_ref().expect("attributes").id, container);
    assert!(
        stats[0]
            .cpu
            .expect("cpu")
            .usage_core_nano_seconds
            .expect("a count")
            .value
            > 0
    );

    shim.stop();
    cluster.curl(&url).ok();
    let mut shim = Shim::start(&cluster, Some(range));
    assert_eq!(
        shim.state(&container[..12]),
        Some(v1::ContainerState::ContainerRunning.into())
    );
    let request = v1::StopContainerRequest {
        container_id: container.clone(),
        timeout: 1,
    };
    shim.wait
        .block_on(shim.runtime.stop_container(request))
        .expect("it stops");
    assert_eq!(shim.state(&container), Some(v1::ContainerState::ContainerExited.into()));
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox,
    };
    shim.wait
        .block_on(shim.runtime.remove_pod_sandbox(request))
        .expect("it goes");
    assert_eq!(shim.state(&container), None);
    cluster.curl(&url).err();
    let request = v1::RemoveImageRequest {
        image: Some(image(IMAGE)),
    };
    shim.wait.block_on(shim.images.remove_image(request)).expect("it goes");
    let request = v1::ListImagesRequest { filter: None };
    let told = shim
        .wait
        .block_on(shim.images.list_images(request))
        .expect("a list")
        .into_inner();
    assert!(told.images.is_empty());
    shim.stop();
}

fn tells_what_it_cannot_do(options: Options) {
    let range = pod_range(&options);
    let cluster = machine(options);
    let mut shim = Shim::start(&cluster, None);
    assert!(!shim.is_ready(), "nobody has told the pod range");
    let refused = shim.tell_range("192.0.2.0/24").expect_err("it is not the cluster's");
    assert!(refused.message().contains("--cluster-cidr"), "{refused}");
    shim.tell_range(range).expect("it is the cluster's");
    assert!(shim.is_ready());

    let version = shim
        .wait
        .block_on(shim.runtime.version(v1::VersionRequest::default()))
        .expect("a version");
    assert_eq!(version.into_inner().runtime_name, "wherry-wasm");
    let told = shim
        .wait
        .block_on(shim.images.image_fs_info(v1::ImageFsInfoRequest {}))
        .expect("usage")
        .into_inner();
    let place = told.image_filesystems[0].fs_id.clone().expect("a place").mountpoint;
    assert_eq!(Path::new(&place), cluster.data().join("images"));
    assert!(told.image_filesystems[0].used_bytes.expect("a count").value > 0);

    let logs = cluster.scratch().to_owned();
    let request = v1::RunPodSandboxRequest {
        config: Some(sandbox_config(&logs)),
        runtime_handler: "runc".to_owned(),
    };
    let refused = shim
        .wait
        .block_on(shim.runtime.run_pod_sandbox(request))
        .expect_err("nobody runs it");
    assert_eq!(refused.message(), "no runtime for \"runc\" is configured");
    let sandbox = shim.sandbox(&logs);
    let container_id = shim.running(&sandbox, &logs);
    let request = v1::CheckpointContainerRequest {
        container_id,
        ..v1::CheckpointContainerRequest::default()
    };
    let refused = shim
        .wait
        .block_on(shim.runtime.checkpoint_container(request))
        .expect_err("nobody restores it");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");

    let again = run(&mut cluster.wherry("runtime-shim"), "").err();
    assert!(
        again.contains("another wherry") && again.lines().count() == 1,
        "{again}"
    );
    shim.stop();
    run(&mut cluster.wherry("down"), "").ok();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

async fn in_time<T>(answer: impl Future<Output = Result<Option<T>, tonic::Status>>) -> Result<Option<T>, String> {
    let answer = tokio::time::timeout(SOON, answer)
        .await
        .map_err(|late| late.to_string())?;
    answer.map_err(|status| status.to_string())
}
