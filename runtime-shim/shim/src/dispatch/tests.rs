use std::sync::atomic::{AtomicBool, Ordering};

use cri::{ContainerState, FilesystemUsage, Handler, Join};

use super::*;

/// A runtime that holds what it is told to, and knows some images.
struct Fake {
    prefix: &'static str,
    images: Vec<&'static str>,
    away: AtomicBool,
    sandboxes: Mutex<Vec<Sandbox>>,
    containers: Mutex<Vec<Container>>,
}

impl Fake {
    fn new(prefix: &'static str, images: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            prefix,
            images: images.to_vec(),
            away: AtomicBool::new(false),
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
        })
    }

    fn here(&self) -> Result<(), Error> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(Error::failed("asking", "away")),
            false => Ok(()),
        }
    }

    fn known(&self, reference: &str) -> Option<Image> {
        self.images
            .iter()
            .find(|image| **image == reference)
            .map(|image| Image {
                id: (*image).to_owned(),
                ..Image::default()
            })
    }
}

fn no() -> Error {
    Error::Unsupported {
        what: "this",
        reason: "not in a fake".into(),
    }
}

#[async_trait]
impl Runtime for Fake {
    fn version(&self) -> Version {
        Version {
            name: self.prefix.into(),
            version: "0".into(),
        }
    }

    async fn status(&self) -> Vec<Condition> {
        vec![Condition {
            kind: "RuntimeReady".into(),
            status: self.here().is_ok(),
            reason: String::new(),
            message: self.prefix.into(),
        }]
    }

    async fn features(&self) -> Features {
        let handler = |name: &str| Handler {
            name: name.into(),
            ..Handler::default()
        };
        Features {
            handlers: vec![handler(""), handler(self.prefix)],
            ..Features::default()
        }
    }

    async fn update_config(&self, _: RuntimeConfig) -> Result<(), Error> {
        self.here()
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        self.here()?;
        let mut sandboxes = self.sandboxes.lock();
        let sandbox = Sandbox {
            id: SandboxId(format!("{}-{}", self.prefix, sandboxes.len())),
            config,
            state: SandboxState::Ready,
            ips: vec![],
            created_at: 0,
            handler: handler.into(),
            network_namespace: Some("/run/netns/x".into()),
        };
        sandboxes.push(sandbox.clone());
        Ok(sandbox)
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.here()?;
        let mut sandboxes = self.sandboxes.lock();
        let stopped = sandboxes.iter_mut().filter(|sandbox| sandbox.id == *id);
        stopped.for_each(|sandbox| sandbox.state = SandboxState::NotReady);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.here()?;
        self.sandboxes.lock().retain(|sandbox| sandbox.id != *id);
        self.containers.lock().retain(|container| container.sandbox != *id);
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        self.here().map(|()| self.sandboxes.lock().clone())
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        self.here()?;
        let mut containers = self.containers.lock();
        let id = ContainerId(format!("{}-c{}", self.prefix, containers.len()));
        containers.push(Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            pod_uid: String::new(),
            config,
            state: ContainerState::Created,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path: String::new(),
            user: None,
        });
        Ok(id)
    }

    async fn start_container(&self, _: &ContainerId) -> Result<(), Error> {
        Err(no())
    }

    async fn stop_container(&self, _: &ContainerId, _: Duration) -> Result<(), Error> {
        Err(no())
    }

    async fn remove_container(&self, _: &ContainerId) -> Result<(), Error> {
        Err(no())
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        self.here().map(|()| self.containers.lock().clone())
    }

    async fn reopen_container_log(&self, _: &ContainerId) -> Result<(), Error> {
        Err(no())
    }

    async fn update_container_resources(&self, _: &ContainerId, _: Resources) -> Result<(), Error> {
        Err(no())
    }

    async fn exec_sync(&self, _: &ContainerId, _: Vec<String>, _: Duration) -> Result<ExecOutput, Error> {
        Err(no())
    }

    async fn exec(&self, _: &ContainerId, _: ExecRequest) -> Result<Session, Error> {
        Err(no())
    }

    async fn attach(&self, _: &ContainerId, _: Streams) -> Result<Session, Error> {
        Err(no())
    }

    async fn port_forward(&self, _: &SandboxId, _: u16) -> Result<Connection, Error> {
        Err(no())
    }

    fn events(&self) -> BoxStream<'static, Event> {
        futures::stream::empty().boxed()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        self.here().map(|()| Vec::new())
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        self.here().map(|()| Vec::new())
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        self.here()?;
        Ok(self.images.iter().filter_map(|image| self.known(image)).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        self.here().map(|()| self.known(reference))
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        self.here()?;
        let image = self.known(&pull.reference).ok_or(Error::Unsupported {
            what: "an OCI container image",
            reason: format!("image \"{}\" holds no Wasm program", pull.reference),
        })?;
        Ok(PulledImage {
            image,
            took: Duration::ZERO,
        })
    }

    async fn import_image(&self, name: &str, _: ImportContent) -> Result<Imported, Error> {
        let pulled = self.pull_image(PullImage {
            reference: name.into(),
            ..PullImage::default()
        });
        pulled.await.map(|pulled| Imported {
            image: pulled.image,
            warning: None,
        })
    }

    async fn image_program(&self, _: &str) -> Result<std::fs::File, Error> {
        Err(no())
    }

    async fn remove_image(&self, _: &str) -> Result<(), Error> {
        Err(no())
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        Ok(FilesystemUsage::default())
    }
}

/// Both runtimes, with the image `w` of Wasm and `o` of a container.
fn both() -> (Arc<Fake>, Arc<Fake>, Dispatch) {
    let (wasm, containers) = (Fake::new("wasm", &["w"]), Fake::new("containerd", &["o"]));
    let dispatch = Dispatch::new(wasm.clone(), Containers::Runtime(containers.clone()));
    (wasm, containers, dispatch)
}

fn made_of(image: &str) -> ContainerConfig {
    ContainerConfig {
        name: image.into(),
        image: image.into(),
        ..ContainerConfig::default()
    }
}

async fn pull(dispatch: &Dispatch, reference: &str) -> Result<String, Error> {
    let pull = PullImage {
        reference: reference.into(),
        ..PullImage::default()
    };
    dispatch.pull_image(pull).await.map(|pulled| pulled.image.id)
}

#[test]
fn an_id_says_whose_it_is() {
    assert_eq!(owner("wasm-0123"), Owner::Wasm);
    assert_eq!(owner("containerd-0123"), Owner::Containers);
    assert_eq!(owner(""), Owner::Nobody);
}

#[tokio::test]
async fn the_handler_chooses_and_containers_are_the_default() {
    let (_, _, dispatch) = both();
    for (handler, prefix) in [
        ("", "containerd"),
        ("wasm", "wasm"),
        ("wasm-isolated", "wasm"),
        ("kata", "containerd"),
    ] {
        let made = dispatch.run_sandbox(SandboxConfig::default(), handler).await.unwrap();
        assert!(made.id.0.starts_with(prefix), "{handler}: {}", made.id);
    }
    let none = Containers::None {
        reason: "there is none".into(),
    };
    let alone = Dispatch::new(Fake::new("wasm", &[]), none);
    let made = alone.run_sandbox(SandboxConfig::default(), "").await.unwrap();
    assert!(made.id.0.starts_with("wasm"));
    assert!(alone.run_sandbox(SandboxConfig::default(), "kata").await.is_err());
}

#[tokio::test]
async fn there_is_one_default_handler() {
    let (_, _, dispatch) = both();
    let handlers = dispatch.features().await.handlers;
    let names: Vec<&str> = handlers.iter().map(|handler| &*handler.name).collect();
    assert_eq!(names, ["", "containerd", "wasm"]);
}

#[tokio::test]
async fn images_go_to_who_can_run_them() {
    let (_, _, dispatch) = both();
    assert_eq!(pull(&dispatch, "w").await.unwrap(), "w");
    assert_eq!(pull(&dispatch, "o").await.unwrap(), "o");
    assert_eq!(dispatch.list_images().await.unwrap().len(), 2);
    let none = Containers::None {
        reason: "there is no containerd".into(),
    };
    let alone = Dispatch::new(Fake::new("wasm", &["w"]), none);
    let refused = pull(&alone, "o").await.unwrap_err().to_string();
    assert!(
        refused.ends_with("holds no Wasm program; there is no containerd"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_wasm_container_joins_a_pod_of_containers_and_goes_with_it() {
    let (wasm, _, dispatch) = both();
    let pod = dispatch.run_sandbox(SandboxConfig::default(), "").await.unwrap();
    for image in ["o", "w", "w"] {
        dispatch.create_container(&pod.id, made_of(image)).await.unwrap();
    }
    let joined: Vec<Option<Box<Join>>> = wasm.sandboxes.lock().iter().map(|s| s.config.join.clone()).collect();
    let [Some(join)] = &joined[..] else {
        panic!("one companion for both: {joined:?}")
    };
    assert_eq!(
        (&join.sandbox, &join.network_namespace),
        (&pod.id, &pod.network_namespace)
    );
    let containers = dispatch.list_containers().await.unwrap();
    assert!(containers.len() == 3 && containers.iter().all(|container| container.sandbox == pod.id));
    for container in &containers {
        let found = dispatch.container(&container.id).await.unwrap();
        assert_eq!(found.map(|found| found.sandbox), Some(pod.id.clone()));
    }
    assert_eq!(dispatch.list_sandboxes().await.unwrap().len(), 1);
    let companion = wasm.sandboxes.lock()[0].id.clone();
    assert!(dispatch.sandbox(&companion).await.unwrap().is_none());
    dispatch.stop_sandbox(&pod.id).await.unwrap();
    assert!(
        wasm.sandboxes
            .lock()
            .iter()
            .all(|sandbox| sandbox.state == SandboxState::NotReady)
    );
    dispatch.remove_sandbox(&pod.id).await.unwrap();
    assert!(wasm.sandboxes.lock().is_empty() && dispatch.list_containers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_container_cannot_join_a_wasm_sandbox() {
    let (_, _, dispatch) = both();
    let pod = dispatch.run_sandbox(SandboxConfig::default(), "wasm").await.unwrap();
    dispatch.create_container(&pod.id, made_of("w")).await.unwrap();
    let refused = dispatch.create_container(&pod.id, made_of("o")).await.unwrap_err();
    assert!(refused.to_string().contains("only Wasm containers"), "{refused}");
}

#[tokio::test]
async fn a_runtime_that_is_away_takes_nothing_from_the_other() {
    let (_, containers, dispatch) = both();
    containers.away.store(true, Ordering::Relaxed);
    assert!(dispatch.list_sandboxes().await.is_err(), "nobody knows what it holds");
    containers.away.store(false, Ordering::Relaxed);
    let pod = dispatch.run_sandbox(SandboxConfig::default(), "").await.unwrap();
    dispatch.create_container(&pod.id, made_of("o")).await.unwrap();
    assert_eq!(
        (
            dispatch.list_sandboxes().await.unwrap().len(),
            dispatch.list_containers().await.unwrap().len()
        ),
        (1, 1)
    );
    containers.away.store(true, Ordering::Relaxed);
    let other = dispatch.run_sandbox(SandboxConfig::default(), "wasm").await.unwrap();
    dispatch.create_container(&other.id, made_of("w")).await.unwrap();
    assert_eq!(
        (
            dispatch.list_sandboxes().await.unwrap().len(),
            dispatch.list_containers().await.unwrap().len()
        ),
        (2, 2)
    );
    assert_eq!(
        dispatch.image("w").await.unwrap().map(|image| image.id).as_deref(),
        Some("w")
    );
    assert_eq!(pull(&dispatch, "w").await.unwrap(), "w");
    assert!(dispatch.status().await.iter().any(|condition| !condition.status));
    assert!(dispatch.stop_sandbox(&pod.id).await.is_err());
}
