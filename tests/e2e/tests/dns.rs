//! Cluster DNS: guests find Services by name, and so does whoever asks at the cluster DNS address, with the agent and
//! without. As root, and as a user of the machine.

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use e2e::{Cluster, Options, User, kill, need_root, repository, run, until, with_and_without_root};
use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};

const SOON: Duration = Duration::from_secs(30);
/// Where a test's own name server is, on the cluster's machine.
const UPSTREAM: &str = "127.0.0.9";

with_and_without_root! {
    guests_find_services_by_name,
    answers_at_its_address_with_and_without_an_agent,
    asks_others_for_what_is_not_the_clusters,
}

/// Does something in the cluster's network.
fn there<T: Send + 'static>(cluster: &Cluster, f: impl FnOnce() -> T + Send + 'static) -> T {
    let network = File::open(cluster.network()).expect("the network is there");
    let done = std::thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).expect("root enters networks");
        f()
    });
    done.join().expect("the thread ends")
}

fn question(name: &str, type_: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), type_));
    message.to_vec().expect("a message")
}

fn by_datagram(server: SocketAddr, question: &[u8]) -> std::io::Result<Message> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(6)))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    Message::from_vec(&buffer[..length]).map_err(std::io::Error::other)
}

fn by_stream(server: SocketAddr, question: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(6)))?;
    let length = u16::try_from(question.len()).expect("a short question");
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut buffer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut buffer)?;
    Message::from_vec(&buffer).map_err(std::io::Error::other)
}

/// What a server of the cluster says, as `CODE RECORD,RECORD`.
fn asked(cluster: &Cluster, server: SocketAddr, name: &str, type_: RecordType) -> Result<String, String> {
    let question = question(name, type_);
    let told = there(cluster, move || {
        let (datagram, stream) = (by_datagram(server, &question)?, by_stream(server, &question)?);
        Ok::<_, std::io::Error>([datagram, stream].map(|message| text(&message)))
    });
    let [datagram, stream] = told.map_err(|error| error.to_string())?;
    // Something may just have changed.
    match datagram == stream {
        true => Ok(datagram),
        false => Err(format!("{datagram} by datagram, {stream} by stream")),
    }
}

fn text(message: &Message) -> String {
    let mut records: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    records.sort();
    format!("{} {}", message.metadata.response_code, records.join(","))
}

fn found(cluster: &Cluster, name: &str, type_: RecordType, expected: &str) {
    let server = address(cluster);
    until(name, SOON, || match asked(cluster, server, name, type_)? {
        told if told == expected => Ok(()),
        told => Err(told),
    });
}

fn field(cluster: &Cluster, what: &[&str], path: &str) -> String {
    let output = format!("jsonpath={path}");
    cluster.kubectl(&[&["get"], what, &["-o", &output]].concat()).ok()
}

/// The cluster DNS address.
fn address(cluster: &Cluster) -> SocketAddr {
    let ip = match cluster.is_users() {
        true => "127.96.0.10",
        false => "10.96.0.10",
    };
    SocketAddr::new(ip.parse().expect("an address"), 53)
}

const SERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1], hostname: db-0}, {addresses: [192.0.2.2], hostname: db-1}]
ports: [{name: sql, port: 15432}]
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: www.example.com}
"#;

fn deployed(options: Options) -> Cluster {
    let cluster = Cluster::start(options);
    let hello = repository().join("examples/hello");
    cluster.load(&hello.join("hello.wasm"), "hello:1").ok();
    let probe = repository().join("tests/workloads/probe.wasm");
    cluster.load(&probe, "probe:1").ok();
    cluster.kubectl(&["apply", "-f", &hello.display().to_string()]).ok();
    cluster.apply(SERVICES).ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    cluster
}

/// What a guest prints that is run with `arguments`, and with more of its pod's specification.
fn guest(cluster: &Cluster, name: &str, arguments: &str, spec: &str) -> String {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n{spec}  containers:\n  \
         - {{name: probe, image: 'probe:1', args: [{arguments}]}}\n"
    );
    cluster.apply(&pod).ok();
    let pod = format!("pod/{name}");
    let wait = [
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        &pod,
        "--timeout=60s",
    ];
    cluster.kubectl(&wait).ok();
    cluster.kubectl(&["logs", name]).ok().trim_end().to_owned()
}

fn guests_find_services_by_name(options: Options) {
    let cluster = deployed(options);
    let hello = field(&cluster, &["service", "hello"], "{.spec.clusterIP}");
    for (pod, name) in [
        ("short", "hello"),
        ("longer", "hello.default"),
        ("longest", "hello.default.svc"),
        ("full", "hello.default.svc.cluster.local"),
    ] {
        assert_eq!(
            guest(&cluster, pod, &format!("resolve, {name}"), ""),
            format!("ok {hello}"),
            "{name}"
        );
    }
    assert_eq!(guest(&cluster, "all", "resolve, db", ""), "ok 192.0.2.1 192.0.2.2");
    assert_eq!(guest(&cluster, "one", "resolve, db-1.db", ""), "ok 192.0.2.2");
    let nothing = "resolve, nothing.default.svc.cluster.local.";
    assert_eq!(guest(&cluster, "none", nothing, ""), "failed name-unresolvable");
    let port = field(&cluster, &["service", "hello"], "{.spec.ports[0].port}");
    let fetched = guest(&cluster, "fetch", &format!("fetch, 'hello.default:{port}', /"), "");
    assert!(fetched.starts_with("ok 200 "), "{fetched}");
    let elsewhere = "  dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.53, 192.0.2.54], searches: [a.example]}\n";
    assert_eq!(
        guest(&cluster, "own", "resolve, localhost", elsewhere),
        "ok 127.0.0.1",
        "a policy of its own"
    );
    let four = "  dnsConfig: {nameservers: [192.0.2.1, 192.0.2.2, 192.0.2.3]}\n";
    assert_eq!(guest(&cluster, "four", "resolve, hello", four), format!("ok {hello}"));
    let note = until("what was left out is told", SOON, || {
        let said = field(
            &cluster,
            &[
                "events",
                "--field-selector=reason=DNSConfigForming,involvedObject.name=four",
            ],
            "{.items[*].message}",
        );
        if said.is_empty() { Err(said) } else { Ok(said) }
    });
    assert!(note.contains("Nameserver limits were exceeded"), "{note}");
}

fn answers_at_its_address_with_and_without_an_agent(options: Options) {
    let mut cluster = deployed(options);
    let service = field(
        &cluster,
        &["service", "kube-dns", "-n", "kube-system"],
        "{.spec.clusterIP}",
    );
    assert_eq!(service, address(&cluster).ip().to_string());
    let hello = field(&cluster, &["service", "hello"], "{.spec.clusterIP}");
    let cluster_names = [
        (
            "hello.default.svc.cluster.local.",
            RecordType::A,
            format!("No Error {hello}"),
        ),
        ("hello.default.svc.cluster.local.", RecordType::AAAA, "No Error ".into()),
        (
            "db.default.svc.cluster.local.",
            RecordType::A,
            "No Error 192.0.2.1,192.0.2.2".into(),
        ),
        (
            "db-0.db.default.svc.cluster.local.",
            RecordType::A,
            "No Error 192.0.2.1".into(),
        ),
        (
            "_sql._tcp.db.default.svc.cluster.local.",
            RecordType::SRV,
            "No Error 0 50 15432 db-0.db.default.svc.cluster.local.,0 50 15432 db-1.db.default.svc.cluster.local."
                .into(),
        ),
        (
            "1.2.0.192.in-addr.arpa.",
            RecordType::PTR,
            "No Error db-0.db.default.svc.cluster.local.".into(),
        ),
        (
            "10-1-2-3.default.pod.cluster.local.",
            RecordType::A,
            "No Error 10.1.2.3".into(),
        ),
        (
            "out.default.svc.cluster.local.",
            RecordType::CNAME,
            "No Error www.example.com.".into(),
        ),
        (
            "nothing.default.svc.cluster.local.",
            RecordType::A,
            "Non-Existent Domain ".into(),
        ),
        ("dns-version.cluster.local.", RecordType::TXT, "No Error 1.1.0".into()),
    ];
    let all = |cluster: &Cluster| {
        for (name, type_, expected) in &cluster_names {
            found(cluster, name, *type_, expected);
        }
    };
    all(&cluster);
    let [process] = cluster.processes("cluster-dns")[..] else {
        panic!("one process answers");
    };
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");

    cluster.crash();
    all(&cluster);
    cluster.up();
    assert_eq!(cluster.processes("cluster-dns"), [process], "it is adopted");
    kill(process, Signal::SIGKILL);
    all(&cluster);
    cluster.kubectl(&["delete", "service", "db"]).ok();
    found(
        &cluster,
        "db.default.svc.cluster.local.",
        RecordType::A,
        "Non-Existent Domain ",
    );

    assert!(cluster.stop());
    run(&mut cluster.wherry("down"), "").ok();
    assert_eq!(cluster.processes(""), Vec::<u32>::new(), "nothing is left");
    assert!(!cluster.data().join("cluster-dns").exists());
}

/// A name server that knows `www.example.com`, in the cluster's network, until the test ends.
fn upstream(cluster: &Cluster) {
    let socket = there(cluster, || UdpSocket::bind((UPSTREAM, 53)).expect("a free address"));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = Message::from_vec(&buffer[..length]).expect("a question");
            let mut reply = Message::response(request.metadata.id, OpCode::Query);
            reply.queries = request.queries.clone();
            let asked = &request.queries[0];
            if asked.name == Name::from_ascii("www.example.com.").expect("a name") {
                let address = RData::A(A::new(198, 51, 100, 7));
                reply.add_answer(Record::from_rdata(asked.name.clone(), 60, address));
            } else {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            let _ = socket.send_to(&reply.to_vec().expect("a message"), from);
        }
    });
}

fn asks_others_for_what_is_not_the_clusters(options: Options) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, format!("search lan\nnameserver {UPSTREAM}\n")).expect("a file");
    for path in [directory.path(), &file] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("our own file");
    }
    let cluster = deployed(Options {
        arguments: vec!["--resolv-conf".into(), file.display().to_string()],
        ..options
    });
    let (www, out) = ("www.example.com.", "out.default.svc.cluster.local.");
    // Nobody is there yet: told in time, and not for ever.
    found(&cluster, www, RecordType::A, "Server Failure ");
    upstream(&cluster);
    found(&cluster, www, RecordType::A, "No Error 198.51.100.7");
    found(&cluster, out, RecordType::A, "No Error 198.51.100.7,www.example.com.");
    found(&cluster, "no.example.com.", RecordType::A, "Non-Existent Domain ");
    assert_eq!(
        guest(&cluster, "www", "resolve, www.example.com", ""),
        "ok 198.51.100.7"
    );
    // A pod knows its own name without asking: one of another name asks.
    assert_eq!(guest(&cluster, "alias", "resolve, out", ""), "ok 198.51.100.7");
}

/// As most machines are: port 53 is closed to users.
#[test]
fn guests_find_services_where_port_53_is_closed() {
    need_root!();
    let cluster = deployed(Options {
        user: Some(User {
            id: 61_237,
            first_port: 1024,
        }),
        ..Options::default()
    });
    let rootless = r#"{.items[0].status.conditions[?(@.type=="Rootless")].message}"#;
    let message = field(&cluster, &["nodes"], rootless);
    assert!(message.contains("cluster DNS on port 53 neither"), "{message}");
    let hello = field(&cluster, &["service", "hello"], "{.spec.clusterIP}");
    assert_eq!(guest(&cluster, "short", "resolve, hello", ""), format!("ok {hello}"));
    let own: IpAddr = "127.32.0.1".parse().expect("an address");
    let told = asked(
        &cluster,
        SocketAddr::new(own, 10053),
        "hello.default.svc.cluster.local.",
        RecordType::A,
    );
    assert_eq!(told, Ok(format!("No Error {hello}")));
}
