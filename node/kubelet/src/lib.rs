//! The node agent's heart: runs the pods that are bound to this node and reports on them and on the node.
//!
//! It meets the cluster only through the API and the containers only through [`cri::Runtime`]. Each pod's life is
//! decided in one pure function, [`plan`]; a worker per pod carries it out ([`worker`]). While the API is away pods keep
//! running as they were; when the agent ends they keep running too, and the next one adopts them by the runtime's
//! records.

mod admit;
mod blocking;
mod certificates;
mod cgroups;
mod cluster;
mod csi;
mod dns;
mod env;
mod events;
mod eviction;
mod history;
mod hosts;
mod images;
mod lastwords;
mod logs;
mod make;
mod metered;
mod mounts;
mod node;
mod objects;
mod observed;
mod observer;
mod orphan;
mod plan;
mod pod;
mod pods;
mod probes;
mod processes;
mod resize;
mod resources;
mod server;
mod shared;
mod static_pods;
mod status;
mod user_namespaces;
mod volumes;
mod worker;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{collections::BTreeMap, io, net::IpAddr, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use client::{Client, Clock, Informers, Scope, events::Recorder, kinds};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use dns::Dns;
pub use images::{ImageGc, ImageGcError};
pub use node::{EvictionHard, Reserved, ReservedError, ThresholdError, Thresholds};

use crate::{
    cgroups::Cgroups,
    cluster::Cluster,
    node::{Node, Reporter},
    observer::Observer,
    resources::Capacity,
    shared::Shared,
    status::NodeFacts,
};

/// Everything a kubelet is told.
pub struct Config {
    /// The API, as this node's identity.
    pub client: Client,
    pub informers: Informers,
    pub runtime: Arc<dyn cri::Runtime>,
    pub clock: Clock,
    pub node_name: String,
    /// The node's addresses, primary first.
    pub node_ips: Vec<IpAddr>,
    /// Labels beside those that every node carries.
    pub labels: BTreeMap<String, String>,
    /// How many pods fit on the node.
    pub max_pods: u32,
    /// What of the machine is kept from pods.
    pub reserved: Reserved,
    /// When pods and images go for the node's sake.
    pub thresholds: Thresholds,
    /// `status.nodeInfo.kubeletVersion`, `v1.36.0+wherry`.
    pub version: String,
    /// Holds `pods/`, `logs/` and what the kubelet remembers of its cluster.
    pub data_dir: PathBuf,
    /// Where storage drivers find this kubelet: holds `plugins_registry/`, `plugins/` and the volumes that drivers mount for
    /// pods. Others' kubelets have `/var/lib/kubelet`.
    pub drivers_dir: PathBuf,
    pub dns: Dns,
    /// What else of this node `/metrics` tells.
    pub metrics: Vec<Arc<dyn Metrics>>,
    /// Files of pods that run on this node whatever the API says.
    pub static_pods: Option<PathBuf>,
    /// The cgroup below which pods of Linux containers get theirs, so that several clusters share a machine; without, the
    /// runtime chooses.
    pub cgroup_prefix: Option<String>,
    /// Prepared for the node's pod range before the runtime is told of it.
    pub network: Arc<dyn PodNetwork>,
    /// Where the kubelet API listens; its port stands in the Node's status.
    pub api_listener: std::net::TcpListener,
    pub api_tls: Tls,
    /// Whether this node asks the cluster for certificates of its own, and for new ones in time.
    pub rotate_certificates: bool,
    /// What this node cannot do for want of privileges, if anything.
    pub limitation: Option<Limitation>,
    /// Becomes true when the API has been told that the node is Ready.
    pub ready: watch::Sender<bool>,
    /// Where all tasks are spawned.
    pub tasks: TaskTracker,
}

/// The condition of a node that runs without privileges.
pub const ROOTLESS: &str = "Rootless";
/// The condition of a node that can run no OCI containers.
pub const CONTAINERS_UNAVAILABLE: &str = "ContainersUnavailable";

/// Why a node cannot do everything: told by a condition of it, and by an event when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limitation {
    /// [`ROOTLESS`] or [`CONTAINERS_UNAVAILABLE`].
    pub condition: &'static str,
    /// One word, in CamelCase.
    pub reason: &'static str,
    /// What is off, and what would turn it on.
    pub message: String,
}

/// The node's part of the pod network.
#[async_trait]
pub trait PodNetwork: Send + Sync {
    /// Makes the network be as it should for the node's pod range (CIDR); called again after a failure and at every
    /// start.
    async fn ensure(&self, range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// A part of the node beside the kubelet, which has metrics.
#[async_trait]
pub trait Metrics: Send + Sync {
    /// In Prometheus' text format; empty while there is nothing to tell.
    async fn text(&self) -> String;
}

/// Identity of the kubelet API, and whom it lets in.
pub struct Tls {
    /// DER, the kubelet's own first.
    pub certificates: Vec<rustls_pki_types::CertificateDer<'static>>,
    pub key: rustls_pki_types::PrivateKeyDer<'static>,
    /// Certificate authorities (DER) of clients.
    pub client_authorities: Vec<rustls_pki_types::CertificateDer<'static>>,
    /// Common names that may call beside the group `system:masters`: that of the API server's client certificate.
    pub allowed_names: Vec<String>,
}

/// Why a kubelet cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data directory {path:?}")]
    DataDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot serve the kubelet API")]
    Listen(#[source] io::Error),
    #[error("cannot use the kubelet API's certificate")]
    Tls(#[source] rustls::Error),
    #[error("cannot use the certificate authorities of the kubelet API's clients")]
    ClientAuthorities(#[source] rustls::server::VerifierBuilderError),
}

/// Runs a kubelet until `shutdown`; pods keep running after it.
///
/// # Errors
/// The data directory, the listener or the certificates cannot be used. Later failures are retried and logged.
pub async fn run(mut config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    config.client = config.client.named("kubelet");
    let (runtime, operations) = metered::metered(config.runtime);
    config.runtime = runtime;
    config.metrics.push(operations);
    let data_dir = |source| Error::DataDir {
        path: config.data_dir.clone(),
        source,
    };
    let cluster = Cluster::open(&config.data_dir).map_err(data_dir)?;
    for directory in ["pods", "logs/pods"] {
        std::fs::create_dir_all(config.data_dir.join(directory)).map_err(data_dir)?;
    }
    let port = config.api_listener.local_addr().map_err(Error::Listen)?.port();
    let machine = node::machine(&config.data_dir);
    let capacity = Capacity {
        cpu_milli: machine.cpus.saturating_mul(1000),
        memory_bytes: machine.memory_bytes,
        storage_bytes: machine.storage_bytes,
        pods: i64::from(config.max_pods),
    };
    let recorder = Recorder::new(
        config.client.clone(),
        "kubelet",
        &config.node_name,
        config.clock.clone(),
        &config.tasks,
        shutdown.clone(),
    );
    let features = config.runtime.features().await;
    let cgroups = config.cgroup_prefix.map(|prefix| Cgroups {
        mount: PathBuf::from(cgroups::MOUNT),
        prefix,
        // An older runtime does not say how it keeps them; paths are what it does unless it is told otherwise.
        driver: features.cgroup_driver.unwrap_or(cri::CgroupDriver::Cgroupfs),
        pod_pids: cgroups::pod_pids(node::most_processes()),
        together: config.reserved.limits(capacity),
    });
    let (observer, changes) = Observer::new(config.runtime.clone());
    let (network_stands, network) = watch::channel(false);
    let strain = Arc::new(node::Strain::new(config.thresholds.transition));
    let (found, statics) = watch::channel(static_pods::StaticPods::default());
    let shared = Arc::new(Shared {
        client: config.client.clone(),
        informers: config.informers.clone(),
        runtime: config.runtime.clone(),
        observer: observer.clone(),
        recorder: recorder.clone(),
        clock: config.clock.clone(),
        pods: config.informers.get(
            &kinds::POD,
            Scope::Fields(format!("spec.nodeName={}", config.node_name)),
        ),
        statics: statics.clone(),
        services: config.informers.get(&kinds::SERVICE, Scope::All),
        classes: config.informers.get(&kinds::RUNTIME_CLASS, Scope::All),
        warm: objects::Warm::default(),
        node_name: config.node_name.clone(),
        data_dir: config.data_dir.clone(),
        node: NodeFacts {
            host_ips: config.node_ips.clone(),
            runtime: config.runtime.version().name,
            platform: make::Platform {
                apparmor: node::has_apparmor(),
                memory_bytes: machine.memory_bytes,
                recursive_readonly: features
                    .handlers
                    .iter()
                    .any(|h| h.name.is_empty() && h.recursive_readonly_mounts),
                strict_groups: features.supplemental_groups_policy,
                user_namespaces: features.handlers.iter().any(|h| h.name.is_empty() && h.user_namespaces),
            },
        },
        network,
        capacity: node::allocatable(capacity, &machine, config.reserved, &config.thresholds.eviction_hard),
        dns: config.dns,
        metrics: config.metrics,
        cgroups,
        csi: csi::Csi::new(config.drivers_dir.clone()),
        thresholds: config.thresholds.clone(),
        strain: strain.clone(),
        evictions: eviction::Evictions::default(),
        images: images::Images::default(),
        probes: probes::Tally::default(),
        users: user_namespaces::UserNamespaces::default(),
        history: Default::default(),
    });
    let own = certificates::Node {
        name: config.node_name.clone(),
        addresses: config.node_ips.clone(),
        authorities: config.api_tls.client_authorities.clone(),
        data_dir: config.data_dir.clone(),
    };
    let told = server::Told {
        static_pods: config.static_pods.clone(),
        rotates: config.rotate_certificates,
    };
    let server = server::Server::new(shared.clone(), config.api_listener, config.api_tls, told)?;
    let certificates = config.rotate_certificates.then(|| {
        let resolver = server.certificate();
        if let Some(kept) = own.kept(certificates::Purpose::Serving) {
            resolver.replace(&kept);
        }
        certificates::tasks(&own, &config.client, &config.clock, resolver, &shutdown)
    });
    let at = api::NamespacedName::cluster(&config.node_name);
    let reporter = Reporter {
        client: config.client,
        runtime: config.runtime,
        recorder,
        clock: config.clock,
        node: config.informers.get::<Node>(&kinds::NODE, Scope::Object(at)),
        name: config.node_name,
        addresses: config.node_ips,
        port,
        version: config.version,
        labels: config.labels,
        data_dir: config.data_dir,
        drivers_dir: config.drivers_dir,
        machine,
        capacity,
        reserved: config.reserved,
        eviction_hard: config.thresholds.eviction_hard,
        strain,
        network: config.network,
        network_stands,
        limitation: config.limitation,
        ready: config.ready,
    };
    let (tasks, quit) = (&config.tasks, &shutdown);
    let parts = [
        tasks.spawn(observer.clone().run(quit.clone())),
        tasks.spawn(reporter.run(quit.clone())),
        tasks.spawn(server.run(tasks.clone(), quit.clone())),
        tasks.spawn(logs::rotate(shared.clone(), quit.clone())),
        tasks.spawn(images::collect(shared.clone(), quit.clone())),
        tasks.spawn(eviction::run(shared.clone(), quit.clone())),
        tasks.spawn(processes::run(shared.clone(), quit.clone())),
        tasks.spawn(history::run(shared.clone(), quit.clone())),
        tasks.spawn(csi::run(shared.clone(), quit.clone())),
        tasks.spawn(csi::control(shared.clone(), quit.clone())),
    ];
    observer.fresh_or(quit).await;
    let files = config.static_pods.map(|directory| {
        let follow = static_pods::run(shared.clone(), directory, found, quit.clone());
        tasks.spawn(follow)
    });
    let certificates = certificates.into_iter().flatten().map(|keeping| tasks.spawn(keeping));
    let certificates: Vec<_> = certificates.collect();
    let pods = tasks.spawn(pods::run(
        shared,
        cluster,
        changes,
        statics,
        tasks.clone(),
        quit.clone(),
    ));
    for part in parts.into_iter().chain(files).chain(certificates).chain([pods]) {
        if let Err(ended) = part.await {
            tracing::error!(error = &ended as &dyn std::error::Error, "a part of the kubelet ended");
        }
    }
    Ok(())
}

/// Removes the cgroups that pods had below this prefix, when all pods have ended.
pub fn remove_cgroups(prefix: &str) {
    cgroups::remove_all(std::path::Path::new(cgroups::MOUNT), prefix);
}

/// Removes the directories and mounts of all pods, when all pods have ended, and with them the drivers that ran as such. What
/// cannot be removed is left to the next kubelet, which sweeps up what belongs to no pod.
pub fn remove_pod_directories(data_dir: &std::path::Path, drivers_dir: &std::path::Path) {
    if let Err(error) = csi::detach_all(drivers_dir) {
        tracing::warn!(%error, "cannot unmount the volumes of storage drivers");
    }
    for uid in orphan::directories(data_dir) {
        if let Err(error) = volumes::remove(data_dir, &uid) {
            tracing::warn!(%uid, %error, "cannot remove the directories of a pod");
        }
    }
}

#[cfg(test)]
mod tests;
