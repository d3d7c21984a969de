//! A cluster of an ordinary user: what is special about it. That it does the main job is told by `deployment`.

use std::{
    fs::File,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use e2e::{Cluster, Options, User, kill, need_root, repository, run, until};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};

const SOON: Duration = Duration::from_secs(30);

/// As a user finds most machines: ports below 1024 are closed.
fn user() -> Options {
    Options {
        user: Some(User {
            id: 61_235,
            first_port: 1024,
        }),
        ..Options::default()
    }
}

/// The example, with its Service on a port that users may have as well.
fn deployed(options: Options) -> Cluster {
    let cluster = Cluster::start(options);
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let manifests = repository().join("examples/hello").display().to_string();
    cluster.kubectl(&["apply", "-f", &manifests]).ok();
    let high = [
        "expose",
        "deployment/hello",
        "--name=high",
        "--port=8000",
        "--target-port=http",
    ];
    cluster.kubectl(&high).ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    cluster
}

fn field(cluster: &Cluster, what: &[&str], path: &str) -> String {
    let output = format!("jsonpath={path}");
    cluster.kubectl(&[&["get"], what, &["-o", &output]].concat()).ok()
}

/// Where the Services of [`deployed`] answer: the address of `high`, and the node port of `hello`.
fn addresses(cluster: &Cluster) -> [String; 2] {
    let address = field(cluster, &["service", "high"], "{.spec.clusterIP}");
    let port = field(cluster, &["service", "hello"], "{.spec.ports[0].nodePort}");
    [format!("http://{address}:8000/"), format!("http://127.0.0.1:{port}/")]
}

fn answers(cluster: &Cluster, url: &str) {
    until("it answers", SOON, || {
        let said = cluster.curl(url);
        if said.success { Ok(()) } else { Err(said.stderr) }
    });
}

#[test]
fn says_what_is_off_and_what_to_do() {
    need_root!();
    let cluster = deployed(user());
    let rootless = r#"{.items[0].status.conditions[?(@.type=="Rootless")]"#;
    assert_eq!(field(&cluster, &["nodes"], &format!("{rootless}.status}}")), "True");
    let message = field(&cluster, &["nodes"], &format!("{rootless}.message}}"));
    assert!(message.contains("OCI") && message.contains("below 1024"), "{message}");
    assert!(
        cluster
            .kubectl(&["get", "events", "--field-selector=reason=Rootless"])
            .ok()
            .contains("without root")
    );

    let address = field(&cluster, &["service", "hello"], "{.spec.clusterIP}");
    assert!(address.starts_with("127.96."), "{address}");
    let event = until("the Service says why its port is closed", SOON, || {
        let said = field(
            &cluster,
            &[
                "events",
                "--field-selector=reason=FailedListen,involvedObject.name=hello",
            ],
            "{.items[*].message}",
        );
        if said.is_empty() { Err(said) } else { Ok(said) }
    });
    assert!(event.contains("net.ipv4.ip_unprivileged_port_start=80"), "{event}");
    let warnings = field(
        &cluster,
        &["events", "--field-selector=type=Warning,reason=FailedListen"],
        "{.items[*].involvedObject.name}",
    );
    let told = |service: &str| warnings.split(' ').any(|name| name == service);
    assert!(told("hello"), "{warnings}");
    assert!(!told("kubernetes"), "it is on a port that it can have: {warnings}");
    for url in addresses(&cluster) {
        answers(&cluster, &url);
    }
}

#[test]
fn services_outlive_the_agent_and_come_back_when_their_process_dies() {
    need_root!();
    let mut cluster = deployed(user());
    let urls = addresses(&cluster);
    let pods = |cluster: &Cluster| field(cluster, &["pods"], "{.items[*].metadata.uid}");
    let restarts = |cluster: &Cluster| {
        field(
            cluster,
            &["pods"],
            "{.items[*].status.containerStatuses[*].restartCount}",
        )
    };
    let before = pods(&cluster);
    urls.iter().for_each(|url| answers(&cluster, url));

    let [proxy] = cluster.processes("service-proxy")[..] else {
        panic!("one process listens for Services");
    };
    let status = std::fs::read_to_string(format!("/proc/{proxy}/status")).expect("it runs");
    assert!(
        status.contains("Uid:\t61235\t61235\t61235\t61235") && status.contains("CapEff:\t0000000000000000"),
        "{status}"
    );
    cluster.crash();
    for _ in 0..10 {
        urls.iter().for_each(|url| drop(cluster.curl(url).ok()));
    }
    cluster.up();
    assert_eq!(cluster.processes("service-proxy"), [proxy], "it is adopted");
    urls.iter().for_each(|url| drop(cluster.curl(url).ok()));
    assert_eq!(
        (pods(&cluster), restarts(&cluster)),
        (before.clone(), "0 0 0".to_owned())
    );

    kill(proxy, Signal::SIGKILL);
    urls.iter().for_each(|url| answers(&cluster, url));
    assert_ne!(cluster.processes("service-proxy"), [proxy]);

    let [host] = cluster.processes("sandbox-host")[..] else {
        panic!("one process runs the pods of a namespace");
    };
    kill(host, Signal::SIGKILL);
    until("the pods run again", SOON, || {
        let now = restarts(&cluster);
        if now == "1 1 1" { Ok(()) } else { Err(now) }
    });
    urls.iter().for_each(|url| answers(&cluster, url));
    assert_eq!(pods(&cluster), before);

    assert!(cluster.stop());
    run(&mut cluster.wherry("down"), "").ok();
    assert_eq!(cluster.processes(""), Vec::<u32>::new(), "nothing is left");
    assert!(!cluster.data().join("service-proxy").exists());
}

/// A server of datagrams on the cluster's machine, and a question to it by way of `service`.
fn ask_datagrams(cluster: &Cluster, server: SocketAddr, service: SocketAddr) -> Result<String, String> {
    let network = File::open(cluster.network()).expect("the network is there");
    let asked = std::thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).expect("root enters networks");
        let (server, client) = (UdpSocket::bind(server)?, UdpSocket::bind("127.0.0.1:0")?);
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        }
        let mut datagram = [0; 16];
        client.send_to(b"ping", service)?;
        let (length, from) = server.recv_from(&mut datagram)?;
        server.send_to(&datagram[..length], from)?;
        let (length, from) = client.recv_from(&mut datagram)?;
        assert_eq!(from, service);
        Ok(String::from_utf8_lossy(&datagram[..length]).into_owned())
    });
    let asked: std::io::Result<String> = asked.join().expect("the thread ends");
    asked.map_err(|error| error.to_string())
}

#[test]
fn serves_datagrams() {
    need_root!();
    let cluster = Cluster::start(user());
    let manifest = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ports: [{port: 5353, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
endpoints: [{addresses: ["127.200.0.1"]}]
ports: [{name: "", port: 5300, protocol: UDP}]
"#;
    cluster.apply(manifest).ok();
    let address = field(&cluster, &["service", "echo"], "{.spec.clusterIP}");
    let service = format!("{address}:5353").parse().expect("an address");
    let server = "127.200.0.1:5300".parse().expect("an address");
    let answer = until("an answer", SOON, || ask_datagrams(&cluster, server, service));
    assert_eq!(answer, "ping");
}

#[test]
fn clusters_of_two_users_keep_to_their_own_addresses() {
    need_root!();
    let one = Cluster::start(user());
    let other = User {
        id: 61_236,
        first_port: 1024,
    };
    let beside = |arguments: &[&str]| {
        one.beside(Options {
            user: Some(other),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..Options::default()
        })
    };
    let refused = beside(&[]);
    let said = run(refused.wherry("up").args(["--api-bind", "127.0.0.1:6444"]), "").err();
    let line = said.lines().last().unwrap_or_default();
    let advice = "--cluster-cidr 127.48.0.0/12 --service-cidr 127.97.0.0/16";
    assert!(line.contains("127.32.0.0/12") && line.ends_with(advice), "{said}");
    let words: Vec<&str> = advice.split(' ').collect();
    let mut second = beside(&words);
    second.up();
    assert!(field(&second, &["service", "kubernetes"], "{.spec.clusterIP}").starts_with("127.97."));
    assert!(field(&one, &["service", "kubernetes"], "{.spec.clusterIP}").starts_with("127.96."));
}
