//! Cluster DNS as a whole: against the fake API server, with the process a thread of this one.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use client::Clock;
use client::fake::Fake;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use parking_lot::Mutex as Lock;
use resident::Place;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::*;
use crate::launch::Launcher;
use crate::process::serve;
use crate::server::tests::{ask, question};

const DEADLINE: Duration = Duration::from_secs(10);

/// Processes that are threads of this one.
#[derive(Clone, Default)]
struct Threads(Arc<Lock<Vec<oneshot::Sender<()>>>>);

impl Threads {
    fn launcher(&self) -> Launcher {
        let threads = self.clone();
        Box::new(move |process: &Process, _: &Place, listener: OwnedFd| {
            let (kill, killed) = oneshot::channel::<()>();
            threads.0.lock().push(kill);
            let version = process.version.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        served = serve(listener, version) => served.unwrap(),
                        Ok(()) = killed => {}
                    }
                });
            });
            Ok(None)
        })
    }

    fn started(&self) -> usize {
        self.0.lock().len()
    }

    fn kill_last(&self) {
        self.0
            .lock()
            .last_mut()
            .map(|kill| std::mem::replace(kill, oneshot::channel().0).send(()));
    }
}

struct Fixture {
    directory: TempDir,
    threads: Threads,
    fake: Fake,
    at: SocketAddr,
}

/// One agent.
struct Agent {
    dns: Dns,
    tasks: TaskTracker,
    quit: CancellationToken,
}

impl Fixture {
    /// Each test has an address of its own.
    fn new(test: u8) -> Self {
        let fake = Fake::new();
        fake.put(&kinds::NAMESPACE, json!({"metadata": {"name": "ns", "uid": "ns"}}));
        fake.put(
            &kinds::SERVICE,
            json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.9"}}),
        );
        fake.put(
            &kinds::SERVICE,
            json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": {"clusterIP": "None"}}),
        );
        Fixture {
            directory: tempfile::tempdir().unwrap(),
            threads: Threads::default(),
            fake,
            at: (Ipv4Addr::new(127, 78, 0, test), 10053).into(),
        }
    }

    fn agent(&self, version: &str) -> Agent {
        let process = Process {
            directory: self.directory.path().join("cluster-dns"),
            command: Vec::new(),
            user: None,
            version: version.into(),
        };
        let dns = Dns(Arc::new(Mutex::new(
            Holder::new(process, self.threads.launcher()).unwrap(),
        )));
        let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
        let client = self.fake.client();
        let config = Config {
            informers: Informers::new(client.clone(), tasks.clone(), quit.clone()),
            recorder: Recorder::new(client, "cluster-dns", "n1", Clock::system(), &tasks, quit.clone()),
            node_name: "n1".into(),
            domain: "cluster.local".into(),
            listen: self.at,
            service: Ipv4Addr::new(127, 79, 0, 10).into(),
            upstreams: Box::new(Vec::new),
        };
        tasks.spawn(dns.clone().run(config, quit.clone()));
        Agent { dns, tasks, quit }
    }

    fn endpoints(&self, addresses: &[&str]) {
        let endpoints: Vec<Value> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
        self.fake.put(
            &kinds::ENDPOINT_SLICE,
            json!({"metadata": {"name": "db-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
                "addressType": "IPv4", "ports": [{"port": 5432}], "endpoints": endpoints}),
        );
    }

    /// Asks again and again until the answer is as it should be, and says how long that took.
    async fn until(&self, name: &str, is_right: impl Fn(ResponseCode, usize) -> bool) -> Duration {
        let start = Instant::now();
        let asking = async {
            loop {
                let asked = timeout(Duration::from_millis(100), self.ask(name)).await;
                if asked.is_ok_and(|(code, count)| is_right(code, count)) {
                    return start.elapsed();
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, asking).await.expect("the answer comes")
    }

    async fn ask(&self, name: &str) -> (ResponseCode, usize) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Nobody may be there yet.
        if socket.connect(self.at).await.is_err() {
            std::future::pending::<()>().await;
        }
        let request = question(name, RecordType::A);
        if socket.send(&request.to_vec().unwrap()).await.is_err() {
            std::future::pending::<()>().await;
        }
        let mut buffer = [0; 2048];
        let Ok(length) = socket.recv(&mut buffer).await else {
            return std::future::pending().await;
        };
        let reply = hickory_proto::op::Message::from_vec(&buffer[..length]).unwrap();
        (reply.metadata.response_code, reply.answers.len())
    }
}

impl Agent {
    async fn end(self) {
        self.quit.cancel();
        self.tasks.close();
        timeout(DEADLINE, self.tasks.wait()).await.unwrap();
    }
}

const WEB: &str = "web.ns.svc.cluster.local.";
const DB: &str = "db.ns.svc.cluster.local.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_endpoint_is_answered_within_100_ms() {
    let fixture = Fixture::new(1);
    let agent = fixture.agent("1");
    fixture.until(WEB, |_, count| count == 1).await;
    assert_eq!(fixture.ask(DB).await, (ResponseCode::NXDomain, 0));
    let mut times = Vec::new();
    for n in 1..=20 {
        let addresses: Vec<String> = (1..=n).map(|n| format!("10.0.0.{n}")).collect();
        fixture.endpoints(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
        times.push(fixture.until(DB, |_, count| count == n).await);
    }
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("new endpoints answered after {median:?} (median), {longest:?} (longest)");
    assert!(median < Duration::from_millis(100), "{times:?}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_an_agent_and_follows_the_next_one() {
    let fixture = Fixture::new(2);
    let agent = fixture.agent("1");
    fixture.endpoints(&["10.0.0.1"]);
    fixture.until(DB, |_, count| count == 1).await;
    assert!(
        agent
            .dns
            .metrics()
            .await
            .unwrap()
            .text()
            .contains("wherry_dns_services 2\n")
    );
    agent.end().await;
    for _ in 0..10 {
        assert_eq!(ask(fixture.at, &question(DB, RecordType::A)).await.answers.len(), 1);
    }
    fixture.endpoints(&["10.0.0.1", "10.0.0.2"]);
    let agent = fixture.agent("1");
    fixture.until(DB, |_, count| count == 2).await;
    assert_eq!(fixture.threads.started(), 1, "it is adopted");
    agent.end().await;
    end_processes(&fixture.directory.path().join("cluster-dns"))
        .await
        .unwrap();
    assert_eq!(fixture.directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_is_replaced_and_so_is_one_of_another_version() {
    let fixture = Fixture::new(3);
    let agent = fixture.agent("1");
    fixture.until(WEB, |_, count| count == 1).await;
    fixture.threads.kill_last();
    let gone = async {
        while fixture.threads.started() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.expect("another one is started");
    fixture.until(WEB, |_, count| count == 1).await;
    agent.end().await;

    let agent = fixture.agent("2");
    let replaced = async {
        let directory = fixture.directory.path().join("cluster-dns");
        while fixture.threads.started() < 3 || Place::list(&directory).unwrap().len() > 1 {
            // Meanwhile one of them answers; what lies before the other when it ends is asked again.
            fixture.until(WEB, |_, count| count == 1).await;
        }
    };
    timeout(DEADLINE, replaced).await.expect("the former one ends");
    assert_eq!(ask(fixture.at, &question(WEB, RecordType::A)).await.answers.len(), 1);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_told_on_the_node_until_it_is_free() {
    let fixture = Fixture::new(4);
    let taken = std::net::UdpSocket::bind(fixture.at).unwrap();
    let agent = fixture.agent("1");
    let told = |events: &[api::Object]| {
        events.iter().any(|event| {
            let note = event.str_at("message").unwrap_or_default();
            event.str_at("reason") == Some("FailedListen") && note.contains("127.78.0.4:10053")
        })
    };
    fixture.fake.wait_for(&kinds::EVENT, told).await;
    drop(taken);
    fixture.until(WEB, |_, count| count == 1).await;
    agent.end().await;
}

#[test]
fn only_what_changes_is_told() {
    let entry = |ip: [u8; 4]| model::Entry {
        kind: model::Kind::Cluster(vec![ip.into()]),
        ports: Default::default(),
        groups: Default::default(),
    };
    let world = |entries: &[(&str, [u8; 4])], namespaces: &[&str]| World {
        settings: Settings {
            domain: "cluster.local".into(),
            listen: "127.0.0.1:1".parse().unwrap(),
            upstreams: vec![],
        },
        namespaces: namespaces.iter().map(|name| (*name).into()).collect(),
        entries: entries
            .iter()
            .map(|(name, ip)| (model::Key::new("ns", name), entry(*ip)))
            .collect(),
    };
    let before = world(&[("a", [1, 1, 1, 1]), ("b", [2, 2, 2, 2])], &["ns"]);
    assert_eq!(holder::update(Some(&before), &before), None);
    let now = world(&[("b", [2, 2, 2, 3]), ("c", [3, 3, 3, 3])], &["ns"]);
    let update = holder::update(Some(&before), &now).unwrap();
    let names = |keys: &mut dyn Iterator<Item = &model::Key>| keys.map(|key| key.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&mut update.remove.iter()), ["a"]);
    assert_eq!(names(&mut update.set.iter().map(|(key, _)| key)), ["b", "c"]);
    assert_eq!((update.whole, update.namespaces), (false, None));
    let first = holder::update(None, &now).unwrap();
    assert!(first.whole && first.namespaces.is_some() && first.remove.is_empty() && first.set.len() == 2);
}

#[test]
fn nobody_asks_himself() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let found = others(
        vec![
            ip("10.96.0.10"),
            ip("192.0.2.1"),
            ip("10.128.0.1"),
            ip("192.0.2.1"),
            ip("fd00::1"),
        ],
        [ip("10.96.0.10"), ip("10.128.0.1")],
    );
    assert_eq!(
        found,
        ["192.0.2.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]
    );
}
