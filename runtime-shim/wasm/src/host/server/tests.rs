use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd},
};

use cri::{ContainerId, ContainerState, SandboxId, SandboxState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::{
    host::{
        containers::Containers,
        fixtures,
        table::Table,
        testing::{Bench, compiled},
    },
    protocol::{Change, ContainerRecord, CreateContainer, Cursor, Event, Network, Program, RunSandbox},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A host in this process, and its state directory.
struct Host {
    directory: tempfile::TempDir,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

fn host() -> Host {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).expect("a socket");
    let Bench {
        library, ticker, logs, ..
    } = Bench::new();
    let containers = Containers::new(Table::new(directory.path().to_owned()), library, ticker, logs);
    let identity = Identity {
        host_id: "h".to_owned(),
        engine_key: crate::engine::key().expect("a key"),
        boot_id: String::new(),
        netns_inode: 0,
    };
    let uid = rustix::process::getuid().as_raw();
    let serving = tokio::spawn(serve(
        listener.into(),
        uid,
        identity,
        containers,
        CancellationToken::new(),
    ));
    Host { directory, serving }
}

/// The agent's end of a connection.
struct Agent {
    sender: channel::Sender,
    receiver: channel::Receiver,
    events: Vec<Event>,
    calls: u64,
}

impl Host {
    async fn connect(&self, generation: u64) -> (Agent, Result<Answer, Failure>) {
        let stream = UnixStream::connect(self.directory.path().join("socket"))
            .await
            .expect("connects");
        let (sender, receiver) = channel::split(stream);
        let mut agent = Agent {
            sender,
            receiver,
            events: Vec::new(),
            calls: 0,
        };
        let hello = AgentHello {
            oldest_version: 1,
            newest_version: 1,
            wherry_version: "test".to_owned(),
            generation,
        };
        let answer = agent.call(Call::Hello(hello)).await;
        (agent, answer)
    }

    async fn agent(&self) -> Agent {
        let (agent, answer) = self.connect(1).await;
        assert!(matches!(answer, Ok(Answer::Hello(_))), "{answer:?}");
        agent
    }

    fn record(&self, container: &str) -> ContainerRecord {
        let file = std::fs::read(self.directory.path().join(format!("container-{container}.json"))).expect("a file");
        serde_json::from_slice(&file).expect("a record")
    }
}

impl Agent {
    async fn call(&mut self, call: Call) -> Result<Answer, Failure> {
        self.call_with(call, &[]).await
    }

    async fn call_with(&mut self, call: Call, fds: &[BorrowedFd<'_>]) -> Result<Answer, Failure> {
        self.calls += 1;
        let id = self.calls;
        self.sender.send(&ToHost { id, call }, fds).await.expect("sent");
        loop {
            match self.receive().await.expect("a reply") {
                FromHost::Event(event) => self.events.push(event),
                FromHost::Reply { id: replied, result } => {
                    assert_eq!(replied, id);
                    return result;
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<FromHost> {
        let received = timeout(DEADLINE, self.receiver.recv())
            .await
            .expect("in time")
            .expect("readable");
        received.map(|(message, _)| message)
    }

    /// The next change of a container to this state.
    async fn becomes(&mut self, state: ContainerState) -> cri::Container {
        loop {
            let event = match self.events.is_empty() {
                false => self.events.remove(0),
                true => match self.receive().await.expect("an event") {
                    FromHost::Event(event) => event,
                    FromHost::Reply { id, .. } => panic!("reply {id}"),
                },
            };
            if let Change::Container(record) = event.change
                && record.container.state == state
            {
                return record.container;
            }
        }
    }

    async fn run_sandbox(&mut self, id: &str, address: Ipv4Addr) {
        let run = RunSandbox {
            id: SandboxId(id.to_owned()),
            config: cri::SandboxConfig {
                uid: format!("uid-of-{id}"),
                ..Default::default()
            },
            handler: String::new(),
            network: Network::Pod {
                address,
                loopback: Ipv4Addr::new(127, 64, 0, 7),
                dialable_loopback: Vec::new(),
            },
            created_at: 1,
        };
        for _ in 0..2 {
            let answer = self.call(Call::RunSandbox(Box::new(run.clone()))).await.expect("runs");
            let Answer::Sandbox(record) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(record.sandbox.ips, [std::net::IpAddr::from(address)]);
        }
    }

    async fn create(&mut self, id: &str, binary: &[u8], port: u16) -> Result<Answer, Failure> {
        let (code, guest) = compiled(binary);
        let log = tempfile::tempfile().expect("a log");
        let ports = vec![cri::ContainerPort {
            name: String::new(),
            protocol: "TCP".to_owned(),
            port,
        }];
        let create = CreateContainer {
            id: ContainerId(id.to_owned()),
            sandbox: SandboxId("s".to_owned()),
            config: cri::ContainerConfig {
                name: format!("name-of-{id}"),
                ports,
                ..Default::default()
            },
            program: Program {
                guest,
                args: vec!["guest".to_owned()],
                env: Vec::new(),
                working_dir: String::new(),
            },
            log: 0,
            log_path: String::new(),
            code: 1,
            code_key: id.to_owned(),
            mounts: Vec::new(),
            created_at: 2,
        };
        self.call_with(Call::CreateContainer(Box::new(create)), &[log.as_fd(), code.as_fd()])
            .await
    }

    async fn start(&mut self, id: &str) -> Result<Answer, Failure> {
        self.call(Call::StartContainer {
            container: ContainerId(id.to_owned()),
        })
        .await
    }

    async fn stop(&mut self, id: &str, grace_milliseconds: u64) {
        let stop = Call::StopContainer {
            container: ContainerId(id.to_owned()),
            grace_milliseconds,
        };
        assert_eq!(self.call(stop).await, Ok(Answer::Done));
    }
}

async fn get(address: Ipv4Addr, port: u16) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect((address, port)).await.expect("connects");
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("answered");
        reply
    };
    timeout(DEADLINE, exchange).await.expect("in time")
}

fn hello() -> Vec<u8> {
    fixtures::http("(call $answer (local.get $out))")
}

/// An address of its own for each test, so that they may share a port.
fn address(test: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 33, 7, test)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_lives_from_its_sandbox_to_its_removal() {
    let host = host();
    let mut agent = host.agent().await;
    agent.call(Call::Subscribe { after: None }).await.expect("subscribed");
    agent.run_sandbox("s", address(1)).await;
    agent.create("c", &hello(), 8081).await.expect("created");
    assert_eq!(host.record("c").container.state, ContainerState::Created);
    agent.start("c").await.expect("started");
    agent.start("c").await.expect("started already");
    assert_eq!(host.record("c").container.state, ContainerState::Running);
    assert!(get(address(1), 8081).await.ends_with("hello\n"));

    let Ok(Answer::Stats(stats)) = agent.call(Call::Stats).await else {
        panic!("no stats")
    };
    assert_eq!((stats[0].requests, stats[0].pod_uid.as_str()), (1, "uid-of-s"));
    assert!(stats[0].cpu_usage_core_nanoseconds > 0);

    agent.stop("c", 10_000).await;
    let ended = agent.becomes(ContainerState::Exited).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"));
    assert_eq!(host.record("c").container, ended);
    let sandbox = SandboxId("s".to_owned());
    assert_eq!(
        agent
            .call(Call::StopSandbox {
                sandbox: sandbox.clone()
            })
            .await,
        Ok(Answer::Done)
    );
    assert_eq!(agent.call(Call::Shutdown).await, Err(Failure::Busy));
    for _ in 0..2 {
        assert_eq!(
            agent
                .call(Call::RemoveSandbox {
                    sandbox: sandbox.clone()
                })
                .await,
            Ok(Answer::Done)
        );
    }
    assert_eq!(agent.call(Call::Shutdown).await, Ok(Answer::Done));
    timeout(DEADLINE, host.serving)
        .await
        .expect("ends")
        .expect("ends")
        .expect("ends well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_told_with_code_and_reason() {
    let host = host();
    let mut agent = host.agent().await;
    agent.call(Call::Subscribe { after: None }).await.expect("subscribed");
    agent.run_sandbox("s", address(2)).await;
    let cases = [
        ("exit", fixtures::command("(call $exit (i32.const 3))"), 3, "Error"),
        ("trap", fixtures::command("unreachable"), 134, "Trap"),
        ("start", fixtures::http_with_start("", "unreachable"), 134, "Trap"),
    ];
    for (id, binary, code, reason) in cases {
        agent.create(id, &binary, 8082).await.expect("created");
        agent.start(id).await.expect("started");
        let ended = agent.becomes(ContainerState::Exited).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (code, reason), "{id}");
        assert!(matches!(agent.start(id).await, Err(Failure::Start { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_looping_program_is_ended_within_its_grace() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(3)).await;
    agent
        .create("c", &fixtures::command(fixtures::SPIN), 1)
        .await
        .expect("created");
    agent.start("c").await.expect("started");
    agent.stop("c", 10_000).await;
    let ended = host.record("c").container;
    assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, 143));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_finish_is_killed_after_its_grace() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(4)).await;
    agent
        .create("c", &fixtures::http(fixtures::SPIN), 8084)
        .await
        .expect("created");
    agent.start("c").await.expect("started");
    let mut stream = TcpStream::connect((address(4), 8084)).await.expect("connects");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .expect("sent");
    loop {
        let Ok(Answer::Stats(stats)) = agent.call(Call::Stats).await else {
            panic!("no stats")
        };
        if stats[0].instances > 0 {
            break;
        }
    }
    agent.stop("c", 50).await;
    assert_eq!(host.record("c").container.exit_code, 137);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_of_a_pod_cannot_share_a_port() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(5)).await;
    for id in ["a", "b"] {
        agent.create(id, &hello(), 8085).await.expect("created");
    }
    agent.start("a").await.expect("started");
    let holder = "name-of-a".to_owned();
    assert_eq!(agent.start("b").await, Err(Failure::PortTaken { port: 8085, holder }));
    assert_eq!(host.record("b").container.state, ContainerState::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_was_not_made_for_this_engine_is_refused_in_words() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(6)).await;
    let (log, code) = (
        tempfile::tempfile().expect("a log"),
        tempfile::tempfile().expect("no code"),
    );
    let create = CreateContainer {
        id: ContainerId("c".to_owned()),
        sandbox: SandboxId("s".to_owned()),
        config: cri::ContainerConfig::default(),
        program: Program {
            guest: crate::protocol::compiled::Guest::Http,
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            working_dir: String::new(),
        },
        log: 0,
        log_path: String::new(),
        code: 1,
        code_key: "k".to_owned(),
        mounts: Vec::new(),
        created_at: 0,
    };
    let answer = agent
        .call_with(Call::CreateContainer(Box::new(create)), &[log.as_fd(), code.as_fd()])
        .await;
    assert!(matches!(answer, Err(Failure::Unrunnable { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_agent_takes_over_and_finds_everything() {
    let host = host();
    let mut old = host.agent().await;
    old.run_sandbox("s", address(8)).await;
    old.create("c", &hello(), 8088).await.expect("created");
    old.start("c").await.expect("started");

    let (mut new, answer) = host.connect(2).await;
    let Ok(Answer::Hello(hello)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(hello.sequence, 3);
    assert_eq!(old.receive().await, None, "the older connection is closed");
    assert_eq!(host.connect(1).await.1, Err(Failure::Fenced { current: 2 }));

    let Ok(Answer::Page(page)) = new.call(Call::Snapshot { after: Cursor::Start }).await else {
        panic!("no page")
    };
    assert_eq!(page.sandboxes[0].sandbox.state, SandboxState::Ready);
    assert_eq!(page.containers[0].container.state, ContainerState::Running);
    assert_eq!(page.next, None);
    assert!(get(address(8), 8088).await.ends_with("hello\n"));
    new.call(Call::Subscribe { after: Some(1) }).await.expect("subscribed");
    assert_eq!(new.becomes(ContainerState::Running).await.id.0, "c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_before_a_hello() {
    let host = host();
    let stream = UnixStream::connect(host.directory.path().join("socket"))
        .await
        .expect("connects");
    let (mut sender, mut receiver) = channel::split(stream);
    sender
        .send(
            &ToHost {
                id: 1,
                call: Call::Stats,
            },
            &[],
        )
        .await
        .expect("sent");
    let received = timeout(DEADLINE, receiver.recv::<FromHost>())
        .await
        .expect("in time")
        .expect("closed");
    assert!(received.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_change_while_it_runs() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(9)).await;
    agent
        .create("c", &fixtures::http(fixtures::HOG), 8089)
        .await
        .expect("created");
    agent.start("c").await.expect("started");
    agent.call(Call::Subscribe { after: None }).await.expect("subscribed");
    let container = ContainerId("c".to_owned());
    let resources = cri::Resources {
        memory_limit: 1 << 20,
        ..Default::default()
    };
    let update = Call::UpdateResources { container, resources };
    assert_eq!(agent.call(update).await, Ok(Answer::Done));
    assert_eq!(host.record("c").container.config.resources, resources);
    get(address(9), 8089).await;
    let ended = agent.becomes(ContainerState::Exited).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_reopened_and_a_stopped_sandbox_takes_no_containers() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(10)).await;
    agent
        .create("c", &fixtures::http("unreachable"), 8090)
        .await
        .expect("created");
    agent.start("c").await.expect("started");
    let container = ContainerId("c".to_owned());
    let log = tempfile::NamedTempFile::new().expect("a log");
    let reopened = agent
        .call_with(Call::ReopenLog { container }, &[log.as_file().as_fd()])
        .await;
    assert_eq!(reopened, Ok(Answer::Done));
    get(address(10), 8090).await;
    agent
        .call(Call::StopSandbox {
            sandbox: SandboxId("s".to_owned()),
        })
        .await
        .expect("stopped");
    let logged = std::fs::read_to_string(log.path()).expect("the log");
    assert!(logged.contains("a request failed: wasm trap"), "{logged}");
    assert!(TcpStream::connect((address(10), 8090)).await.is_err());
    let refused = agent.create("d", &hello(), 8090).await;
    assert!(matches!(refused, Err(Failure::InvalidConfig { .. })), "{refused:?}");
}

/// Runs a command with stdin and stdout; what it said, and the answer.
async fn exec(agent: &mut Agent, command: &[&str], said: &[u8]) -> (String, Result<Answer, Failure>) {
    let pipe = || rustix::pipe::pipe().expect("a pipe");
    let ((stdin, to_command), (from_command, stdout)) = (pipe(), pipe());
    io::Write::write_all(&mut std::fs::File::from(to_command), said).expect("room");
    let call = Call::Exec(Box::new(crate::protocol::Exec {
        container: ContainerId("c".to_owned()),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdin: Some(0),
        stdout: Some(1),
        stderr: Some(1),
        tty: false,
    }));
    let answer = agent.call_with(call, &[stdin.as_fd(), stdout.as_fd()]).await;
    drop((stdin, stdout));
    let mut heard = String::new();
    io::Read::read_to_string(&mut std::fs::File::from(from_command), &mut heard).expect("text");
    (heard, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_what_a_container_sees() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(40)).await;
    agent.create("c", &hello(), 8040).await.expect("created");
    let (_, before) = exec(&mut agent, &["true"], b"").await;
    assert!(matches!(before, Err(Failure::Start { .. })), "{before:?}");
    agent.start("c").await.expect("started");
    let cases: [(&[&str], &str, i32); 4] = [
        (&["cat"], "said", 0),
        (&["ps"], "PID   COMMAND\n    1 guest\n", 0),
        (&["ls", "/"], "", 0),
        (
            &["cat", "/etc/passwd"],
            "cat: /etc/passwd: No such file or directory\n",
            1,
        ),
    ];
    for (command, expected, code) in cases {
        let (heard, answer) = exec(&mut agent, command, b"said").await;
        assert_eq!(
            (heard.as_str(), answer),
            (expected, Ok(Answer::Exited { code })),
            "{command:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_attached_hears_what_is_said_to_the_end() {
    let host = host();
    let mut agent = host.agent().await;
    agent.run_sandbox("s", address(41)).await;
    let talker = fixtures::command("(loop $on (call $print (i32.const 1)) (br $on))");
    agent.create("c", &talker, 8041).await.expect("created");
    agent.start("c").await.expect("started");
    let (from_guest, stdout) = rustix::pipe::pipe().expect("a pipe");
    let call = Call::Attach(crate::protocol::Attach {
        container: ContainerId("c".to_owned()),
        stdin: None,
        stdout: Some(0),
        stderr: None,
        tty: false,
    });
    let attached = ToHost { id: 1000, call };
    agent.sender.send(&attached, &[stdout.as_fd()]).await.expect("sent");
    drop(stdout);
    let (first, heard) = tokio::sync::oneshot::channel();
    let listening = tokio::task::spawn_blocking(move || {
        let mut from_guest = std::fs::File::from(from_guest);
        let length = io::Read::read(&mut from_guest, &mut [0; 64]).expect("text");
        first.send(length).expect("somebody waits");
        io::copy(&mut from_guest, &mut io::sink()).expect("text, to the end");
    });
    assert!(timeout(DEADLINE, heard).await.expect("in time").expect("a length") > 0);
    let call = Call::StopContainer {
        container: ContainerId("c".to_owned()),
        grace_milliseconds: 10_000,
    };
    agent.sender.send(&ToHost { id: 1001, call }, &[]).await.expect("sent");
    let mut replied = Vec::new();
    while replied.len() < 2 {
        if let Some(FromHost::Reply { id, result }) = agent.receive().await {
            assert_eq!(result, Ok(Answer::Done), "{id}");
            replied.push(id);
        }
    }
    timeout(DEADLINE, listening).await.expect("in time").expect("no panic");
}
