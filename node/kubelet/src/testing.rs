//! A container runtime in memory, for tests: it keeps CRI's promises (idempotent calls, states that only go forward) and
//! does what a test tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use cri::{
    Condition, Connection, Container, ContainerConfig, ContainerId, ContainerState, ContainerStats, Content, Error,
    Event, ExecOutput, ExecRequest, FilesystemUsage, Image, ImageUser, ImportContent, Imported, PullImage, PulledImage,
    Resources, RuntimeConfig, Sandbox, SandboxConfig, SandboxId, SandboxState, SandboxStats, Session, Streams, Version,
};
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// The runtime. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Event>,
    clock: client::Clock,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    containers: BTreeMap<ContainerId, Container>,
    images: BTreeSet<String>,
    pod_cidr: String,
    /// Whether sandboxes get addresses of the pod range; else all are at 127.0.0.1, where tests can serve.
    addressed: bool,
    refusals: BTreeMap<String, String>,
    /// What is told of images whose containers take long to make.
    slow: BTreeMap<String, String>,
    /// Who may pull what not everybody may.
    private: BTreeMap<String, String>,
    /// What commands in containers say, by the command's words.
    programs: BTreeMap<String, ExecOutput>,
    /// Images that hold Linux containers, and the users they ask for.
    linux: BTreeMap<String, Option<ImageUser>>,
    stubborn: bool,
    deaf: bool,
    /// Every call that changed something, in words, in order.
    journal: Vec<String>,
    /// The most running copies of one container of one pod there ever were.
    most_copies: usize,
}

impl FakeRuntime {
    /// A runtime that holds these images.
    pub fn new(clock: client::Clock, images: &[&str]) -> Self {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        let state = State {
            images,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            events: broadcast::channel(1024).0,
            clock,
        }
    }

    /// Ends a running container by itself, as its program would.
    pub fn exit(&self, pod_uid: &str, name: &str, code: i32) {
        let now = self.now();
        let mut state = self.state.lock();
        let running = state.containers.values_mut().rev();
        let found = running.filter(|c| c.state == ContainerState::Running && c.pod_uid == pod_uid);
        let Some(container) = found.filter(|c| c.config.name == name).max_by_key(|c| c.config.attempt) else {
            return;
        };
        finish(container, code, now);
        let id = container.id.clone();
        drop(state);
        self.tell(&id, pod_uid, ContainerState::Exited);
    }

    /// Loses every sandbox, as a reboot or a crash of their host does.
    pub fn lose_sandboxes(&self) {
        let mut state = self.state.lock();
        state
            .sandboxes
            .values_mut()
            .for_each(|s| s.state = SandboxState::NotReady);
        state
            .containers
            .values_mut()
            .filter(|c| c.state < ContainerState::Exited)
            .for_each(|c| c.state = ContainerState::Unknown);
        drop(state);
        let _ = self.events.send(Event::Lost); // nobody may be listening
    }

    /// Refuses to create containers of this image, for this reason, until `None`.
    pub fn refuse(&self, image: &str, reason: Option<&str>) {
        let mut state = self.state.lock();
        match reason {
            Some(reason) => state.refusals.insert(image.into(), reason.into()),
            None => state.refusals.remove(image),
        };
    }

    /// Takes a minute over each container of this image, and says this meanwhile.
    pub fn make_slow(&self, image: &str, message: &str) {
        self.state.lock().slow.insert(image.into(), message.into());
    }

    /// Lets only this user pull the image.
    pub fn require_user(&self, image: &str, user: &str) {
        self.state.lock().private.insert(image.into(), user.into());
    }

    /// Makes an image one of Linux containers, which runs as `user`.
    pub fn make_linux(&self, image: &str, user: Option<ImageUser>) {
        let mut state = self.state.lock();
        state.images.insert(image.to_owned());
        state.linux.insert(image.to_owned(), user);
    }

    /// Says what a command gives when it is run in any container; others are unknown.
    pub fn answer(&self, command: &str, exit_code: i32, stdout: &str) {
        let output = ExecOutput {
            stdout: stdout.as_bytes().to_vec(),
            exit_code,
            ..ExecOutput::default()
        };
        self.state.lock().programs.insert(command.to_owned(), output);
    }

    /// What a container of a pod was made from, in its last attempt.
    pub fn config(&self, pod_uid: &str, name: &str) -> Option<ContainerConfig> {
        let state = self.state.lock();
        let named = state
            .containers
            .values()
            .filter(|c| c.pod_uid == pod_uid && c.config.name == name);
        named.max_by_key(|c| c.config.attempt).map(|c| c.config.clone())
    }

    /// What the last sandbox of a pod was made from, and by which handler.
    pub fn sandbox(&self, pod_uid: &str) -> Option<(SandboxConfig, String)> {
        let state = self.state.lock();
        let of_pod = state.sandboxes.values().filter(|s| s.config.uid == pod_uid);
        let last = of_pod.max_by_key(|s| s.config.attempt)?;
        Some((last.config.clone(), last.handler.clone()))
    }

    /// Containers use up their whole grace period when they are stopped.
    pub fn make_stubborn(&self) {
        self.state.lock().stubborn = true;
    }

    /// Containers do not end when they are stopped, though the runtime says so.
    pub fn make_deaf(&self, deaf: bool) {
        self.state.lock().deaf = deaf;
    }

    /// Gives every ready sandbox an address of its own from the pod range.
    pub fn assign_addresses(&self) {
        self.state.lock().addressed = true;
    }

    /// Every call that changed something, in words, in order.
    pub fn journal(&self) -> Vec<String> {
        self.state.lock().journal.clone()
    }

    /// The most running copies of one container of one pod there ever were; more than one is wrong.
    pub fn most_copies(&self) -> usize {
        self.state.lock().most_copies
    }

    fn now(&self) -> i64 {
        i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    fn tell(&self, id: &ContainerId, pod_uid: &str, state: ContainerState) {
        let event = Event::Container {
            id: id.clone(),
            pod_uid: pod_uid.into(),
            state,
        };
        let _ = self.events.send(event); // nobody may be listening
    }

    fn end(&self, id: &ContainerId, code: i32) {
        let now = self.now();
        let mut state = self.state.lock();
        let Some(container) = state
            .containers
            .get_mut(id)
            .filter(|c| c.state < ContainerState::Exited)
        else {
            return;
        };
        finish(container, code, now);
        let pod_uid = container.pod_uid.clone();
        drop(state);
        self.tell(id, &pod_uid, ContainerState::Exited);
    }
}

impl State {
    /// The lowest address of the pod range that no ready sandbox has, behind the gateway's.
    fn free_address(&self) -> IpAddr {
        let network = self.pod_cidr.split('/').next().and_then(|n| n.parse::<Ipv4Addr>().ok());
        let Some(network) = network.filter(|_| self.addressed) else {
            return IpAddr::V4(Ipv4Addr::LOCALHOST);
        };
        let ready = self.sandboxes.values().filter(|s| s.state == SandboxState::Ready);
        let taken: BTreeSet<IpAddr> = ready.flat_map(|s| s.ips.iter().copied()).collect();
        (2..)
            .map(|n| IpAddr::V4(Ipv4Addr::from(u32::from(network) + n)))
            .find(|address| !taken.contains(address))
            .expect("a range without end")
    }
}

fn finish(container: &mut Container, code: i32, now: i64) {
    container.state = ContainerState::Exited;
    container.exit_code = code;
    container.finished_at = now;
    container.reason = if code == 0 { "Completed".into() } else { "Error".into() };
}

fn absent(what: &'static str, id: &impl ToString) -> Error {
    Error::NotFound {
        what,
        id: id.to_string(),
    }
}

fn no_programs() -> Error {
    Error::Unsupported {
        what: "a stream into a container",
        reason: "its containers are records".into(),
    }
}

#[async_trait]
impl cri::Runtime for FakeRuntime {
    fn version(&self) -> Version {
        Version {
            name: "fake".into(),
            version: "1".into(),
        }
    }

    async fn status(&self) -> Vec<Condition> {
        let network = !self.state.lock().pod_cidr.is_empty();
        let condition = |kind: &str, status| Condition {
            kind: kind.into(),
            status,
            reason: String::new(),
            message: String::new(),
        };
        vec![condition("RuntimeReady", true), condition("NetworkReady", network)]
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        self.state.lock().pod_cidr = config.pod_cidr;
        Ok(())
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        let id = SandboxId(format!("sandbox-{}-{}", config.uid, config.attempt));
        let created_at = self.now();
        let mut state = self.state.lock();
        if let Some(known) = state.sandboxes.get(&id) {
            return Ok(known.clone());
        }
        state.journal.push(format!("run {id}"));
        let ips = vec![state.free_address()];
        let (pod_uid, handler) = (config.uid.clone(), handler.to_owned());
        let sandbox = Sandbox {
            id: id.clone(),
            config,
            state: SandboxState::Ready,
            ips,
            created_at,
            handler,
            network_namespace: None,
        };
        state.sandboxes.insert(id.clone(), sandbox.clone());
        drop(state);
        let _ = self.events.send(Event::Sandbox { id, pod_uid }); // nobody may be listening
        Ok(sandbox)
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let mut state = self.state.lock();
        let Some(sandbox) = state.sandboxes.get_mut(id) else {
            return Ok(());
        };
        sandbox.state = SandboxState::NotReady;
        state.journal.push(format!("stop {id}"));
        let inside: Vec<ContainerId> = state
            .containers
            .values()
            .filter(|c| c.sandbox == *id)
            .map(|c| c.id.clone())
            .collect();
        drop(state);
        inside.iter().for_each(|container| self.end(container, 137));
        let _ = self.events.send(Event::Lost); // nobody may be listening
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.sandboxes.remove(id).is_some() {
            state.containers.retain(|_, c| c.sandbox != *id);
            state.journal.push(format!("remove {id}"));
        }
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        Ok(self.state.lock().sandboxes.values().cloned().collect())
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let slow = self.state.lock().slow.get(&config.image).cloned();
        if let Some(message) = slow {
            let reference = config.image.clone();
            let _ = self.events.send(Event::Image { reference, message }); // nobody may be listening
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let created_at = self.now();
        let mut state = self.state.lock();
        let home = state.sandboxes.get(sandbox).ok_or_else(|| absent("sandbox", sandbox))?;
        let pod_uid = home.config.uid.clone();
        let log_path = format!("{}/{}", home.config.log_directory, config.log_path);
        let id = ContainerId(format!("{}-{pod_uid}-{}", config.name, config.attempt));
        if state.containers.contains_key(&id) {
            return Ok(id);
        }
        if let Some(reason) = state.refusals.get(&config.image) {
            return Err(Error::UnrunnableImage {
                reference: config.image,
                reason: reason.clone(),
            });
        }
        state.journal.push(format!("create {id}"));
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            pod_uid,
            config,
            state: ContainerState::Created,
            created_at,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path,
            user: None,
        };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        let started_at = self.now();
        let mut state = self.state.lock();
        let container = state.containers.get_mut(id).ok_or_else(|| absent("container", id))?;
        if container.state != ContainerState::Created {
            return Err(Error::Start {
                reason: "it was started before".into(),
            });
        }
        container.state = ContainerState::Running;
        container.started_at = started_at;
        let (pod_uid, name) = (container.pod_uid.clone(), container.config.name.clone());
        let running = state.containers.values().filter(|c| c.state == ContainerState::Running);
        let copies = running
            .filter(|c| c.pod_uid == pod_uid && c.config.name == name)
            .count();
        state.most_copies = state.most_copies.max(copies);
        state.journal.push(format!("start {id}"));
        drop(state);
        self.tell(id, &pod_uid, ContainerState::Running);
        Ok(())
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let (stubborn, deaf) = {
            let mut state = self.state.lock();
            state.journal.push(format!("stop {id} in {}s", grace.as_secs()));
            (state.stubborn, state.deaf)
        };
        if deaf {
            return Ok(());
        }
        if stubborn {
            tokio::time::sleep(grace).await;
        }
        self.end(id, if stubborn { 137 } else { 143 });
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.containers.remove(id).is_some() {
            state.journal.push(format!("remove {id}"));
        }
        Ok(())
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        Ok(self.state.lock().containers.values().cloned().collect())
    }

    async fn reopen_container_log(&self, _id: &ContainerId) -> Result<(), Error> {
        Ok(())
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        let mut state = self.state.lock();
        let container = state.containers.get_mut(id).ok_or_else(|| absent("container", id))?;
        container.config.resources = resources;
        Ok(())
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let receiver = self.events.subscribe();
        let next = async |mut receiver: broadcast::Receiver<Event>| match receiver.recv().await {
            Ok(event) => Some((event, receiver)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some((Event::Lost, receiver)),
            Err(broadcast::error::RecvError::Closed) => None,
        };
        futures::stream::unfold(receiver, next).boxed()
    }

    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, _: Duration) -> Result<ExecOutput, Error> {
        let mut state = self.state.lock();
        let command = command.join(" ");
        state.journal.push(format!("exec {command} in {id}"));
        state.programs.get(&command).cloned().ok_or_else(no_programs)
    }

    async fn exec(&self, _: &ContainerId, _: ExecRequest) -> Result<Session, Error> {
        Err(no_programs())
    }

    async fn attach(&self, _: &ContainerId, _: Streams) -> Result<Session, Error> {
        Err(no_programs())
    }

    async fn port_forward(&self, _: &SandboxId, _: u16) -> Result<Connection, Error> {
        Err(no_programs())
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        Ok(Vec::new())
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        Ok(Vec::new())
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        let (images, linux) = {
            let state = self.state.lock();
            (state.images.clone(), state.linux.clone())
        };
        Ok(images
            .into_iter()
            .map(|name| Image {
                id: format!("sha256:{name}"),
                content: match linux.contains_key(&name) {
                    true => Content::Linux,
                    false => Content::Wasm,
                },
                user: linux.get(&name).cloned().flatten(),
                tags: vec![name],
                ..Image::default()
            })
            .collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        Ok(self
            .list_images()
            .await?
            .into_iter()
            .find(|image| image.tags.iter().any(|tag| tag == reference)))
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        let refused = |reason: &str| Error::ImagePull {
            reference: pull.reference.clone(),
            reason: reason.into(),
        };
        let known = pull.auth.as_ref().map(|auth| auth.username.clone()).unwrap_or_default();
        let stranger = {
            let mut state = self.state.lock();
            state.journal.push(format!("pull {} as {known:?}", pull.reference));
            let private = state.private.get(&pull.reference);
            private.is_some_and(|user| *user != known)
        };
        if stranger {
            return Err(refused("authorization failed"));
        }
        let image = self.image(&pull.reference).await?;
        let took = Duration::from_millis(1200);
        let pulled = image.map(|image| PulledImage { image, took });
        pulled.ok_or_else(|| refused("no such image"))
    }

    async fn import_image(&self, name: &str, _content: ImportContent) -> Result<Imported, Error> {
        self.state.lock().images.insert(name.into());
        Ok(Imported {
            image: Image {
                id: format!("sha256:{name}"),
                tags: vec![name.into()],
                ..Image::default()
            },
            warning: None,
        })
    }

    async fn image_program(&self, _reference: &str) -> Result<std::fs::File, Error> {
        Err(Error::Unsupported {
            what: "looking into an image",
            reason: "its images are names".into(),
        })
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        self.state.lock().images.remove(reference);
        Ok(())
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        Ok(FilesystemUsage::default())
    }
}
