//! A Service under steady load while what is behind it changes: a rolling update, the death of the agent, the death of a
//! sandbox host.
//!
//! Requests are due at fixed times, whatever the answers take (`WHERRY_RATE` a second, 1,000 for a release build), over
//! connections that are kept for a while and then replaced. A client repeats a request on a new connection only where any
//! HTTP client does: when a kept connection was closed before the first byte of an answer.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use e2e::{Cluster, Options, kill, need_root, repository, until};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};

const SOON: Duration = Duration::from_secs(90);
/// Requests a second: what an unoptimised build answers on a busy machine.
const RATE: u32 = 200;
const CLIENTS: u32 = 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn rate() -> u32 {
    let text = std::env::var("WHERRY_RATE").ok();
    text.map_or(RATE, |text| text.parse().expect("WHERRY_RATE is a number"))
}

fn manifest(namespace: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {namespace}}}\nspec:\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec: \
         {{containers: [{{name: hello, image: 'hello:1', ports: [{{containerPort: 8080}}], readinessProbe: {{httpGet: \
         {{path: /healthz, port: 8080}}, periodSeconds: 1}}}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, \
         namespace: {namespace}}}\nspec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

fn deployed(namespaces: &[&str]) -> Cluster {
    let cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    for namespace in namespaces {
        cluster.kubectl(&["create", "namespace", namespace]).ok();
        cluster.apply(&manifest(namespace)).ok();
        rolled_out(&cluster, namespace);
    }
    cluster
}

fn rolled_out(cluster: &Cluster, namespace: &str) {
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "-n", namespace, "--timeout=90s"])
        .ok();
}

/// Steady load on a Service, until it is asked what came of it.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Begins, and returns when the first requests have been answered.
    fn on(cluster: &Cluster, namespace: &str) -> Self {
        let service = cluster.get(&["service", "web", "-n", namespace]);
        let address = service["spec"]["clusterIP"]
            .as_str()
            .expect("the Service has an address");
        until("the Service answers", SOON, || {
            let answer = cluster.curl(&format!("http://{address}/"));
            if answer.success { Ok(()) } else { Err(answer.stderr) }
        });
        let address = SocketAddr::new(address.parse().expect("an address"), 80);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let clients = (0..CLIENTS).map(|number| {
            let (stop, sent, network) = (stop.clone(), sent.clone(), cluster.network());
            thread::spawn(move || Client::enter(network, address).run(number, begun, &stop, &sent))
        });
        let load = Self {
            clients: clients.collect(),
            stop,
            sent,
        };
        load.go_on(u64::from(rate()));
        load
    }

    /// Waits until so many further requests have been answered or failed.
    fn go_on(&self, count: u64) {
        let until_sent = self.sent.load(Ordering::Relaxed) + count;
        until("the load goes on", SOON, || {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent >= until_sent {
                Ok(())
            } else {
                Err(sent.to_string())
            }
        });
    }

    /// Ends the load and gives what failed.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let failed: Vec<String> = self
            .clients
            .into_iter()
            .flat_map(|c| c.join().expect("a client ends"))
            .collect();
        println!(
            "{} requests, {} failed",
            self.sent.load(Ordering::Relaxed),
            failed.len()
        );
        failed
    }
}

/// A client with one connection at a time.
struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    /// How many requests the connection has carried.
    carried: u32,
}

impl Client {
    /// A client on this thread, which enters the cluster's network namespace.
    fn enter(network: PathBuf, address: SocketAddr) -> Self {
        let network = File::open(network).expect("the namespace is there");
        setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
        Self {
            address,
            connection: None,
            carried: 0,
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "requests are due at fixed times, whatever happens"
    )]
    fn run(mut self, number: u32, begun: Instant, stop: &AtomicBool, sent: &AtomicU64) -> Vec<String> {
        let pace = Duration::from_secs(1) * CLIENTS / rate();
        let mut due = begun + pace * number / CLIENTS;
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += pace;
            // Connections are of different ages, so that some end of themselves at any time.
            if self.carried > 5 + 7 * number {
                self.connection = None;
            }
            if let Err(error) = self.request() {
                failed.push(format!("client {number} after {:?}: {error}", begun.elapsed()));
            }
            sent.fetch_add(1, Ordering::Relaxed);
        }
        failed
    }

    fn request(&mut self) -> std::io::Result<()> {
        if self.connection.is_some() {
            match self.exchange() {
                Ok(()) => return Ok(()),
                Err(Failed { answered: false, .. }) => self.connection = None,
                Err(failed) => {
                    self.connection = None;
                    return Err(failed.error);
                }
            }
        }
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.connection = Some(BufReader::new(stream));
        self.carried = 0;
        let result = self.exchange().map_err(|failed| failed.error);
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// One request and its answer on the connection there is.
    fn exchange(&mut self) -> Result<(), Failed> {
        let Some(connection) = &mut self.connection else {
            return Err(Failed::from(std::io::Error::other("no connection")));
        };
        self.carried += 1;
        connection.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")?;
        let close = read_answer(connection)?;
        if close {
            self.connection = None;
        }
        Ok(())
    }
}

/// Why an exchange failed, and whether any of an answer had come.
struct Failed {
    error: std::io::Error,
    answered: bool,
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self { error, answered: false }
    }
}

/// Reads a whole answer; answers whether the connection is to be closed.
fn read_answer(connection: &mut BufReader<TcpStream>) -> Result<bool, Failed> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if line.is_empty() {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let rest = |connection: &mut BufReader<TcpStream>| -> std::io::Result<bool> {
        if !line.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(format!("answered {line:?}")));
        }
        let (mut length, mut chunked, mut close) = (None, false, false);
        loop {
            let mut header = String::new();
            connection.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            match header.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", value)) => length = value.parse::<usize>().ok(),
                Some(("transfer-encoding", "chunked")) => chunked = true,
                Some(("connection", "close")) => close = true,
                _ if header.is_empty() => break,
                _ => {}
            }
        }
        match length {
            Some(length) => connection.read_exact(&mut vec![0; length])?,
            None if chunked => read_chunks(connection)?,
            None => drop(connection.read_to_end(&mut Vec::new())?),
        }
        Ok(close)
    };
    rest(connection).map_err(|error| Failed { error, answered: true })
}

fn read_chunks(connection: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    loop {
        let mut size = String::new();
        connection.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
        connection.read_exact(&mut vec![0; size + 2])?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[test]
fn no_request_fails_while_pods_are_replaced() {
    need_root!();
    let cluster = deployed(&["one"]);
    let load = Load::on(&cluster, "one");
    cluster
        .kubectl(&["set", "env", "deployment/web", "-n", "one", "VERSION=2"])
        .ok();
    rolled_out(&cluster, "one");
    load.go_on(2 * u64::from(rate()));
    assert_eq!(load.end(), Vec::<String>::new());
}

#[test]
fn no_request_fails_while_the_agent_is_killed_and_started_again() {
    need_root!();
    let mut cluster = deployed(&["one"]);
    let load = Load::on(&cluster, "one");
    cluster.crash();
    load.go_on(u64::from(rate()));
    cluster.up();
    load.go_on(2 * u64::from(rate()));
    assert_eq!(load.end(), Vec::<String>::new());
}

#[test]
fn a_killed_sandbox_host_fails_its_own_requests_and_comes_back() {
    need_root!();
    let cluster = deployed(&["one", "two"]);
    let (own, other) = (Load::on(&cluster, "one"), Load::on(&cluster, "two"));
    let command = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let hosts = cluster.processes("sandbox-host");
    let victim = hosts
        .iter()
        .find(|pid| command(pid).contains("one"))
        .expect("the host names its tenant");
    kill(*victim, Signal::SIGKILL);
    until("the pods are back", SOON, || {
        let pods = cluster.get(&["pods", "-n", "one"]);
        let statuses = pods["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|pod| &pod["status"]["containerStatuses"][0]);
        let back = statuses
            .filter(|status| status["ready"] == true && status["restartCount"] == 1)
            .count();
        if back == 3 { Ok(()) } else { Err(pods.to_string()) }
    });
    assert_eq!(other.end(), Vec::<String>::new());
    drop(own.end());
    let again = Load::on(&cluster, "one");
    again.go_on(u64::from(rate()));
    assert_eq!(again.end(), Vec::<String>::new());
}
