//! A runtime that keeps sandboxes and containers in memory, and answers commands with what they are.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use cri::*;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::broadcast,
};
use tokio_stream::wrappers::BroadcastStream;

/// A time that nothing else is at.
pub(crate) const CREATED: i64 = 1_700_000_000_000_000_000;

#[derive(Default)]
struct State {
    made: usize,
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, Image>,
    pod_cidr: String,
    /// What was last asked for, in words.
    asked: Vec<String>,
}

pub(crate) struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            events: broadcast::channel(1024).0,
        }
    }
}

fn not_found(what: &'static str, id: &impl ToString) -> Error {
    Error::NotFound {
        what,
        id: id.to_string(),
    }
}

impl Fake {
    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().asked)
    }

    fn note(&self, text: String) {
        self.state.lock().asked.push(text);
    }

    fn tell(&self, pod_uid: &str) {
        let id = SandboxId(String::new());
        let pod_uid = pod_uid.to_owned();
        let _ = self.events.send(Event::Sandbox { id, pod_uid });
    }

    fn set(&self, id: &ContainerId, change: impl FnOnce(&mut Container)) -> Result<(), Error> {
        let mut state = self.state.lock();
        let container = state
            .containers
            .get_mut(&id.0)
            .ok_or_else(|| not_found("container", id))?;
        change(container);
        let uid = container.pod_uid.clone();
        drop(state);
        self.tell(&uid);
        Ok(())
    }
}

#[async_trait]
impl Runtime for Fake {
    fn version(&self) -> Version {
        Version {
            name: "fake".into(),
            version: "1.2.3".into(),
        }
    }

    async fn status(&self) -> Vec<Condition> {
        let ready = !self.state.lock().pod_cidr.is_empty();
        let condition = |kind: &str, status, reason: &str| Condition {
            kind: kind.into(),
            status,
            reason: reason.into(),
            message: String::new(),
        };
        let reason = if ready { "" } else { "NoPodRange" };
        vec![
            condition("RuntimeReady", true, ""),
            condition("NetworkReady", ready, reason),
        ]
    }

    async fn features(&self) -> Features {
        Features {
            handlers: vec![Handler::default()],
            supplemental_groups_policy: true,
            ..Features::default()
        }
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        self.state.lock().pod_cidr = config.pod_cidr;
        Ok(())
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        if handler == "nobody" {
            return Err(Error::InvalidConfig {
                message: format!("no runtime for \"{handler}\" is configured"),
            });
        }
        let mut state = self.state.lock();
        let same = state.sandboxes.values().find(|sandbox| {
            (&sandbox.config.name, &sandbox.config.uid, sandbox.config.attempt)
                == (&config.name, &config.uid, config.attempt)
        });
        if let Some(same) = same {
            return Ok(same.clone());
        }
        state.made += 1;
        let sandbox = Sandbox {
            id: SandboxId(format!("s{}-sandbox", state.made)),
            config,
            state: SandboxState::Ready,
            ips: vec!["10.0.0.7".parse().unwrap()],
            created_at: CREATED,
            handler: handler.into(),
            network_namespace: None,
        };
        state.sandboxes.insert(sandbox.id.0.clone(), sandbox.clone());
        drop(state);
        self.tell(&sandbox.config.uid);
        Ok(sandbox)
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let mut state = self.state.lock();
        for container in state
            .containers
            .values_mut()
            .filter(|container| container.sandbox == *id)
        {
            container.state = ContainerState::Exited;
        }
        if let Some(sandbox) = state.sandboxes.get_mut(&id.0) {
            sandbox.state = SandboxState::NotReady;
        }
        drop(state);
        self.tell("");
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.containers.retain(|_, container| container.sandbox != *id);
        state.sandboxes.remove(&id.0);
        drop(state);
        self.tell("");
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        Ok(self.state.lock().sandboxes.values().cloned().collect())
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let mut state = self.state.lock();
        let home = state
            .sandboxes
            .get(&sandbox.0)
            .ok_or_else(|| not_found("sandbox", sandbox))?;
        let (log_path, pod_uid) = (
            format!("{}/{}", home.config.log_directory, config.log_path),
            home.config.uid.clone(),
        );
        state.made += 1;
        let id = ContainerId(format!("c{}-container", state.made));
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            pod_uid: pod_uid.clone(),
            config,
            state: ContainerState::Created,
            created_at: CREATED,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path,
            user: Some(Box::new(ContainerUser {
                uid: 65534,
                ..ContainerUser::default()
            })),
        };
        state.containers.insert(id.0.clone(), container);
        drop(state);
        self.tell(&pod_uid);
        Ok(id)
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.set(id, |container| {
            container.state = ContainerState::Running;
            container.started_at = CREATED + 1;
        })
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.note(format!("stop {id} {grace:?}"));
        self.set(id, |container| {
            container.state = ContainerState::Exited;
            container.finished_at = CREATED + 2;
            container.exit_code = 137;
            container.reason = "Error".into();
        })
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.state.lock().containers.remove(&id.0);
        self.tell("");
        Ok(())
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        Ok(self.state.lock().containers.values().cloned().collect())
    }

    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.note(format!("reopen {id}"));
        Ok(())
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        self.set(id, |container| container.config.resources = resources)
    }

    async fn update_linux_resources(
        &self,
        id: &ContainerId,
        resources: Resources,
        linux: LinuxResources,
    ) -> Result<(), Error> {
        self.note(format!("cpus {}", linux.cpuset_cpus));
        self.update_container_resources(id, resources).await
    }

    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        if command == ["sleep"] {
            return Err(Error::Timeout {
                what: "exec",
                after: timeout,
            });
        }
        let limit = if timeout == Duration::MAX {
            "no limit".to_owned()
        } else {
            format!("{timeout:?}")
        };
        Ok(ExecOutput {
            stdout: format!("{} in {id} with {limit}", command.join(" ")).into_bytes(),
            stderr: b"oops".to_vec(),
            exit_code: 7,
        })
    }

    /// Says the command, then what it is told, and ends with 3.
    async fn exec(&self, _: &ContainerId, request: ExecRequest) -> Result<Session, Error> {
        let (mut inside, stdout) = tokio::io::duplex(64);
        let (stdin, mut from_client) = tokio::io::duplex(64);
        let ended = tokio::spawn(async move {
            let said = request.command.join(" ");
            inside.write_all(said.as_bytes()).await.unwrap();
            let mut told = String::new();
            if request.streams.stdin {
                from_client.read_to_string(&mut told).await.unwrap();
            }
            inside.write_all(told.as_bytes()).await.unwrap();
            3
        });
        Ok(Session {
            stdin: request.streams.stdin.then(|| Box::pin(stdin) as Writer),
            stdout: request.streams.stdout.then(|| Box::pin(stdout) as Reader),
            stderr: None,
            resize: None,
            ended: async move { Ok(ended.await.unwrap()) }.boxed(),
        })
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
        let command = vec![format!("attached to {id}")];
        self.exec(id, ExecRequest { command, streams }).await
    }

    /// Says the port and what it is told.
    async fn port_forward(&self, _: &SandboxId, port: u16) -> Result<Connection, Error> {
        let (mut inside, outside) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let mut told = [0; 4];
            inside.read_exact(&mut told).await.unwrap();
            inside.write_all(port.to_string().as_bytes()).await.unwrap();
            inside.write_all(&told).await.unwrap();
        });
        Ok(Box::pin(outside))
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let events = BroadcastStream::new(self.events.subscribe());
        events.map(|event| event.unwrap_or(Event::Lost)).boxed()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        let state = self.state.lock();
        let running = state
            .containers
            .values()
            .filter(|container| container.state == ContainerState::Running);
        let stats = running.map(|container| ContainerStats {
            id: container.id.clone(),
            sandbox: container.sandbox.clone(),
            name: container.config.name.clone(),
            pod_uid: container.pod_uid.clone(),
            timestamp: CREATED + 5,
            cpu_usage_core_nanoseconds: 2_500_000_000,
            memory_working_set_bytes: 4096,
            requests: 0,
            instances: 1,
            wasm: None,
            linux: None,
        });
        Ok(stats.collect())
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        let running = self.stats().await?;
        let stats = running.into_iter().map(|stats| SandboxStats {
            id: stats.sandbox.0,
            pod_uid: stats.pod_uid,
            timestamp: stats.timestamp,
            cpu_usage_core_nanoseconds: stats.cpu_usage_core_nanoseconds,
            memory_working_set_bytes: stats.memory_working_set_bytes,
            interfaces: Vec::new(),
            processes: 0,
        });
        Ok(stats.collect())
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        if reference.chars().any(char::is_uppercase) || reference.len() == 64 {
            return Err(Error::InvalidImageName {
                reference: reference.into(),
                reason: "no".into(),
            });
        }
        let state = self.state.lock();
        let named = |image: &&Image| image.id == reference || image.tags.iter().any(|tag| tag == reference);
        Ok(state.images.values().find(named).cloned())
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        if pull.reference == "registry/absent:1" {
            return Err(Error::ImagePull {
                reference: pull.reference,
                reason: "manifest unknown".into(),
            });
        }
        if let Some(auth) = &pull.auth {
            self.note(format!("{} signs in", auth.username));
        }
        let mut state = self.state.lock();
        let id = format!("sha256:{:064x}", pull.reference.len());
        let image = state.images.entry(id.clone()).or_insert_with(|| Image {
            id,
            digests: vec!["registry/hello@sha256:dd".into()],
            size: 1234,
            user: Some(ImageUser::Id(1000)),
            ..Image::default()
        });
        if !image.tags.contains(&pull.reference) {
            image.tags.push(pull.reference);
        }
        Ok(PulledImage {
            image: image.clone(),
            took: Duration::ZERO,
        })
    }

    async fn import_image(&self, _: &str, _: ImportContent) -> Result<Imported, Error> {
        Err(Error::Unsupported {
            what: "import",
            reason: "it is a fake".into(),
        })
    }

    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error> {
        Err(not_found("image", &reference))
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        self.state.lock().images.remove(reference);
        Ok(())
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        Ok(FilesystemUsage {
            used_bytes: 99,
            inodes_used: 3,
        })
    }

    async fn image_filesystems(&self) -> Result<Vec<Filesystem>, Error> {
        Ok(vec![Filesystem {
            mountpoint: PathBuf::from("/images"),
            timestamp: 0,
            usage: self.image_filesystem().await?,
        }])
    }
}
