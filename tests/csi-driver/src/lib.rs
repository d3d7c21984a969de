//! A storage driver for tests, with the manners of csi-driver-host-path: a volume is a directory, staged and published by
//! bind mounts. It listens on real sockets, where a kubelet looks for drivers; it can be told to fail or to be silent, and
//! remembers what it was asked. Mounting needs root.

mod controller;
mod node;
mod registrar;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use csi::{
    registration::registration_server::RegistrationServer,
    v1::{
        NodePublishVolumeRequest, NodeStageVolumeRequest, controller_server::ControllerServer,
        identity_server::IdentityServer, node_server::NodeServer,
    },
};
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Status, transport::Server};

/// What the driver is like.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    /// Volumes are staged on the node first.
    pub stages: bool,
    /// Volumes are attached to nodes first, and staging wants to hear of it.
    pub attaches: bool,
    /// Volumes grow, and the node has to do its part.
    pub expands: bool,
    /// It gives volumes to pods' groups itself.
    pub takes_groups: bool,
    /// From where volumes can be reached; empty: from everywhere.
    pub topology: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "hostpath.test.wherry.dev".into(),
            stages: true,
            attaches: false,
            expands: false,
            takes_groups: false,
            topology: BTreeMap::new(),
        }
    }
}

/// What was asked of the driver, and how it is to answer.
#[derive(Debug, Default)]
pub struct State {
    /// Calls in order, `NodePublishVolume v1`.
    pub calls: Vec<String>,
    /// The last request for each volume.
    pub published: BTreeMap<String, NodePublishVolumeRequest>,
    pub staged: BTreeMap<String, NodeStageVolumeRequest>,
    /// How large volumes are that have grown: as the controller was told, and as the node was.
    pub sizes: BTreeMap<String, (i64, i64)>,
    /// Nodes that volumes are attached to.
    pub attached: BTreeMap<String, String>,
    /// What the kubelet said of the registration, last.
    pub registered: Option<Result<(), String>>,
    failures: BTreeMap<String, (Code, String)>,
    silent: BTreeSet<String>,
}

/// A driver that may run. Its volumes are directories below one of its own, and outlive it.
#[derive(Clone)]
pub struct Driver {
    pub(crate) options: Arc<Options>,
    volumes: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Driver {
    /// A driver whose volumes are below this directory.
    pub fn new(directory: &Path, options: Options) -> Self {
        let volumes = directory.join("volumes");
        fs::create_dir_all(&volumes).expect("a directory");
        Self {
            options: Arc::new(options),
            volumes,
            state: Arc::default(),
        }
    }

    /// Listens where the kubelet with this directory looks; until the answer is dropped, which is as if it were killed.
    pub fn start(&self, kubelet: &Path) -> Running {
        let plugin = kubelet.join("plugins").join(&self.options.name);
        let registry = kubelet.join("plugins_registry");
        fs::create_dir_all(&plugin).expect("a directory");
        fs::create_dir_all(&registry).expect("a directory");
        let socket = plugin.join("csi.sock");
        let registrar = registry.join(format!("{}-reg.sock", self.options.name));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let serving = Server::builder()
            .add_service(IdentityServer::new(self.clone()))
            .add_service(ControllerServer::new(self.clone()))
            .add_service(NodeServer::new(self.clone()))
            .serve_with_incoming(UnixListenerStream::new(listen(&socket)));
        runtime.spawn(serving);
        let known = registrar::Registrar {
            driver: self.clone(),
            endpoint: socket.display().to_string(),
        };
        let registering = Server::builder()
            .add_service(RegistrationServer::new(known))
            .serve_with_incoming(UnixListenerStream::new(listen(&registrar)));
        runtime.spawn(registering);
        drop(entered);
        Running {
            runtime: Some(runtime),
            sockets: vec![socket, registrar],
        }
    }

    /// What it was asked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Answers calls of this method with an error, until `None`.
    pub fn fail(&self, method: &str, failure: Option<(Code, &str)>) {
        let mut state = self.state();
        match failure {
            Some((code, why)) => state.failures.insert(method.to_owned(), (code, why.to_owned())),
            None => state.failures.remove(method),
        };
    }

    /// Never answers calls of this method.
    pub fn silence(&self, method: &str) {
        self.state().silent.insert(method.to_owned());
    }

    /// How often a method was called for a volume.
    pub fn calls(&self, call: &str) -> usize {
        self.state().calls.iter().filter(|made| *made == call).count()
    }

    /// The directory that a volume is.
    pub fn volume(&self, id: &str) -> PathBuf {
        self.volumes.join(id)
    }

    /// Makes a volume, as an administrator would.
    pub fn make(&self, id: &str) -> PathBuf {
        let path = self.volume(id);
        fs::create_dir_all(&path).expect("a directory");
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        fs::set_permissions(&path, open).expect("its owner sets its mode");
        path
    }

    /// The volumes that there are.
    pub fn volumes(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.volumes).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Notes a call, and fails it if it is to fail.
    pub(crate) async fn called(&self, method: &str, volume: &str) -> Result<(), Status> {
        let (failure, silent) = {
            let mut state = self.state();
            state.calls.push(format!("{method} {volume}").trim_end().to_owned());
            (state.failures.get(method).cloned(), state.silent.contains(method))
        };
        if silent {
            std::future::pending::<()>().await;
        }
        match failure {
            Some((code, why)) => Err(Status::new(code, why)),
            None => Ok(()),
        }
    }
}

/// A driver that listens.
pub struct Running {
    runtime: Option<Runtime>,
    sockets: Vec<PathBuf>,
}

impl Running {
    /// Ends it in order: its sockets go.
    pub fn stop(self) {
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn listen(socket: &Path) -> UnixListener {
    let _ = fs::remove_file(socket); // what one that was killed has left
    UnixListener::bind(socket).expect("a socket")
}
