//! The runtime over a real containerd, with pods in the machine's own network. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says that something is wrong"
)]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use cri::{
    ContainerConfig, ContainerId, ContainerState, Content, Error, Event, ExecRequest, ImportContent, Runtime as _,
    Sandbox, SandboxConfig, SandboxState, Streams,
};
use e2e::{Containerd, PAUSE, Release, oci::Image};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const MINUTE: Duration = Duration::from_secs(60);

/// A containerd with a runtime over it.
struct Node {
    runtime: Arc<containerd::Runtime>,
    containerd: Containerd,
    tasks: TaskTracker,
    quit: CancellationToken,
    directory: tempfile::TempDir,
}

fn config(socket: &Path, owner: &str) -> containerd::Config {
    containerd::Config {
        socket: socket.to_owned(),
        owner: owner.to_owned(),
        network_name: "test".to_owned(),
        network: None,
    }
}

impl Node {
    async fn start(release: Release) -> Self {
        let directory = tempfile::Builder::new().prefix("wherry-ctd-").tempdir().unwrap();
        let containerd = Containerd::start(directory.path(), None, release);
        let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
        let runtime = containerd::Runtime::start(config(&containerd.socket(), "me"), &tasks, quit.clone()).await;
        let node = Self {
            runtime,
            containerd,
            tasks,
            quit,
            directory,
        };
        for (image, name) in [(Image::pause(), PAUSE), (Image::default(), "tools:1")] {
            let file = image.write(node.directory.path(), "image");
            let imported = node
                .runtime
                .import_image(name, ImportContent::File(file))
                .await
                .unwrap();
            assert_eq!(imported.image.content, Content::Linux);
        }
        node
    }

    async fn sandbox(&self, uid: &str) -> Sandbox {
        let config = SandboxConfig {
            name: format!("pod-{uid}"),
            namespace: "ns".into(),
            uid: uid.into(),
            log_directory: self.directory.path().join(uid).display().to_string(),
            host_network: true,
            ..SandboxConfig::default()
        };
        std::fs::create_dir_all(&config.log_directory).unwrap();
        self.runtime.run_sandbox(config, "").await.unwrap()
    }

    async fn container(&self, sandbox: &Sandbox, name: &str, script: &str) -> ContainerId {
        let config = ContainerConfig {
            name: name.into(),
            image: "tools:1".into(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: format!("{name}.log"),
            env: vec![("GREETING".into(), "ahoy".into())],
            labels: BTreeMap::from([("io.kubernetes.pod.uid".into(), sandbox.config.uid.clone())]),
            ..ContainerConfig::default()
        };
        let id = self.runtime.create_container(&sandbox.id, config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    async fn state(&self, id: &ContainerId) -> Option<cri::Container> {
        let all = self.runtime.list_containers().await.unwrap();
        all.into_iter().find(|container| container.id == *id)
    }

    async fn end(mut self) {
        for sandbox in self.runtime.list_sandboxes().await.unwrap() {
            self.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        }
        self.quit.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.containerd.end();
    }
}

/// Makes of each function a test for each containerd.
macro_rules! with_each_containerd {
    ($($module:ident $release:ident)*; $names:tt) => {
        $(with_each_containerd!(@ $module $release $names);)*
    };
    (@ $module:ident $release:ident ($($name:ident),* $(,)?)) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                e2e::need_root!();
                if e2e::Release::$release.program().is_none() {
                    eprintln!("SKIPPED: nobody said where the containerd of {:?} is", e2e::Release::$release);
                    return;
                }
                super::$name(e2e::Release::$release).await;
            })*
        }
    };
}

with_each_containerd! {
    containerd_1_6 Bookworm
    containerd_1_7 Trixie
    containerd_2 Forky;
    (
        a_container_lives_is_reached_into_and_goes,
        a_connection_to_a_port_of_a_pod,
        what_belongs_to_others_is_not_seen,
        a_containerd_that_goes_is_told_of_and_found_again,
    )
}

/// Waits for an event that fits.
async fn heard(events: &mut futures::stream::BoxStream<'static, Event>, fits: impl Fn(&Event) -> bool) {
    let hearing = async {
        while let Some(event) = events.next().await {
            if fits(&event) {
                return;
            }
        }
        panic!("the events ended");
    };
    tokio::time::timeout(MINUTE, hearing).await.expect("an event in time");
}

async fn a_container_lives_is_reached_into_and_goes(release: Release) {
    let node = Node::start(release).await;
    let mut events = node.runtime.events();
    let sandbox = node.sandbox("u1").await;
    assert_eq!(
        (sandbox.state, sandbox.config.host_network),
        (SandboxState::Ready, true)
    );
    let again = node.runtime.run_sandbox(sandbox.config.clone(), "").await.unwrap();
    assert_eq!(again.id, sandbox.id, "a create that is repeated answers the first");
    let id = node.container(&sandbox, "c", "echo $GREETING; cat; sleep 1000").await;
    let found = node.state(&id).await.unwrap();
    assert_eq!((found.state, &*found.pod_uid), (ContainerState::Running, "u1"));
    assert_eq!((&*found.config.image, &found.sandbox), ("tools:1", &sandbox.id));

    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let ran = node
        .runtime
        .exec_sync(&id, words(&["sh", "-c", "echo out; echo err >&2; exit 3"]), MINUTE)
        .await;
    let ran = ran.unwrap();
    assert_eq!(
        (&*ran.stdout, &*ran.stderr, ran.exit_code),
        (&b"out\n"[..], &b"err\n"[..], 3)
    );
    let late = node
        .runtime
        .exec_sync(&id, words(&["sleep", "100"]), Duration::from_secs(1))
        .await;
    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");

    let request = ExecRequest {
        command: words(&["sh", "-c", "cat; exit 4"]),
        streams: Streams {
            stdin: true,
            stdout: true,
            ..Streams::default()
        },
    };
    let mut session = node.runtime.exec(&id, request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through and back").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut said = String::new();
    session.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "through and back");
    assert_eq!(session.ended.await.unwrap(), 4);

    let stats = node.runtime.stats().await.unwrap();
    assert!(
        stats.iter().any(|usage| usage.id == id && usage.linux.is_some()),
        "{stats:?}"
    );
    let log = std::fs::read_to_string(&found.log_path).unwrap();
    assert!(log.contains("stdout F ahoy"), "{log}");

    node.runtime.stop_container(&id, Duration::from_secs(1)).await.unwrap();
    let (ended, wanted) = (node.state(&id).await.unwrap(), id.clone());
    assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, 137));
    let exit =
        |event: &Event| matches!(event, Event::Container { id, state: ContainerState::Exited, .. } if *id == wanted);
    heard(&mut events, exit).await;
    node.runtime.remove_container(&id).await.unwrap();
    node.runtime.remove_container(&id).await.unwrap();
    assert!(node.state(&id).await.is_none());
    node.end().await;
}

async fn a_connection_to_a_port_of_a_pod(release: Release) {
    let node = Node::start(release).await;
    let sandbox = node.sandbox("u1").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    node.container(
        &sandbox,
        "c",
        &format!("mkdir /www; echo here > /www/index.html; httpd -f -p 127.0.0.1:{port} -h /www"),
    )
    .await;
    let asking = async {
        loop {
            let mut connection = node.runtime.port_forward(&sandbox.id, port).await.unwrap();
            let _ = connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
            let mut said = String::new();
            if connection.read_to_string(&mut said).await.is_ok() && said.contains("here") {
                return;
            }
        }
    };
    tokio::time::timeout(MINUTE, asking).await.expect("it answers");
    node.end().await;
}

async fn what_belongs_to_others_is_not_seen(release: Release) {
    let node = Node::start(release).await;
    let sandbox = node.sandbox("u1").await;
    let id = node.container(&sandbox, "c", "sleep 1000").await;
    let other = containerd::Runtime::start(
        config(&node.containerd.socket(), "other"),
        &node.tasks,
        node.quit.clone(),
    )
    .await;
    assert!(other.list_sandboxes().await.unwrap().is_empty());
    assert!(other.list_containers().await.unwrap().is_empty());
    let image = node.state(&id).await.unwrap().config.image_id;
    let pinned = |images: Vec<cri::Image>| images.into_iter().find(|found| found.id == image).unwrap().pinned;
    assert!(
        pinned(other.list_images().await.unwrap()),
        "an image of which others have containers stays"
    );
    let images = node.runtime.list_images().await.unwrap();
    let pause = images.iter().find(|image| image.tags.iter().any(|tag| tag == PAUSE));
    assert!(pause.unwrap().pinned, "no pod starts without it");
    assert!(!pinned(images));
    node.end().await;
}

async fn a_containerd_that_goes_is_told_of_and_found_again(release: Release) {
    let mut node = Node::start(release).await;
    let sandbox = node.sandbox("u1").await;
    let id = node.container(&sandbox, "c", "sleep 1000").await;
    let ready = |conditions: Vec<cri::Condition>| {
        let told = conditions
            .into_iter()
            .find(|condition| condition.kind == "RuntimeReady");
        told.is_some_and(|condition| condition.status)
    };
    node.containerd.crash();
    let away = node.runtime.list_containers().await.unwrap_err().chain();
    assert!(away.contains("does not answer"), "{away}");
    let told = async {
        while ready(node.runtime.status().await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, told).await.expect("it is told of");
    let mut events = node.runtime.events();
    node.containerd.up();
    heard(&mut events, |_| true).await;
    assert_eq!(node.state(&id).await.unwrap().state, ContainerState::Running);
    assert!(ready(node.runtime.status().await));
    node.end().await;
}
