//! Pods of OCI containers: how long one takes to run and to go, beside what containerd alone takes for the same; many at
//! once; what of it is the agent's own and what the runtime's, by the node's own metrics; what the agent takes for many; and
//! what `kubectl` sees of commands and logs in them.

use std::{
    io::Read,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use e2e::{Cluster, Options, oci::Image, run};
use proto::v1::{self, runtime_service_client::RuntimeServiceClient};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use crate::{
    connection::{Access, Connection},
    creates::load_command,
    figures::{Durations, print},
    processes::{self, Usage},
    watch::{Event, Events},
};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// How a pod ends: its program heeds SIGTERM.
const DELETE: &[u8] = br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":1}"#;
/// Writes lines of a hundred bytes as fast as it can, for ten seconds.
const CHATTER: &str = "timeout 10 yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456; sleep 1000";
const SETTLE: Duration = Duration::from_secs(15);

/// Measures all of it on one cluster; `many` pods run while the agent's memory and CPU are looked at.
pub(crate) fn measure(count: usize, many: usize, seconds: u64) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    let socket = cluster.containerd().socket();
    let mut load = load_command(&cluster, &["load-containers"], &[count])?;
    print(format!("containers {}", run(load.arg(&socket), "").ok().trim()));

    let mut load = load_command(&cluster, &["load-containers-many"], &[many])?;
    let out = run(load.arg(&socket), "").ok();
    processes::leave(SETTLE);
    let (before, start) = (Usage::of(&cluster), Instant::now());
    processes::leave(Duration::from_secs(seconds));
    let used = Usage::of(&cluster).since(&before).agent;
    print(format!(
        "containers-many {} agent_rss_mb={} agent_core_percent={:.2} load={}",
        out.trim(),
        processes::memory(cluster.server_pid()).rss / 1024,
        used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0,
        processes::load_average(),
    ));
    commands(&cluster, count)?;
    logs(&cluster)
}

/// `kubectl exec` of nothing, beside a `kubectl` that asks for as little as there is.
fn commands(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    let (mut exec, mut get) = (Durations::default(), Durations::default());
    for _ in 0..count {
        let start = Instant::now();
        cluster.kubectl(&["exec", "many-0", "--", "/bin/busybox", "true"]).ok();
        exec.push(start.elapsed());
        let start = Instant::now();
        cluster
            .kubectl(&["get", "--raw", "/api/v1/namespaces/default/pods/many-0"])
            .ok();
        get.push(start.elapsed());
    }
    print(format!("containers-exec kubectl_exec {}", exec.summary()));
    print(format!("containers-exec kubectl_get {}", get.summary()));
    Ok(())
}

/// What a follower of a container that writes as fast as it can is given.
fn logs(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&pod("chatter", CHATTER).to_string()).ok();
    cluster
        .kubectl(&["wait", "pod/chatter", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    let mut command = cluster.on_machine(&e2e::Tool::Kubectl136.path());
    command.arg("--kubeconfig").arg(cluster.kubeconfig());
    let mut follower = command
        .args(["logs", "-f", "chatter"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (start, mut read, mut buffer) = (Instant::now(), 0_u64, vec![0; 1 << 20]);
    let mut output = follower.stdout.take().context("it writes to us")?;
    while start.elapsed() < Duration::from_secs(8) {
        match output.read(&mut buffer)? {
            0 => break,
            length => read += length as u64,
        }
    }
    let rate = read as f64 / start.elapsed().as_secs_f64() / 1e6;
    follower.kill()?;
    follower.wait()?;
    print(format!("containers-logs follower_mb_per_second={rate:.1}"));
    Ok(())
}

/// Pods one after the other, each beside the three calls that containerd is given for one.
pub(crate) async fn load(kubeconfig: &Path, count: usize, socket: &Path) -> anyhow::Result<()> {
    let access = Access::from_kubeconfig(kubeconfig)?;
    let (mut writer, mut watcher) = (access.connect().await?, access.connect().await?);
    let mut events = Events::open(&mut watcher, &format!("{PODS}?watch=true")).await?;
    let mut containerd = client(socket)?;
    let (mut running, mut gone, mut alone) = (Durations::default(), Durations::default(), Durations::default());
    let mut own = Durations::default();
    let mut spent = in_runtime(&mut writer).await?;
    for index in 0..=count {
        let name = format!("one-{index}");
        let start = Instant::now();
        writer
            .call("POST", PODS, Bytes::from(pod(&name, "sleep 1000").to_string()))
            .await?;
        events.wait(&name, Event::is_running).await?;
        let took = start.elapsed();
        let before = std::mem::replace(&mut spent, in_runtime(&mut writer).await?);
        let start = Instant::now();
        writer
            .call("DELETE", &format!("{PODS}/{name}"), Bytes::from_static(DELETE))
            .await?;
        events.wait(&name, |event| event.kind == "DELETED").await?;
        let went = start.elapsed();
        let start = Instant::now();
        let bare = make(&mut containerd, index).await?;
        let raw = start.elapsed();
        remove(&mut containerd, bare).await?;
        if index > 0 {
            running.push(took);
            own.push(took.saturating_sub(spent.saturating_sub(before)));
            gone.push(went);
            alone.push(raw);
        }
    }
    print(format!(
        "count={count} create_to_running {} | of_it_own {} | containerd_alone {} | delete_to_gone {}",
        running.summary(),
        own.summary(),
        alone.summary(),
        gone.summary(),
    ));
    Ok(())
}

/// What the node's runtime has spent on making pods so far, by the kubelet's metrics; the calls for one pod come one after
/// the other.
async fn in_runtime(api: &mut Connection) -> anyhow::Result<Duration> {
    let nodes: Value = serde_json::from_slice(&api.call("GET", "/api/v1/nodes", Bytes::new()).await?)?;
    let node = nodes.pointer("/items/0/metadata/name").and_then(Value::as_str);
    let path = format!("/api/v1/nodes/{}/proxy/metrics", node.context("a node")?);
    let metrics = api.call("GET", &path, Bytes::new()).await?;
    let metrics = std::str::from_utf8(&metrics)?;
    let spent = ["run_podsandbox", "create_container", "start_container"].map(|operation| {
        let head = format!("kubelet_runtime_operations_duration_seconds_sum{{operation_type=\"{operation}\"}} ");
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(&*head));
        values.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
    });
    Ok(Duration::from_secs_f64(spent.iter().sum()))
}

fn client(socket: &Path) -> anyhow::Result<RuntimeServiceClient<Channel>> {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))?;
    Ok(RuntimeServiceClient::new(endpoint.connect_lazy()))
}

/// Has containerd make a pod of one container; answers its id.
async fn make(containerd: &mut RuntimeServiceClient<Channel>, index: usize) -> anyhow::Result<String> {
    let sandbox = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: format!("bare-{index}"),
            uid: format!("bare-{index}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        ..v1::PodSandboxConfig::default()
    };
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "main".to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "tools:1".to_owned(),
            ..v1::ImageSpec::default()
        }),
        command: words("sleep 1000"),
        ..v1::ContainerConfig::default()
    };
    let made = containerd
        .run_pod_sandbox(v1::RunPodSandboxRequest {
            config: Some(sandbox.clone()),
            runtime_handler: String::new(),
        })
        .await?;
    let pod_sandbox_id = made.into_inner().pod_sandbox_id;
    let made = containerd
        .create_container(v1::CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
            config: Some(container),
            sandbox_config: Some(sandbox),
        })
        .await?;
    let container_id = made.into_inner().container_id;
    containerd
        .start_container(v1::StartContainerRequest { container_id })
        .await?;
    Ok(pod_sandbox_id)
}

async fn remove(containerd: &mut RuntimeServiceClient<Channel>, pod_sandbox_id: String) -> anyhow::Result<()> {
    let id = || pod_sandbox_id.clone();
    containerd
        .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id() })
        .await?;
    containerd
        .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id() })
        .await?;
    Ok(())
}

/// How many pods containerd alone makes in a second when it is asked for `count` at once.
async fn alone_at_once(socket: &Path, count: usize) -> anyhow::Result<f64> {
    let (start, mut made) = (Instant::now(), tokio::task::JoinSet::new());
    for index in 0..count {
        let mut containerd = client(socket)?;
        made.spawn(async move { make(&mut containerd, index).await });
    }
    let ids = made.join_all().await;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let mut containerd = client(socket)?;
    for id in ids {
        remove(&mut containerd, id?).await?;
    }
    Ok(rate)
}

/// Pods that are all asked for at once, of containerd alone and then of the cluster, where they stay.
pub(crate) async fn load_many(kubeconfig: &Path, count: usize, socket: &Path) -> anyhow::Result<()> {
    let alone = alone_at_once(socket, count).await?;
    let access = Access::from_kubeconfig(kubeconfig)?;
    let (mut writer, mut watcher) = (access.connect().await?, access.connect().await?);
    let mut events = Events::open(&mut watcher, &format!("{PODS}?watch=true")).await?;
    let start = Instant::now();
    for index in 0..count {
        let name = format!("many-{index}");
        writer
            .call("POST", PODS, Bytes::from(pod(&name, "sleep 1000").to_string()))
            .await?;
    }
    let mut running = std::collections::BTreeSet::new();
    let mut half = Duration::ZERO;
    while running.len() < count {
        let event = events.next().await?;
        if event.is_running() {
            running.insert(event.object.metadata.name);
        }
        if running.len() <= count / 2 {
            half = start.elapsed();
        }
    }
    let took = start.elapsed().as_secs_f64();
    print(format!(
        "count={count} seconds={took:.2} pods_per_second={:.1} containerd_alone_per_second={alone:.1} first_half_seconds={:.2}",
        count as f64 / took,
        half.as_secs_f64(),
    ));
    Ok(())
}

fn words(line: &str) -> Vec<String> {
    ["sh", "-c", line].map(str::to_owned).into()
}

/// A pod whose shell ends at once when it is told to.
fn pod(name: &str, line: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main",
            "image": "tools:1",
            "imagePullPolicy": "Never",
            "command": words(&format!("trap 'exit 0' TERM; {line} & wait")),
        }]},
    })
}
