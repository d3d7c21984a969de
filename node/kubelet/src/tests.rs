//! Whole kubelets against an API and a runtime in memory. Those without sockets run on a paused clock.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use api::Object;
use async_trait::async_trait;
use client::fake::Fake;
use cri::Runtime;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;

use super::*;
use crate::testing::FakeRuntime;

mod csi;

/// A network that is as the test says.
#[derive(Default)]
struct Network {
    broken: AtomicBool,
}

#[async_trait]
impl PodNetwork for Network {
    async fn ensure(&self, _range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err("no such device".into()),
            false => Ok(()),
        }
    }
}

/// A certificate authority for the kubelet API.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority"))
    }

    fn issue(&self, name: &str, group: Option<&str>) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (
            certificate.der().clone(),
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
    }
}

struct Node {
    api: Fake,
    runtime: FakeRuntime,
    network: Arc<Network>,
    authority: Authority,
    address: std::net::SocketAddr,
    ready: watch::Receiver<bool>,
    dir: tempfile::TempDir,
    tasks: TaskTracker,
    _quit: DropGuard,
}

/// What a kubelet that was killed has left.
struct Dead {
    api: Fake,
    runtime: FakeRuntime,
    dir: tempfile::TempDir,
}

impl Dead {
    fn again(self) -> Node {
        let clock = Clock::system();
        Node::with(self.api, Network::default(), self.runtime, clock, self.dir)
    }
}

const NODE: &str = "n1";

impl Node {
    /// A node that the API knows from an earlier run.
    fn start() -> Self {
        let api = Fake::new();
        let known = json!({"metadata": {"name": NODE, "uid": NODE}, "spec": {"podCIDR": "10.128.0.0/17"}});
        api.put(&kinds::NODE, known);
        Self::on(api, Network::default())
    }

    /// A node that the API does not know.
    fn fresh() -> Self {
        Self::on(Fake::new(), Network::default())
    }

    fn on(api: Fake, network: Network) -> Self {
        let clock = Clock::anchored(Timestamp::from_second(1_000_000).expect("time"));
        let runtime = FakeRuntime::new(clock.clone(), &["i"]);
        Self::with(api, network, runtime, clock, tempfile::tempdir().expect("dir"))
    }

    /// The next kubelet, after this one was killed: what it left is there.
    async fn killed(self) -> Dead {
        let Self {
            api,
            runtime,
            dir,
            tasks,
            _quit,
            ..
        } = self;
        drop(_quit);
        tasks.close();
        within(tasks.wait()).await;
        Dead { api, runtime, dir }
    }

    fn with(api: Fake, network: Network, runtime: FakeRuntime, clock: Clock, dir: tempfile::TempDir) -> Self {
        api.put(
            &kinds::NAMESPACE,
            json!({"metadata": {"name": "kube-system", "uid": "cluster-a"}}),
        );
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("address");
        let (certificate, key) = authority.issue("system:node:n1", Some("system:nodes"));
        let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
        let (told, ready) = watch::channel(false);
        let network = Arc::new(network);
        let config = Config {
            client: api.client(),
            informers: Informers::new(api.client(), tasks.clone(), quit.clone()),
            runtime: Arc::new(runtime.clone()),
            clock,
            node_name: NODE.into(),
            node_ips: vec!["10.0.0.1".parse().expect("ip")],
            labels: BTreeMap::from([("disk".to_owned(), "fast".to_owned())]),
            max_pods: 500,
            reserved: Reserved::default(),
            thresholds: Thresholds::default(),
            version: "v1.36.0+wherry".into(),
            data_dir: dir.path().to_owned(),
            drivers_dir: dir.path().to_owned(),
            dns: Dns::default(),
            metrics: Vec::new(),
            cgroup_prefix: None,
            static_pods: None,
            network: network.clone(),
            api_listener: listener,
            api_tls: Tls {
                certificates: vec![certificate],
                key,
                client_authorities: vec![authority.0.der().clone()],
                allowed_names: vec!["kube-apiserver-kubelet-client".into()],
            },
            rotate_certificates: false,
            limitation: None,
            ready: told,
            tasks: tasks.clone(),
        };
        tasks.spawn(run(config, quit.clone()));
        Self {
            api,
            runtime,
            network,
            authority,
            address,
            ready,
            dir,
            tasks,
            _quit: quit.drop_guard(),
        }
    }

    fn bind(&self, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        spec["nodeName"] = NODE.into();
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "generation": 1});
        self.api.put(
            &kinds::POD,
            json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}),
        );
    }

    async fn pod(&self, name: &str, accept: impl Fn(&Object) -> bool) -> Object {
        let found = |pods: &[Object]| pods.iter().any(|pod| pod.name() == name && accept(pod));
        let pods = within(self.api.wait_for(&kinds::POD, found)).await;
        pods.into_iter().find(|pod| pod.name() == name).expect("found")
    }

    async fn running(&self, name: &str) {
        self.pod(name, |pod| pod.str_at("status.phase") == Some("Running"))
            .await;
    }

    /// Reasons of the events about an object, in the order they came.
    fn told(&self, kind: &str, name: &str) -> Vec<String> {
        let mut events = self.api.all(&kinds::EVENT);
        events
            .retain(|e| e.str_at("involvedObject.kind") == Some(kind) && e.str_at("involvedObject.name") == Some(name));
        events.sort_by_key(|e| e.resource_version().and_then(|v| v.parse::<u64>().ok()));
        let reasons = events.iter().filter_map(|e| e.str_at("reason"));
        reasons.map(str::to_owned).collect()
    }

    async fn sandboxes(&self) -> usize {
        self.runtime.list_sandboxes().await.expect("lists").len()
    }
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), wait)
        .await
        .expect("comes in time")
}

fn web() -> Value {
    json!({"containers": [{"name": "web", "image": "i"}]})
}

fn ready_of(node: &Object) -> Option<(&str, &str)> {
    let ready = node
        .list_at("status.conditions")
        .iter()
        .find(|c| c["type"] == "Ready")?;
    Some((ready["status"].as_str()?, ready["message"].as_str()?))
}

#[tokio::test(start_paused = true)]
async fn a_node_registers_waits_for_its_pod_range_and_is_ready() {
    let mut node = Node::fresh();
    let nodes = within(
        node.api
            .wait_for(&kinds::NODE, |nodes| nodes.iter().any(|n| ready_of(n).is_some())),
    )
    .await;
    let registered = nodes.first().expect("registered");
    assert_eq!(
        (registered.label("disk"), registered.label("kubernetes.io/hostname")),
        (Some("fast"), Some(NODE))
    );
    assert_eq!(ready_of(registered).map(|(status, _)| status), Some("False"));
    assert!(!*node.ready.borrow());
    tokio::time::sleep(Duration::from_secs(1)).await; // the range comes when it comes
    node.api
        .change(&kinds::NODE, "", NODE, &json!({"spec": {"podCIDR": "10.128.0.0/17"}}));
    within(node.ready.wait_for(|ready| *ready)).await.expect("lives");
    let told = node.api.get(&kinds::NODE, "", NODE).expect("node");
    assert_eq!(ready_of(&told), Some(("True", "kubelet is posting ready status")));
    assert_eq!(told.str_at("status.capacity.pods"), Some("500"));
    let port = told.i64_at("status.daemonEndpoints.kubeletEndpoint.Port");
    assert_eq!(port, Some(i64::from(node.address.port())));
    let is_ready = |events: &[Object]| events.iter().any(|e| e.str_at("reason") == Some("NodeReady"));
    within(node.api.wait_for(&kinds::EVENT, is_ready)).await;
    assert_eq!(node.told("Node", NODE), ["Starting", "NodeReady"]);
    let leases = within(node.api.wait_for(&kinds::LEASE, |leases| !leases.is_empty())).await;
    assert_eq!(leases[0].str_at("spec.holderIdentity"), Some(NODE));
    assert_eq!(leases[0].i64_at("spec.leaseDurationSeconds"), Some(40));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_node_writes_its_status_rarely() {
    let mut node = Node::start();
    within(node.ready.wait_for(|ready| *ready)).await.expect("lives");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let version = |node: &Node| {
        node.api
            .get(&kinds::NODE, "", NODE)
            .and_then(|n| n.resource_version().map(str::to_owned))
    };
    let before = version(&node);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(version(&node), before, "nothing changed");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_ne!(version(&node), before, "a heartbeat every five minutes");
}

#[tokio::test(start_paused = true)]
async fn pods_wait_for_the_network_and_host_pods_do_not() {
    let node = Node::fresh();
    node.bind("a", &web());
    node.bind(
        "h",
        &json!({"hostNetwork": true, "containers": [{"name": "web", "image": "i"}]}),
    );
    node.running("h").await;
    let creating = |pod: &Object| {
        pod.list_at("status.containerStatuses")
            .iter()
            .any(|c| c["state"]["waiting"]["reason"] == "ContainerCreating")
    };
    node.pod("a", creating).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        (node.sandboxes().await, node.told("Pod", "a")),
        (1, vec!["Pulled".into()])
    );
    node.api
        .change(&kinds::NODE, "", NODE, &json!({"spec": {"podCIDR": "10.128.0.0/17"}}));
    node.running("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_fails_is_tried_again_and_pods_wait_for_it() {
    let api = Fake::new();
    let known = json!({"metadata": {"name": NODE, "uid": NODE}, "spec": {"podCIDR": "10.128.0.0/17"}});
    api.put(&kinds::NODE, known);
    let broken = AtomicBool::new(true);
    let node = Node::on(api, Network { broken });
    node.bind("a", &web());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        (node.sandboxes().await, node.told("Pod", "a")),
        (0, vec!["Pulled".into()])
    );
    node.network.broken.store(false, Ordering::SeqCst);
    let mended = tokio::time::Instant::now();
    node.running("a").await;
    assert!(mended.elapsed() < Duration::from_secs(1), "took {:?}", mended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pods_run_while_they_are_listed_and_end_when_they_vanish() {
    let node = Node::start();
    node.bind("a", &web());
    node.bind("b", &web());
    node.running("a").await;
    node.running("b").await;
    node.api.remove(&kinds::POD, "default", "a");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = node.runtime.list_sandboxes().await.expect("lists");
    assert_eq!(left.iter().map(|s| &*s.config.uid).collect::<Vec<_>>(), ["b"]);
    assert!(!node.dir.path().join("pods/a").exists());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_cluster_ends_nothing() {
    let node = Node::start();
    node.bind("a", &web());
    node.running("a").await;
    node.api.put(
        &kinds::NAMESPACE,
        json!({"metadata": {"name": "kube-system", "uid": "cluster-b"}}),
    );
    node.api.remove(&kinds::POD, "default", "a");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.sandboxes().await, 1, "its list says nothing about our pods");
    node.api.put(
        &kinds::NAMESPACE,
        json!({"metadata": {"name": "kube-system", "uid": "cluster-a"}}),
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.sandboxes().await, 0, "our own cluster's does");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_ends_nothing() {
    let node = Node::start();
    node.bind("a", &web());
    node.running("a").await;
    node.api.down.store(true, Ordering::SeqCst);
    node.api.epoch.send_modify(|epoch| *epoch += 1);
    node.runtime.exit("a", "web", 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        node.runtime.list_containers().await.expect("lists").len(),
        2,
        "restarted meanwhile"
    );
    node.api.down.store(false, Ordering::SeqCst);
    let restarted = |pod: &Object| {
        pod.list_at("status.containerStatuses")
            .iter()
            .any(|c| c["restartCount"] == 1)
    };
    node.pod("a", restarted).await;
}

#[tokio::test(start_paused = true)]
async fn the_cluster_authority_is_read_once_for_the_pods_of_a_namespace() {
    let node = Node::start();
    let metadata = json!({"name": "kube-root-ca.crt", "namespace": "default"});
    node.api.put(
        &kinds::CONFIG_MAP,
        json!({"metadata": metadata, "data": {"ca.crt": "x"}}),
    );
    let mut spec = web();
    spec["volumes"] = json!([{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}]);
    let lists = || node.api.lists.load(Ordering::SeqCst);
    let live = async |name: &str, then: Duration| {
        node.bind(name, &spec);
        node.running(name).await;
        node.api.remove(&kinds::POD, "default", name);
        tokio::time::sleep(then).await;
        assert_eq!(node.sandboxes().await, 0);
    };
    live("a", Duration::from_secs(60)).await;
    let before = lists();
    live("b", Duration::from_secs(600)).await;
    assert_eq!(lists(), before, "it was still at hand");
    live("c", Duration::from_secs(60)).await;
    assert_eq!(lists(), before + 1, "nobody had needed it for long");
}

#[tokio::test(start_paused = true)]
async fn a_busy_node_sweeps_too() {
    let node = Node::start();
    node.bind("a", &web());
    node.running("a").await;
    let stray = cri::SandboxConfig {
        uid: "stray".into(),
        ..cri::SandboxConfig::default()
    };
    node.runtime.run_sandbox(stray, "").await.expect("runs");
    for turn in 0..12 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let change = json!({"metadata": {"labels": {"turn": turn.to_string()}}});
        node.api.change(&kinds::POD, "default", "a", &change);
    }
    assert_eq!(node.sandboxes().await, 1, "the stray has gone");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_has_just_begun_delays_pods_little() {
    let node = Node::start();
    node.api.remove(&kinds::NAMESPACE, "", "kube-system");
    node.bind("a", &web());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.sandboxes().await, 0, "it may be another cluster's");
    node.api.put(
        &kinds::NAMESPACE,
        json!({"metadata": {"name": "kube-system", "uid": "cluster-a"}}),
    );
    let begun = tokio::time::Instant::now();
    node.running("a").await;
    assert!(
        begun.elapsed() < Duration::from_millis(300),
        "took {:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_owns_is_swept_up() {
    let node = Node::start();
    let stray = cri::SandboxConfig {
        uid: "stray".into(),
        ..cri::SandboxConfig::default()
    };
    node.runtime.run_sandbox(stray, "").await.expect("runs");
    std::fs::create_dir_all(node.dir.path().join("pods/older/volumes")).expect("dir");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(node.sandboxes().await, 0);
    assert!(!node.dir.path().join("pods/older").exists());
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

async fn call(node: &Node, identity: Option<Identity>, path: &str) -> (u16, String) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(node.authority.0.der().clone()).expect("root");
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).expect("identity"),
        None => config.with_no_client_auth(),
    };
    let stream = tokio::net::TcpStream::connect(node.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("handshake");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("speaks");
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", "localhost")
        .body(Empty::<bytes::Bytes>::new());
    let answer = sender.send_request(request.expect("request")).await.expect("answers");
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    (code, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn the_kubelet_api_gives_logs_to_the_api_server_alone() {
    let node = Node::start();
    node.bind("a", &web());
    node.running("a").await;
    let logs = node.dir.path().join("logs/pods/default_a_a/web");
    std::fs::write(
        logs.join("0.log"),
        "2026-11-20T11:00:00Z stdout F one\n2026-11-20T11:00:01Z stderr F two\n",
    )
    .expect("log");
    let server = || Some(node.authority.issue("kube-apiserver-kubelet-client", None));
    let path = "/containerLogs/default/a/web";
    assert_eq!(call(&node, server(), path).await, (200, "one\ntwo\n".into()));
    let tail = format!("{path}?tailLines=1&timestamps=true");
    assert_eq!(
        call(&node, server(), &tail).await,
        (200, "2026-11-20T11:00:01Z two\n".into())
    );
    let previous = "previous terminated container \"web\" in pod \"a\" not found";
    assert_eq!(
        call(&node, server(), &format!("{path}?previous=true")).await,
        (400, previous.into())
    );
    let absent = "container db not found in pod a";
    assert_eq!(
        call(&node, server(), "/containerLogs/default/a/db").await,
        (404, absent.into())
    );
    assert_eq!(call(&node, None, path).await, (401, "Unauthorized".into()));
    let other = Some(node.authority.issue("system:node:n2", Some("system:nodes")));
    let (code, why) = call(&node, other, path).await;
    assert_eq!(code, 403);
    assert_eq!(
        why,
        "Forbidden (user=system:node:n2, verb=get, resource=nodes, subresource(s)=[proxy], node=n1)"
    );
    let admin = || Some(node.authority.issue("admin", Some("system:masters")));
    assert_eq!(call(&node, admin(), "/healthz").await, (200, "ok".into()));
    let (code, metrics) = call(&node, admin(), "/metrics").await;
    assert!(code == 200 && metrics.contains("kubelet_running_pods 1\n"), "{metrics}");
    let (code, resources) = call(&node, admin(), "/metrics/resource").await;
    assert!(
        code == 200 && resources.ends_with("resource_scrape_error 0\n"),
        "{resources}"
    );
    let (code, configz) = call(&node, admin(), "/configz").await;
    let configz: Value = serde_json::from_str(&configz).expect("json");
    let config = &configz["kubeletconfig"];
    assert_eq!(
        (code, &config["maxPods"], &config["port"]),
        (200, &json!(500), &json!(node.address.port()))
    );
    assert_eq!(
        (
            &config["evictionHard"]["memory.available"],
            &config["rotateCertificates"]
        ),
        (&json!("100Mi"), &json!(false))
    );
    let (code, probes) = call(&node, admin(), "/metrics/probes").await;
    assert!(
        code == 200 && probes.contains("# TYPE prober_probe_total counter"),
        "{probes}"
    );
    let (code, cadvisor) = call(&node, admin(), "/metrics/cadvisor").await;
    assert!(
        code == 200 && cadvisor.contains("\nmachine_memory_bytes "),
        "{cadvisor}"
    );
    let (code, listed) = call(&node, admin(), "/logs/").await;
    assert!(code == 200 && listed.contains("<pre>"), "{listed}");
    assert_eq!(call(&node, admin(), "/logs/no-such-file").await.0, 404);
    let other = || Some(node.authority.issue("system:node:n2", Some("system:nodes")));
    for (path, subresources) in [
        ("/logs/", "log"),
        ("/configz", "configz, proxy"),
        ("/metrics/probes", "metrics"),
    ] {
        let (code, why) = call(&node, other(), path).await;
        assert!(
            code == 403 && why.contains(&format!("subresource(s)=[{subresources}]")),
            "{path}: {code} {why}"
        );
    }
    let plain = "unable to upgrade: missing upgrade headers in request";
    assert_eq!(
        call(&node, admin(), "/exec/default/a/web?command=ls&output=1").await,
        (400, plain.into())
    );
    let missing = "container not found (\"db\")";
    assert_eq!(
        call(&node, admin(), "/exec/default/a/db?command=ls&output=1").await,
        (500, missing.into())
    );
    let (_, pods) = call(&node, admin(), "/pods").await;
    let pods: Value = serde_json::from_str(&pods).expect("json");
    assert_eq!(pods["items"][0]["metadata"]["name"], "a");
}
