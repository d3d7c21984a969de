//! Real etcd members on loopback, each killed when its test is done with it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use store_etcd::{
    Etcd, Options,
    proto::{StatusRequest, maintenance_client::MaintenanceClient},
};
use tempfile::TempDir;
use tonic::transport::Endpoint;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which etcd.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Whose word about progress is not believed.
    V3_4,
    V3_5,
}

impl Version {
    /// The program: from the environment as `make test` sets it, or where `scripts/etcd.sh` unpacks it.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let (variable, directory) = match self {
            Version::V3_4 => ("WHERRY_ETCD_3_4", "etcd-3.4"),
            Version::V3_5 => ("WHERRY_ETCD_3_5", "etcd-3.5"),
        };
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
        let unpacked = tools.join(directory).join("usr/bin/etcd");
        let given = std::env::var_os(variable).map(PathBuf::from);
        given.or_else(|| unpacked.exists().then_some(unpacked))
    }
}

/// The program, or an end of the test that is not overlooked.
macro_rules! need_etcd {
    ($version:expr) => {
        match $version.program() {
            Some(program) => program,
            None => {
                eprintln!(
                    "SKIPPED: {} needs {:?} of etcd; see scripts/etcd.sh",
                    module_path!(),
                    $version
                );
                return;
            }
        }
    };
}
pub(crate) use need_etcd;

/// A member that runs, or was killed and can be started again.
pub(crate) struct Member {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    pub(crate) client: String,
}

impl Member {
    pub(crate) fn start(&mut self) {
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// As a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Some members that form one cluster.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    _directory: TempDir,
}

impl Cluster {
    /// Starts members of `program` whose clients come by `scheme`; `more` arguments go to each.
    pub(crate) fn start(program: &Path, count: usize, scheme: &str, more: &[String]) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let free = free_ports(2 * count);
        let peer = |n: usize| format!("http://127.0.0.1:{}", free[2 * n + 1]);
        let all: Vec<String> = (0..count).map(|n| format!("m{n}={}", peer(n))).collect();
        let members = (0..count).map(|n| {
            let client = format!("{scheme}://127.0.0.1:{}", free[2 * n]);
            let flags = [
                ("--name", format!("m{n}")),
                (
                    "--data-dir",
                    directory.path().join(format!("m{n}")).display().to_string(),
                ),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peer(n)),
                ("--initial-advertise-peer-urls", peer(n)),
                ("--initial-cluster", all.join(",")),
                ("--heartbeat-interval", "50".into()),
                ("--election-timeout", "500".into()),
                ("--log-level", "error".into()),
            ];
            let mut member = Member {
                name: format!("m{n}"),
                program: program.to_owned(),
                arguments: flags
                    .into_iter()
                    .flat_map(|(flag, value)| [flag.to_owned(), value])
                    .chain(more.iter().cloned())
                    .collect(),
                child: None,
                client,
            };
            member.start();
            member
        });
        Cluster {
            members: members.collect(),
            _directory: directory,
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(self.members.iter().map(|member| member.client.clone()))
    }

    /// Connects once the members have found each other.
    pub(crate) async fn connect(&self) -> Etcd {
        self.connect_with(self.options()).await
    }

    pub(crate) async fn connect_with(&self, options: Options) -> Etcd {
        let started = Instant::now();
        loop {
            match Etcd::connect(options.clone()).await {
                Ok(etcd) => return etcd,
                Err(error) if started.elapsed() > PATIENCE => panic!("etcd does not answer: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The member that leads the others now.
    pub(crate) async fn leader(&self) -> usize {
        let started = Instant::now();
        loop {
            for (n, member) in self.members.iter().enumerate().filter(|(_, member)| member.runs()) {
                if leads(&member.client).await {
                    return n;
                }
            }
            assert!(started.elapsed() < PATIENCE, "nobody leads {:?}", self.names());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn names(&self) -> Vec<&str> {
        self.members.iter().map(|member| &*member.name).collect()
    }
}

async fn leads(uri: &str) -> bool {
    let Ok(channel) = Endpoint::from_shared(uri.to_owned()).unwrap().connect().await else {
        return false;
    };
    match MaintenanceClient::new(channel).status(StatusRequest {}).await {
        Ok(status) => {
            let status = status.into_inner();
            status.leader != 0 && status.leader == status.header.unwrap().member_id
        }
        Err(_) => false,
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}
