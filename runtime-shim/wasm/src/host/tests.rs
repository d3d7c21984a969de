//! What a guest sees of its pod, tried by a guest: `tests/workloads/probe`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    code::Code,
    command::{self, Program},
    containers::{Descriptors, filesystem},
    guest::Prepared,
    testing::{Bench, LOOPBACK},
};
use crate::protocol::{MountedFd, Network};

const PROBE: &[u8] = include_bytes!("../../../../tests/workloads/probe.wasm");
const POD: Ipv4Addr = Ipv4Addr::new(127, 33, 10, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 33, 10, 2);

struct Pod {
    bench: Bench,
    code: Arc<Code>,
}

impl Pod {
    fn new() -> Self {
        let bench = Bench::new();
        let code = bench.code(PROBE);
        Self { bench, code }
    }

    /// Runs one command of the probe in a container that `change` has changed; answers its last line.
    async fn probe_in(&self, words: &[&str], change: impl FnOnce(&mut Prepared)) -> String {
        let dialable_loopback = vec!["127.32.0.0/12".parse().expect("a range")];
        let network = Network::Pod {
            address: POD,
            loopback: LOOPBACK,
            dialable_loopback,
        };
        let mut prepared = self.bench.container(network, "web-0", &cri::Resources::default());
        prepared.args = std::iter::once("probe")
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect();
        change(&mut prepared);
        let prepared = Arc::new(prepared);
        let Code::Command(program) = &*self.code else {
            panic!("a command")
        };
        let (program, ticker) = (Program::Component(program.clone()), Arc::clone(&self.bench.ticker));
        let running = command::run(program, Arc::clone(&prepared), ticker, CancellationToken::new());
        let exit = timeout(Duration::from_secs(30), running).await.expect("ends in time");
        assert_eq!(exit.code, 0, "{words:?}: {}", exit.message);
        let logged = self.bench.logged(&prepared);
        let last = logged
            .lines()
            .last()
            .and_then(|line| line.split_once(" F "))
            .expect("a line");
        last.1.to_owned()
    }

    async fn probe(&self, words: &[&str]) -> String {
        self.probe_in(words, |_| {}).await
    }
}

/// Tells each client its address, as plain text or as an HTTP answer.
async fn teller(address: Ipv4Addr, http: bool) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.expect("bound");
    let bound = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let mut text = peer.ip().to_string();
            if http {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.expect("a request") > 0);
                text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            }
            stream.write_all(text.as_bytes()).await.expect("sent");
        }
    });
    bound
}

#[tokio::test]
async fn a_guest_has_its_arguments_environment_and_directory() {
    let pod = Pod::new();
    assert_eq!(pod.probe(&["args", "a b", "c"]).await, "ok args a b c");
    assert_eq!(pod.probe(&["env", "NAME"]).await, "ok value");
    assert_eq!(
        pod.probe(&["env", "PATH"]).await,
        "failed environment variable not found"
    );
    assert_eq!(pod.probe(&["cwd"]).await, "ok /");
    assert_eq!(
        pod.probe_in(&["cwd"], |prepared| prepared.working_dir = "/data".to_owned())
            .await,
        "ok /data"
    );
}

#[tokio::test]
async fn a_guest_sees_its_mounts_and_nothing_else() {
    let pod = Pod::new();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("greeting"), "hello").expect("written");
    let mounted = |readonly| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd: OwnedFd = rustix::fs::open(directory.path(), flags, Mode::empty()).expect("opened");
        let mount = MountedFd {
            fd: 0,
            container_path: "/etc/config".to_owned(),
            readonly,
            file: false,
        };
        move |prepared: &mut Prepared| {
            prepared.filesystem = filesystem(&[mount], &Descriptors(vec![fd]), &prepared.log).expect("opened");
        }
    };
    assert_eq!(
        pod.probe_in(&["read", "/etc/config/greeting"], mounted(true)).await,
        "ok hello"
    );
    assert_eq!(
        pod.probe_in(&["write", "/etc/config/new", "x"], mounted(true)).await,
        "failed not-permitted"
    );
    assert!(!directory.path().join("new").exists());
    assert_eq!(
        pod.probe_in(&["write", "/etc/config/new", "x"], mounted(false)).await,
        "ok written"
    );
    assert!(directory.path().join("new").exists());
    let escape = ["read", "/etc/config/../../../../../../etc/passwd"];
    assert_eq!(pod.probe_in(&escape, mounted(true)).await, "failed not-permitted");
    assert_eq!(
        pod.probe_in(&["read", "/etc/passwd"], mounted(true)).await,
        "failed no-entry"
    );
    assert_eq!(pod.probe(&["read", "/etc/config/greeting"]).await, "failed no-entry");
}

#[tokio::test]
async fn a_guest_listens_on_its_pod_alone() {
    let pod = Pod::new();
    assert!(pod.probe(&["bind", "0.0.0.0:0"]).await.starts_with("ok 127.33.10.1:"));
    assert!(pod.probe(&["bind", "127.0.0.1:0"]).await.starts_with("ok 127.64.0.9:"));
    assert_eq!(
        pod.probe(&["bind", "127.33.10.2:0"]).await,
        "failed address-not-bindable"
    );
}

#[tokio::test]
async fn a_guest_connects_from_its_own_address() {
    let pod = Pod::new();
    let other = teller(OTHER, false).await.to_string();
    assert_eq!(pod.probe(&["connect", &other]).await, "ok 127.33.10.1");
    let own_loopback = teller(LOOPBACK, false).await;
    let seen = format!("127.0.0.1:{}", own_loopback.port());
    assert_eq!(pod.probe(&["connect", &seen]).await, "ok 127.64.0.9");
    let others_loopback = teller(Ipv4Addr::new(127, 64, 0, 10), false).await.to_string();
    assert_eq!(pod.probe(&["connect", &others_loopback]).await, "failed access-denied");
    let nodes_loopback = teller(Ipv4Addr::new(127, 0, 0, 2), false).await.to_string();
    assert_eq!(pod.probe(&["connect", &nodes_loopback]).await, "failed access-denied");
}

#[tokio::test]
async fn a_guest_knows_its_own_name() {
    let pod = Pod::new();
    assert_eq!(pod.probe(&["resolve", "web-0"]).await, "ok 127.33.10.1");
    assert_eq!(pod.probe(&["resolve", "localhost"]).await, "ok 127.0.0.1");
    assert_eq!(
        pod.probe(&["resolve", "elsewhere"]).await,
        "failed temporary-resolver-failure"
    );
}

#[tokio::test]
async fn a_guests_requests_leave_from_its_own_address() {
    let pod = Pod::new();
    let other = teller(OTHER, true).await.to_string();
    assert_eq!(pod.probe(&["fetch", &other, "/"]).await, "ok 200 127.33.10.1");
    let own = teller(LOOPBACK, true).await;
    assert_eq!(
        pod.probe(&["fetch", &format!("localhost:{}", own.port()), "/"]).await,
        "ok 200 127.64.0.9"
    );
    let nodes = teller(Ipv4Addr::new(127, 0, 0, 2), true).await.to_string();
    assert_eq!(
        pod.probe(&["fetch", &nodes, "/"]).await,
        "failed ErrorCode::DestinationIpProhibited"
    );
    assert_eq!(
        pod.probe(&["fetch", "elsewhere", "/"]).await,
        "failed ErrorCode::DnsTimeout"
    );
}
