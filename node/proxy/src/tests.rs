//! The whole loop, against a fake API server and the kernel.

use std::io;
use std::time::{Duration, Instant};

use client::Clock;
use client::fake::Fake;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::*;
use crate::userspace::tests::holding::{Threads, process};
use crate::world::{A, B, NODE, VIP, World, can_run};

const DEADLINE: Duration = Duration::from_secs(20);

/// What ports of the node lead to.
type Led = watch::Receiver<BTreeMap<SandboxId, HostPorts>>;

/// The proxy of a node, in that node's namespace; ends when dropped.
struct Running {
    shutdown: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(world: &World, fake: &Fake, directory: &TempDir, host_ports: Led) -> Self {
        let process = process(directory.path(), "1");
        let shutdown = CancellationToken::new();
        let (node, pods, fake, quit) = (world.node.path(), world.pods.path(), fake.clone(), shutdown.clone());
        let thread = std::thread::spawn(move || {
            world::enter(&node);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let tasks = TaskTracker::new();
                let config = Config {
                    host_ports,
                    informers: Informers::new(fake.client(), tasks.clone(), quit.clone()),
                    recorder: Recorder::new(fake.client(), "proxy", "here", Clock::system(), &tasks, quit.clone()),
                    node_name: "here".into(),
                    node_ips: vec![NODE.parse().unwrap()],
                    kernel: Some(Kernel {
                        cluster_id: "test".into(),
                        netns_path: Some(pods),
                        service_range: "10.96.0.0/16".parse().unwrap(),
                        pod_range: "10.128.0.0/17".parse().unwrap(),
                    }),
                    process,
                };
                follow(config, Threads::default().launcher(), quit).await;
            });
        });
        Running {
            shutdown,
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn put_service(fake: &Fake) {
    let port = json!({"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"});
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [port]});
    let metadata = json!({"namespace": "default", "name": "web"});
    fake.put(
        &kinds::SERVICE,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}),
    );
}

fn put_endpoints(fake: &Fake, endpoints: &[&str]) {
    let labels = json!({"kubernetes.io/service-name": "web"});
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| json!({"addresses": [endpoint.split(':').next()], "conditions": {"ready": true}}))
        .collect();
    fake.put(
        &kinds::ENDPOINT_SLICE,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "default", "name": "web-1", "labels": labels},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }),
    );
}

/// Asks until the answer is as wanted.
fn until(what: &str, mut ask: impl FnMut() -> io::Result<String>, wanted: impl Fn(&io::Result<String>) -> bool) {
    let started = Instant::now();
    loop {
        let said = ask();
        if wanted(&said) {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: {said:?}");
    }
}

fn is_from(name: &'static str) -> impl Fn(&io::Result<String>) -> bool {
    move |said| said.as_ref().is_ok_and(|said| said.starts_with(name))
}

#[test]
fn follows_services_and_endpoints_and_leaves_the_rules_behind() {
    if !can_run() {
        return;
    }
    let world = World::new();
    world.pods.serve("a", A);
    world.pods.serve("b", B);
    let (fake, directory) = (Fake::new(), tempfile::tempdir().unwrap());
    let (_none, led) = watch::channel(BTreeMap::new());
    let running = Running::start(&world, &fake, &directory, led.clone());
    put_service(&fake);
    put_endpoints(&fake, &[A]);
    let (by_address, by_loopback) = (|| world.node.ask(None, VIP), || world.node.ask(None, "127.0.0.1:30080"));
    until("the Service appears", by_address, is_from("a"));
    until("on the loopback address too", by_loopback, is_from("a"));
    until(
        "and in the pods",
        || world.pods.ask(Some("10.128.1.9"), VIP),
        is_from("a"),
    );
    put_endpoints(&fake, &[B]);
    until("another endpoint", by_address, is_from("b"));
    until("on the loopback address too", by_loopback, is_from("b"));
    drop(running);
    assert!(is_from("b")(&by_address()), "connections do not need this process");
    assert!(is_from("b")(&by_loopback()), "nor on the loopback address");

    put_endpoints(&fake, &[A]);
    let running = Running::start(&world, &fake, &directory, led);
    until("the next process takes over", by_address, is_from("a"));
    fake.down.store(true, std::sync::atomic::Ordering::SeqCst);
    fake.epoch.send_modify(|epoch| *epoch += 1);
    assert!(
        is_from("a")(&by_address()),
        "and nothing changes while the API server is away"
    );
    drop(running);
    let removed = world.node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            end_processes(&directory.path().join("service-proxy")).await?;
            remove("test", Some(&world.pods.path())).await
        })
    });
    removed.unwrap();
    assert!(by_address().is_err() && by_loopback().is_err(), "nothing is left");
}

#[test]
fn ports_of_the_node_lead_to_pods_that_have_them() {
    if !can_run() {
        return;
    }
    let world = World::new();
    world.pods.serve("a", A);
    let (fake, directory) = (Fake::new(), tempfile::tempdir().unwrap());
    let (leads, led) = watch::channel(BTreeMap::new());
    let running = Running::start(&world, &fake, &directory, led);
    let port = |host_port, host_ip: &str| cri::PortMapping {
        protocol: "TCP".to_owned(),
        container_port: 8080,
        host_port,
        host_ip: host_ip.to_owned(),
    };
    let pod = HostPorts {
        namespace: "default".to_owned(),
        name: "web.1".to_owned(),
        uid: "u".to_owned(),
        ip: "10.128.1.2".parse().unwrap(),
        ports: vec![port(8000, ""), port(8001, "127.0.0.1"), port(8002, NODE)],
    };
    leads.send_modify(|led| drop(led.insert(SandboxId("s".to_owned()), pod)));
    let ask = |from: &world::Net, at: &str| from.ask(None, at);
    let of_node = |port: u16| format!("{NODE}:{port}");
    until("on every address", || ask(&world.node, &of_node(8000)), is_from("a"));
    until("on 127.0.0.1", || ask(&world.node, "127.0.0.1:8000"), is_from("a"));
    until("on that alone", || ask(&world.node, "127.0.0.1:8001"), is_from("a"));
    until("on one address", || ask(&world.node, &of_node(8002)), is_from("a"));
    assert!(ask(&world.node, &of_node(8001)).is_err());
    assert!(ask(&world.node, "127.0.0.1:8002").is_err());
    let beyond = ask(&world.beyond, &of_node(8000)).unwrap();
    assert_eq!(beyond, format!("a {}", world::BEYOND), "the pod sees who asks");
    leads.send_modify(BTreeMap::clear);
    until("no longer", || ask(&world.node, &of_node(8000)), io::Result::is_err);
    until(
        "there neither",
        || ask(&world.node, "127.0.0.1:8001"),
        io::Result::is_err,
    );
    drop(running);
}

#[test]
fn the_proxy_can_be_a_task() {
    fn is_send<F: Send>(_: impl Fn(Config, CancellationToken) -> F) {}
    is_send(run);
}
