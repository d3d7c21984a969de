//! A node without an agent around it, and what its tests ask of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use cri::{
    Container, ContainerConfig, ContainerId, ContainerPort, Error, Event, ImportContent, Runtime as _, Sandbox,
    SandboxConfig, SandboxState,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wasm::{Config, Runtime};

use crate::{DEADLINE, Failure, fixtures};

/// A node; what runs on it is ended with it.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in hosts() {
            kill(pid);
        }
    }
}

/// A process of the agent.
pub(crate) struct Agent {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Node {
    pub(crate) fn config(&self) -> Config {
        let program = std::env::current_exe().unwrap_or_default();
        let command = |word: &str| vec![OsString::from(&program), OsString::from(word)];
        // Tests run side by side on the same loopback network.
        let [low, high, ..] = std::process::id().to_le_bytes();
        let range = Ipv4Addr::new(127, 33 + (high & 7), low, 0);
        Config {
            data_dir: self.dir.path().to_owned(),
            pod_range: ipnet::Ipv4Net::new(range, 24).ok(),
            netns: None,
            dialable_loopback: Vec::new(),
            host_command: command("sandbox-host"),
            compile_command: command("compile"),
            host_uid_base: None,
            cgroup_parent: None,
            boot_id: "this-boot".to_owned(),
            host_idle: DEADLINE,
        }
    }

    pub(crate) async fn agent(&self) -> Result<Agent, Failure> {
        self.agent_with(self.config()).await
    }

    pub(crate) async fn agent_with(&self, config: Config) -> Result<Agent, Failure> {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let runtime = Runtime::start(config, tasks.clone(), shutdown.clone()).await?;
        Ok(Agent {
            runtime,
            tasks,
            shutdown,
        })
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    pub(crate) fn host_directories(&self) -> Result<BTreeSet<PathBuf>, Failure> {
        let entries = fs::read_dir(self.dir.path().join("sandbox-hosts"))?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries
            .iter()
            .map(fs::DirEntry::path)
            .filter(|path| path.is_dir())
            .collect())
    }
}

impl Agent {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) async fn import(&self, name: &str) -> Result<(), Failure> {
        let (_, bytes) = fixtures::all()
            .into_iter()
            .find(|(file, _)| *file == name)
            .ok_or("no such guest")?;
        let image = name.trim_end_matches(".wasm");
        self.runtime
            .import_image(image, ImportContent::Bytes(bytes.into()))
            .await?;
        Ok(())
    }

    pub(crate) async fn sandbox(&self, node: &Node, namespace: &str, pod: &str) -> Result<Sandbox, Error> {
        self.runtime.run_sandbox(sandbox(node, namespace, pod), "").await
    }

    /// A pod with one running container.
    pub(crate) async fn pod(&self, node: &Node, namespace: &str, pod: &str) -> Result<(Sandbox, ContainerId), Error> {
        let sandbox = self.sandbox(node, namespace, pod).await?;
        let container = self
            .runtime
            .create_container(&sandbox.id, container("http-hello"))
            .await?;
        self.runtime.start_container(&container).await?;
        Ok((sandbox, container))
    }

    pub(crate) async fn container(&self, id: &ContainerId) -> Result<Container, Failure> {
        let containers = self.runtime.list_containers().await?;
        Ok(containers
            .into_iter()
            .find(|container| container.id == *id)
            .ok_or("no such container")?)
    }

    pub(crate) async fn sandbox_state(&self, id: &cri::SandboxId) -> Result<SandboxState, Failure> {
        let sandboxes = self.runtime.list_sandboxes().await?;
        Ok(sandboxes
            .iter()
            .find(|sandbox| sandbox.id == *id)
            .ok_or("no such sandbox")?
            .state)
    }
}

pub(crate) fn sandbox(node: &Node, namespace: &str, pod: &str) -> SandboxConfig {
    SandboxConfig {
        name: pod.to_owned(),
        namespace: namespace.to_owned(),
        uid: format!("uid-{namespace}-{pod}"),
        log_directory: node.logs().display().to_string(),
        ..SandboxConfig::default()
    }
}

pub(crate) fn container(image: &str) -> ContainerConfig {
    ContainerConfig {
        name: "main".to_owned(),
        image: image.to_owned(),
        ports: vec![ContainerPort {
            name: "http".to_owned(),
            protocol: "TCP".to_owned(),
            port: 8080,
        }],
        log_path: "main.log".to_owned(),
        ..ContainerConfig::default()
    }
}

/// The answer of the pod to one request.
pub(crate) async fn get(sandbox: &Sandbox) -> Result<String, Failure> {
    let address = *sandbox.ips.first().ok_or("the sandbox has no address")?;
    let mut stream = TcpStream::connect((address, 8080)).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

pub(crate) async fn assert_serves(sandbox: &Sandbox) -> Result<(), Failure> {
    let answer = get(sandbox).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

pub(crate) async fn until(
    events: &mut BoxStream<'static, Event>,
    wanted: impl Fn(&Event) -> bool,
) -> Result<Event, Failure> {
    while let Some(event) = events.next().await {
        if wanted(&event) {
            return Ok(event);
        }
    }
    Err("the events ended".into())
}

/// The sandbox hosts that this process has started and that have not ended.
pub(crate) fn hosts() -> Vec<i32> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_host = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let mut fields = after_name.split(' ');
        let (state, parent) = (fields.next(), fields.next());
        state != Some("Z") && parent == Some(own.as_str()) && String::from_utf8_lossy(&command).contains("sandbox-host")
    };
    pids.filter(is_host).collect()
}

pub(crate) fn host_of(tenant: &str) -> Result<i32, Failure> {
    let is_of = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&format!("--tenant\0{tenant}\0"))
    };
    Ok(hosts().into_iter().find(is_of).ok_or("no such host")?)
}

pub(crate) fn kill(pid: i32) {
    // SAFETY: kill has no memory effects; the process is a child of ours that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Waits until a process that is not ours any more has ended.
pub(crate) async fn gone(pid: i32) -> io::Result<()> {
    while Path::new(&format!("/proc/{pid}")).exists() && hosts().contains(&pid) {
        tokio::task::yield_now().await;
    }
    Ok(())
}
