//! A node, the namespace of its Wasm pods, and a machine beyond: network namespaces of a test, with servers in them.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use crate::model::{Model, Policy, Port, PortId, Protocol};
use crate::nftables::Table;
use crate::rules::{Addresses, Family, Place, ruleset};
use crate::ruleset::TableName;

pub(crate) const VIP: &str = "10.96.0.9:80";
pub(crate) const NODE: &str = "192.0.2.1";
pub(crate) const BEYOND: &str = "192.0.2.2";
/// On the node's end of the pods' link.
pub(crate) const GATEWAY: &str = "10.128.0.1";

/// Whether the tests that need it can run.
pub(crate) fn can_run() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    let has = |program| std::process::Command::new(program).arg("-V").output().is_ok();
    let can = is_root && has("nft") && has("ip");
    if !can {
        eprintln!("SKIPPED: making network namespaces needs root, nft and ip");
    }
    can
}

/// A network namespace that lasts as long as this.
pub(crate) struct Net(File);

impl Net {
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let net = Net(made.join().unwrap());
        net.ip("link set lo up");
        net
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    pub(crate) fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            entered.join().unwrap()
        })
    }

    pub(crate) fn ip(&self, arguments: &str) {
        let output = self.run(|| {
            std::process::Command::new("ip")
                .args(arguments.split(' '))
                .output()
                .unwrap()
        });
        assert!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Connects from `from`, and returns what the other end says: its name and whom it sees.
    pub(crate) fn ask(&self, from: Option<&str>, to: &str) -> io::Result<String> {
        let from: Option<IpAddr> = from.map(|from| from.parse().unwrap());
        let to: SocketAddr = to.parse().unwrap();
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let asked = async {
                let socket = TcpSocket::new_v4()?;
                if let Some(from) = from {
                    socket.bind((from, 0).into())?;
                }
                let mut said = String::new();
                socket.connect(to).await?.read_to_string(&mut said).await?;
                Ok(said)
            };
            runtime.block_on(async {
                let timed = tokio::time::timeout(Duration::from_secs(2), asked).await;
                timed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            })
        })
    }

    /// Answers every connection with `name` and the address it comes from.
    pub(crate) fn serve(&self, name: &'static str, at: &str) {
        let listener = self.run(|| TcpListener::bind(at).unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = write!(stream, "{name} {}", peer.ip());
            }
        });
    }
}

/// Lets this thread, and those it starts, enter a namespace for good.
pub(crate) fn enter(namespace: &std::path::Path) {
    setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

/// A node with its pods, and a machine beyond it.
pub(crate) struct World {
    pub(crate) node: Net,
    pub(crate) pods: Net,
    pub(crate) beyond: Net,
    pub(crate) tables: Vec<(Place, Table)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (node, pods, beyond) = (Net::new(), Net::new(), Net::new());
        node.ip(&format!(
            "link add hv type veth peer name pv netns {}",
            pods.path().display()
        ));
        node.ip(&format!(
            "link add hc type veth peer name cv netns {}",
            beyond.path().display()
        ));
        for command in [
            "addr add 10.128.0.1/32 dev hv",
            "link set hv up",
            "addr add 192.0.2.1/24 dev hc",
            "link set hc up",
            "route add 10.128.0.0/18 via 169.254.7.2 dev hv onlink src 10.128.0.1",
            "route add 10.96.0.0/16 via 169.254.7.2 dev hv onlink",
        ] {
            node.ip(command);
        }
        for command in [
            "addr add 169.254.7.2/32 dev pv",
            "link set pv up",
            "route add 10.128.0.1 dev pv table local",
            "route add local 10.128.0.0/18 dev lo",
            "route add default via 10.128.0.1 dev pv onlink",
        ] {
            pods.ip(command);
        }
        for command in [
            "addr add 192.0.2.2/24 dev cv",
            "link set cv up",
            "route add default via 192.0.2.1",
        ] {
            beyond.ip(command);
        }
        node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let table = |net: &Net| Table::new(TableName("ip wherry-test-services".into()), Some(net.path()));
        let tables = vec![(Place::Node, table(&node)), (Place::Pods, table(&pods))];
        World {
            node,
            pods,
            beyond,
            tables,
        }
    }

    pub(crate) async fn apply(&mut self, ports: impl IntoIterator<Item = Port>) {
        let model: Model = ports.into_iter().map(|port| (port.id.clone(), port)).collect();
        for (place, table) in &mut self.tables {
            table
                .apply(ruleset(&model, &addresses(), Family::V4, *place))
                .await
                .unwrap();
        }
    }
}

pub(crate) fn addresses() -> Addresses {
    Addresses {
        services: vec!["10.96.0.0/16".parse().unwrap()],
        pods: vec!["10.128.0.0/17".parse().unwrap()],
        node: vec![NODE.parse().unwrap()],
    }
}

pub(crate) fn web(endpoints: &[&str]) -> Port {
    let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap());
    Port {
        id: PortId {
            namespace: "default".into(),
            name: "web".into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        },
        port: 80,
        cluster_ips: vec!["10.96.0.9".parse().unwrap()],
        external_ips: Vec::new(),
        node_port: Some(30080),
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        local: endpoints.clone().collect(),
        endpoints: endpoints.collect(),
    }
}

pub(crate) const A: &str = "10.128.1.2:8080";
pub(crate) const B: &str = "10.128.1.3:8080";
