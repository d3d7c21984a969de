//! The agent's side with real children: this program starts itself as compile child and sandbox host.
//!
//! A process of the agent is played by a `Runtime` that is started and stopped here; since it says nothing to its hosts
//! when it stops, a stop is to them what a crash is. Hosts are found by being children of this process.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a test runner reads")]

#[path = "../src/host/fixtures.rs"]
mod fixtures;
mod support;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    future::Future,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use cri::{
    Container, ContainerConfig, ContainerId, ContainerPort, ContainerState, Error, Event, ImportContent, Runtime as _,
    Sandbox, SandboxConfig, SandboxState,
};
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wasm::{Config, Runtime};

type Failure = Box<dyn std::error::Error>;
type Test = (&'static str, fn() -> Result<(), Failure>);

const TESTS: [Test; 11] = [
    ("pods_outlive_the_agent_and_are_adopted", || {
        play(pods_outlive_the_agent_and_are_adopted)
    }),
    ("repeated_calls_change_nothing", || play(repeated_calls_change_nothing)),
    ("a_killed_host_takes_only_its_own_pods_down", || {
        play(a_killed_host_takes_only_its_own_pods_down)
    }),
    ("a_host_killed_while_the_agent_is_away_is_noticed", || {
        play(a_host_killed_while_the_agent_is_away_is_noticed)
    }),
    ("after_a_reboot_nothing_stale_is_adopted", || {
        play(after_a_reboot_nothing_stale_is_adopted)
    }),
    ("a_newer_agent_takes_over_without_harm", || {
        play(a_newer_agent_takes_over_without_harm)
    }),
    ("bad_images_are_refused_by_naming_what_is_wrong", || {
        play(bad_images_are_refused_by_naming_what_is_wrong)
    }),
    ("a_host_that_does_not_come_up_is_reported", || {
        play(a_host_that_does_not_come_up_is_reported)
    }),
    ("hosts_without_pods_end", || play(hosts_without_pods_end)),
    ("down_ends_everything", || play(down_ends_everything)),
    ("root_gives_hosts_users_and_namespaces", || {
        play(root_gives_hosts_users_and_namespaces)
    }),
];

const DEADLINE: Duration = Duration::from_secs(60);

/// What test runners ask of a test program: `--list`, or names to run.
fn main() -> ExitCode {
    if let Some(code) = support::as_child() {
        return code;
    }
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "broken-host") {
        eprintln!("the sandbox host cannot start: no reason");
        return ExitCode::FAILURE;
    }
    if words.iter().any(|word| word == "--list") {
        if !words.iter().any(|word| word == "--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let wanted = words.iter().find(|word| !word.starts_with('-'));
    for (name, test) in TESTS
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str())))
    {
        if let Err(error) = test() {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
        println!("{name}: ok");
    }
    ExitCode::SUCCESS
}

/// Runs one test on a node of its own, within a deadline.
fn play<F: Future<Output = Result<(), Failure>>>(test: impl FnOnce(Arc<Node>) -> F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let node = Arc::new(Node {
        dir: tempfile::tempdir()?,
    });
    runtime.block_on(async { timeout(DEADLINE, test(Arc::clone(&node))).await? })
}

/// A node; what runs on it is ended with it.
struct Node {
    dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in hosts() {
            kill(pid);
        }
    }
}

/// A process of the agent.
struct Agent {
    runtime: Arc<Runtime>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Node {
    fn config(&self) -> Config {
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

    async fn agent(&self) -> Result<Agent, Failure> {
        self.agent_with(self.config()).await
    }

    async fn agent_with(&self, config: Config) -> Result<Agent, Failure> {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let runtime = Runtime::start(config, tasks.clone(), shutdown.clone()).await?;
        Ok(Agent {
            runtime,
            tasks,
            shutdown,
        })
    }

    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    fn host_directories(&self) -> Result<BTreeSet<PathBuf>, Failure> {
        let entries = fs::read_dir(self.dir.path().join("sandbox-hosts"))?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries
            .iter()
            .map(fs::DirEntry::path)
            .filter(|path| path.is_dir())
            .collect())
    }
}

impl Agent {
    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn import(&self, name: &str) -> Result<(), Failure> {
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

    async fn sandbox(&self, node: &Node, namespace: &str, pod: &str) -> Result<Sandbox, Error> {
        self.runtime.run_sandbox(sandbox(node, namespace, pod), "").await
    }

    /// A pod with one running container.
    async fn pod(&self, node: &Node, namespace: &str, pod: &str) -> Result<(Sandbox, ContainerId), Error> {
        let sandbox = self.sandbox(node, namespace, pod).await?;
        let container = self
            .runtime
            .create_container(&sandbox.id, container("http-hello"))
            .await?;
        self.runtime.start_container(&container).await?;
        Ok((sandbox, container))
    }

    async fn container(&self, id: &ContainerId) -> Result<Container, Failure> {
        let containers = self.runtime.list_containers().await?;
        Ok(containers
            .into_iter()
            .find(|container| container.id == *id)
            .ok_or("no such container")?)
    }

    async fn sandbox_state(&self, id: &cri::SandboxId) -> Result<SandboxState, Failure> {
        let sandboxes = self.runtime.list_sandboxes().await?;
        Ok(sandboxes
            .iter()
            .find(|sandbox| sandbox.id == *id)
            .ok_or("no such sandbox")?
            .state)
    }
}

fn sandbox(node: &Node, namespace: &str, pod: &str) -> SandboxConfig {
    SandboxConfig {
        name: pod.to_owned(),
        namespace: namespace.to_owned(),
        uid: format!("uid-{namespace}-{pod}"),
        log_directory: node.logs().display().to_string(),
        ..SandboxConfig::default()
    }
}

fn container(image: &str) -> ContainerConfig {
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
async fn get(sandbox: &Sandbox) -> Result<String, Failure> {
    let address = *sandbox.ips.first().ok_or("the sandbox has no address")?;
    let mut stream = TcpStream::connect((address, 8080)).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn assert_serves(sandbox: &Sandbox) -> Result<(), Failure> {
    let answer = get(sandbox).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

async fn until(events: &mut BoxStream<'static, Event>, wanted: impl Fn(&Event) -> bool) -> Result<Event, Failure> {
    while let Some(event) = events.next().await {
        if wanted(&event) {
            return Ok(event);
        }
    }
    Err("the events ended".into())
}

/// The sandbox hosts that this process has started and that have not ended.
fn hosts() -> Vec<i32> {
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

fn host_of(tenant: &str) -> Result<i32, Failure> {
    let is_of = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&format!("--tenant\0{tenant}\0"))
    };
    Ok(hosts().into_iter().find(is_of).ok_or("no such host")?)
}

fn kill(pid: i32) {
    // SAFETY: kill has no memory effects; the process is a child of ours that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Waits until a process that is not ours any more has ended.
async fn gone(pid: i32) -> io::Result<()> {
    while Path::new(&format!("/proc/{pid}")).exists() && hosts().contains(&pid) {
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn pods_outlive_the_agent_and_are_adopted(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let first = node.agent().await?;
    first.import("http-hello.wasm").await?;
    let (sandbox, container) = first.pod(&node, "default", "web").await?;
    assert_serves(&sandbox).await?;
    let before = (
        first.runtime.list_sandboxes().await?,
        first.runtime.list_containers().await?,
    );
    assert_eq!(
        before.1.first().map(|container| container.state),
        Some(ContainerState::Running)
    );
    let generation = fs::read_to_string(node.dir.path().join("sandbox-hosts/generation"))?;
    first.stop().await;
    assert_serves(&sandbox).await?;

    let second = node.agent().await?;
    assert_ne!(
        fs::read_to_string(node.dir.path().join("sandbox-hosts/generation"))?,
        generation
    );
    let after = (
        second.runtime.list_sandboxes().await?,
        second.runtime.list_containers().await?,
    );
    assert_eq!(after, before);
    let (other, _) = second.pod(&node, "default", "other").await?;
    assert_ne!(other.ips, sandbox.ips);
    assert_eq!(hosts().len(), 1, "pods of one namespace share a host");
    assert_serves(&other).await?;
    let stats = second.runtime.stats().await?;
    let usage = stats.iter().find(|usage| usage.id == container).ok_or("no usage")?;
    assert_eq!(usage.requests, 2);

    let mut events = second.runtime.events();
    second.runtime.stop_container(&container, Duration::ZERO).await?;
    let exited = |event: &Event| matches!(event, Event::Container { id, state, .. } if *id == container && *state == ContainerState::Exited);
    until(&mut events, exited).await?;
    second.runtime.remove_sandbox(&sandbox.id).await?;
    assert!(get(&sandbox).await.is_err());
    assert_serves(&other).await?;
    assert_eq!(second.runtime.list_sandboxes().await?.len(), 1);
    second.stop().await;
    Ok(())
}

async fn repeated_calls_change_nothing(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    let runtime = &agent.runtime;
    agent.import("http-hello.wasm").await?;
    let config = sandbox(&node, "default", "web");
    let runs = (0..4).map(|_| runtime.run_sandbox(config.clone(), "wasm"));
    let ids: BTreeSet<_> = futures::future::try_join_all(runs)
        .await?
        .into_iter()
        .map(|sandbox| sandbox.id)
        .collect();
    let [id] = ids
        .into_iter()
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "several sandboxes")?;
    let creates = (0..4).map(|_| runtime.create_container(&id, container("http-hello")));
    let ids: BTreeSet<_> = futures::future::try_join_all(creates).await?.into_iter().collect();
    let [inside] = ids
        .into_iter()
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "several containers")?;
    for _ in 0..2 {
        runtime.start_container(&inside).await?;
    }
    for _ in 0..2 {
        runtime.reopen_container_log(&inside).await?;
    }
    for _ in 0..2 {
        runtime.stop_container(&inside, Duration::ZERO).await?;
    }
    assert_eq!(agent.container(&inside).await?.state, ContainerState::Exited);
    assert!(matches!(
        runtime.start_container(&inside).await,
        Err(Error::Start { .. })
    ));
    for _ in 0..2 {
        runtime.stop_sandbox(&id).await?;
    }
    assert_eq!(agent.sandbox_state(&id).await?, SandboxState::NotReady);
    assert!(matches!(
        runtime.create_container(&id, container("other")).await,
        Err(Error::Start { .. })
    ));
    for _ in 0..2 {
        runtime.remove_container(&inside).await?;
        runtime.remove_sandbox(&id).await?;
        runtime.stop_sandbox(&id).await?;
        runtime.stop_container(&inside, Duration::ZERO).await?;
    }
    assert!(matches!(
        runtime.start_container(&inside).await,
        Err(Error::NotFound { .. })
    ));
    assert!(runtime.list_sandboxes().await?.is_empty() && runtime.list_containers().await?.is_empty());
    assert!(matches!(
        runtime.run_sandbox(config, "gvisor").await,
        Err(Error::InvalidConfig { .. })
    ));
    agent.stop().await;
    Ok(())
}

async fn a_killed_host_takes_only_its_own_pods_down(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    agent.import("http-hello.wasm").await?;
    let (lost, container) = agent.pod(&node, "a", "web").await?;
    let (other, _) = agent.pod(&node, "b", "web").await?;
    let mut events = agent.runtime.events();
    kill(host_of("a")?);
    let unknown = |event: &Event| {
        matches!(
            event,
            Event::Container {
                state: ContainerState::Unknown,
                ..
            }
        )
    };
    until(&mut events, unknown).await?;
    let dead = agent.container(&container).await?;
    assert_eq!((dead.exit_code, dead.reason.as_str()), (255, "ContainerStatusUnknown"));
    assert!(dead.message.contains("killed by signal 9"), "{}", dead.message);
    assert!(dead.finished_at >= dead.started_at && dead.started_at > 0);
    assert_eq!(agent.sandbox_state(&lost.id).await?, SandboxState::NotReady);
    assert_eq!(agent.sandbox_state(&other.id).await?, SandboxState::Ready);
    assert_serves(&other).await?;

    let again = SandboxConfig {
        attempt: 1,
        ..sandbox(&node, "a", "web")
    };
    let again = agent.runtime.run_sandbox(again, "").await?;
    let id = agent
        .runtime
        .create_container(&again.id, self::container("http-hello"))
        .await?;
    agent.runtime.start_container(&id).await?;
    assert_serves(&again).await?;
    assert_eq!(node.host_directories()?.len(), 3);
    agent.runtime.remove_container(&container).await?;
    agent.runtime.stop_sandbox(&lost.id).await?;
    agent.runtime.remove_sandbox(&lost.id).await?;
    assert_eq!(
        node.host_directories()?.len(),
        2,
        "nothing is left of the host that was killed"
    );
    agent.stop().await;
    Ok(())
}

async fn a_host_killed_while_the_agent_is_away_is_noticed(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let first = node.agent().await?;
    first.import("http-hello.wasm").await?;
    let (sandbox, running) = first.pod(&node, "default", "web").await?;
    let (_, stopped) = first.pod(&node, "default", "stopped").await?;
    first.runtime.stop_container(&stopped, Duration::ZERO).await?;
    let known = first.container(&stopped).await?;
    first.stop().await;
    let pid = host_of("default")?;
    kill(pid);
    gone(pid).await?;

    let second = node.agent().await?;
    let lost = second.container(&running).await?;
    assert_eq!(lost.state, ContainerState::Unknown);
    assert_eq!(
        second.container(&stopped).await?,
        known,
        "an exit that was recorded stays as it was"
    );
    assert_eq!(second.sandbox_state(&sandbox.id).await?, SandboxState::NotReady);
    second.stop().await;

    let third = node.agent().await?;
    assert_eq!(third.container(&running).await?, lost, "later starts say the same");
    for sandbox in third.runtime.list_sandboxes().await? {
        third.runtime.remove_sandbox(&sandbox.id).await?;
    }
    assert!(third.runtime.list_containers().await?.is_empty());
    assert!(node.host_directories()?.is_empty());
    third.stop().await;
    Ok(())
}

async fn after_a_reboot_nothing_stale_is_adopted(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let first = node.agent().await?;
    first.import("http-hello.wasm").await?;
    let (sandbox, _) = first.pod(&node, "default", "web").await?;
    first.stop().await;
    let pid = host_of("default")?;
    kill(pid);
    gone(pid).await?;

    let second = node
        .agent_with(Config {
            boot_id: "another-boot".to_owned(),
            ..node.config()
        })
        .await?;
    assert!(second.runtime.list_sandboxes().await?.is_empty() && second.runtime.list_containers().await?.is_empty());
    assert!(node.host_directories()?.is_empty());
    let (again, _) = second.pod(&node, "default", "web").await?;
    assert_ne!(again.id, sandbox.id);
    assert_serves(&again).await?;
    second.stop().await;
    Ok(())
}

async fn a_newer_agent_takes_over_without_harm(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let older = node.agent().await?;
    older.import("http-hello.wasm").await?;
    let (sandbox, container) = older.pod(&node, "default", "web").await?;
    let newer = node.agent().await?;
    assert!(
        older.runtime.stop_container(&container, Duration::ZERO).await.is_err(),
        "the older agent is fenced off"
    );
    // It tries to connect again, is refused, and leaves the host alone: only its search for idle hosts goes on.
    while older.tasks.len() > 1 {
        tokio::task::yield_now().await;
    }
    older.stop().await;
    assert_eq!(newer.container(&container).await?.state, ContainerState::Running);
    assert_serves(&sandbox).await?;
    newer.stop().await;
    Ok(())
}

async fn bad_images_are_refused_by_naming_what_is_wrong(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    let sandbox = agent.sandbox(&node, "default", "web").await?;
    for (guest, expected) in [
        ("not-wasm.wasm", "not a Wasm binary"),
        ("truncated.wasm", "invalid Wasm"),
        ("missing-import.wasm", "it imports what this host does not offer"),
    ] {
        agent.import(guest).await?;
        let image = guest.trim_end_matches(".wasm");
        let error = agent
            .runtime
            .create_container(&sandbox.id, container(image))
            .await
            .expect_err(guest);
        assert!(
            matches!(error, Error::UnrunnableImage { .. }) && error.to_string().contains(expected),
            "{error}"
        );
    }
    let error = agent
        .runtime
        .create_container(&sandbox.id, container("absent"))
        .await
        .expect_err("absent");
    assert!(matches!(error, Error::NotFound { what: "image", .. }), "{error}");
    let pull = cri::PullImage {
        reference: "absent:1".to_owned(),
        ..cri::PullImage::default()
    };
    let error = agent.runtime.pull_image(pull).await.expect_err("absent");
    assert_eq!(
        error.to_string(),
        "failed to pull image \"absent:1\": failed to resolve reference \"docker.io/library/absent:1\": \
         not found on this node; load it with \"wherry image load\""
    );
    let error = agent.runtime.image("Bad:1").await.expect_err("bad");
    assert!(matches!(error, Error::InvalidImageName { .. }), "{error}");
    agent.stop().await;
    Ok(())
}

async fn a_host_that_does_not_come_up_is_reported(node: Arc<Node>) -> Result<(), Failure> {
    let mut config = node.config();
    config.host_command = vec![std::env::current_exe()?.into(), "broken-host".into()];
    let agent = node.agent_with(config).await?;
    let error = agent.sandbox(&node, "default", "web").await.expect_err("a broken host");
    assert!(error.chain().contains("cannot start: no reason"), "{}", error.chain());
    assert!(agent.runtime.list_sandboxes().await?.is_empty() && node.host_directories()?.is_empty());
    agent.stop().await;
    Ok(())
}

async fn hosts_without_pods_end(node: Arc<Node>) -> Result<(), Failure> {
    let agent = node
        .agent_with(Config {
            host_idle: Duration::ZERO,
            ..node.config()
        })
        .await?;
    let sandbox = agent.sandbox(&node, "default", "web").await?;
    let pid = host_of("default")?;
    agent.runtime.remove_sandbox(&sandbox.id).await?;
    gone(pid).await?;
    while !node.host_directories()?.is_empty() {
        tokio::task::yield_now().await;
    }
    agent.sandbox(&node, "default", "web").await?;
    agent.stop().await;
    Ok(())
}

async fn down_ends_everything(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    agent.import("http-hello.wasm").await?;
    for namespace in ["a", "b"] {
        agent.pod(&node, namespace, "web").await?;
    }
    agent.runtime.down().await?;
    assert!(agent.runtime.list_sandboxes().await?.is_empty());
    assert!(hosts().is_empty() && node.host_directories()?.is_empty());
    assert_eq!(agent.runtime.list_images().await?.len(), 1);
    agent.stop().await;
    Ok(())
}

async fn root_gives_hosts_users_and_namespaces(node: Arc<Node>) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut netns = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .spawn()?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let path = PathBuf::from(format!("/proc/{}/ns/net", netns.id()));
    while fs::read_link(&path)? == own {
        tokio::task::yield_now().await;
    }
    let config = Config {
        netns: Some(path.clone()),
        host_uid_base: Some(700_000),
        ..node.config()
    };
    let agent = node.agent_with(config).await?;
    fs::create_dir(node.logs())?;
    agent.import("print.wasm").await?;
    let mut events = agent.runtime.events();
    for namespace in ["a", "b"] {
        let sandbox = agent.sandbox(&node, namespace, "web").await?;
        let printing = ContainerConfig {
            log_path: format!("{namespace}.log"),
            ..container("print")
        };
        let id = agent.runtime.create_container(&sandbox.id, printing).await?;
        agent.runtime.start_container(&id).await?;
        let exited = |event: &Event| {
            matches!(
                event,
                Event::Container {
                    state: ContainerState::Exited,
                    ..
                }
            )
        };
        until(&mut events, exited).await?;
        let done = agent.container(&id).await?;
        assert_eq!((done.exit_code, done.reason.as_str()), (0, "Completed"));
        let log = fs::read_to_string(&done.log_path)?;
        assert!(log.contains(" stdout F ") && log.contains(" stderr F "), "{log}");
    }
    let mut users = BTreeSet::new();
    for pid in hosts() {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim()
        };
        users.insert(field("Uid:").to_owned());
        assert_eq!(
            (field("NoNewPrivs:"), field("CapEff:"), field("Groups:")),
            ("1", "0000000000000000", "")
        );
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/net"))?, fs::read_link(&path)?);
    }
    let names: BTreeSet<_> = hosts()
        .iter()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")))
        .collect::<Result<_, _>>()?;
    assert_eq!(names, BTreeSet::from(["wherry\n".to_owned()]));
    let user = |uid: u32| format!("{uid}\t{uid}\t{uid}\t{uid}");
    assert_eq!(users, BTreeSet::from([user(700_000), user(700_001)]));
    agent.runtime.down().await?;
    agent.stop().await;
    netns.kill()?;
    netns.wait()?;
    Ok(())
}
