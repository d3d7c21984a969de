//! Cluster DNS on this node: what CoreDNS with its `kubernetes` plugin is in Kubernetes.
//!
//! A snapshot loop over Services, EndpointSlices and namespaces. `model` makes of them what can be asked for by name; a
//! process that outlives the agent (`wherry cluster-dns`: `process`, `server`) is told of what changes and answers: out of
//! the cluster's `zone`, or, for names of others, by `forward` from the node's own name servers. While the API server or the
//! agent is away it goes on answering from what it knows.
//!
//! It listens on the node's own address in the pod network, at [`api::cluster_dns::PORT`]. The Service
//! `kube-system/kube-dns` leads the cluster DNS address there, each node's pods to their own node. Deliberately absent:
//! zone transfers, dynamic updates, DNSSEC of our own, and any configuration of what is answered.

mod cache;
mod counts;
mod forward;
mod holder;
mod launch;
mod model;
mod objects;
mod process;
mod protocol;
mod respond;
mod server;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::events::{ObjectRef, Recorder, Type};
use client::{Informer, Informers, MetaObject, Scope, kinds, snapshot};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use counts::Metrics;
pub use holder::Error;
use holder::{Holder, World, end_all};
pub use launch::Process;
use objects::{EndpointSlice, Service};
pub use process::main as process_main;
use protocol::Settings;

/// How often everything is looked at without a reason.
const PERIOD: Duration = Duration::from_secs(30);

/// What cluster DNS of a node is told.
pub struct Config {
    /// Where Services, EndpointSlices and namespaces come from.
    pub informers: Informers,
    /// Tells users when names cannot be answered.
    pub recorder: Recorder,
    pub node_name: String,
    /// `cluster.local`
    pub domain: String,
    /// Where it listens: the node's own address in the pod network.
    pub listen: SocketAddr,
    /// The cluster DNS address, which is never asked itself.
    pub service: IpAddr,
    /// The node's own name servers, as they are now.
    pub upstreams: Box<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
}

/// Cluster DNS, before and while it runs.
#[derive(Clone)]
pub struct Dns(Arc<Mutex<Holder>>);

impl Dns {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// The kernel does not say which network namespace this is.
    pub fn new(process: Process) -> std::io::Result<Self> {
        Holder::new(process, Box::new(launch::spawn)).map(|holder| Self(Arc::new(Mutex::new(holder))))
    }

    /// What it has done, if it runs.
    pub async fn metrics(&self) -> Option<Metrics> {
        self.0.lock().await.count().await
    }

    /// Keeps names answered as the API has them until `shutdown`. The process stays; see [`end_processes`].
    pub async fn run(self, config: Config, shutdown: CancellationToken) {
        let services = config.informers.get::<Service>(&kinds::SERVICE, Scope::All);
        let slices = config
            .informers
            .get::<EndpointSlice>(&kinds::ENDPOINT_SLICE, Scope::All);
        let namespaces = config.informers.get_metadata(&kinds::NAMESPACE, Scope::All);
        let lost = self.0.lock().await.lost();
        let triggers = vec![services.version(), slices.version(), namespaces.version(), lost];
        let follow = async {
            services.synced().await;
            slices.synced().await;
            namespaces.synced().await;
            let told = parking_lot::Mutex::new(None);
            snapshot::run("cluster-dns", PERIOD, triggers, async || {
                let world = current(&config, &services, &slices, &namespaces);
                let synced = self.0.lock().await.sync(world).await;
                tell(&config, &mut told.lock(), synced.as_ref().err());
                synced
            })
            .await
        };
        shutdown.run_until_cancelled(follow).await;
    }
}

/// Ends the processes that [`Dns::run`] has left answering; `directory` is that of [`Process`].
///
/// # Errors
/// One of them cannot be ended.
pub async fn end_processes(directory: &Path) -> Result<(), Error> {
    end_all(directory)
        .await
        .map_err(|source| Error::Talk { doing: "end", source })
}

fn current(
    config: &Config,
    services: &Informer<Service>,
    slices: &Informer<EndpointSlice>,
    namespaces: &Informer<MetaObject>,
) -> World {
    let (services, slices) = (services.list(), slices.list());
    let mut names: Vec<Box<str>> = namespaces
        .list()
        .iter()
        .map(|(_, namespace)| namespace.metadata.name.clone())
        .collect();
    names.sort_unstable();
    World {
        settings: Settings {
            domain: config.domain.clone(),
            listen: config.listen,
            upstreams: others((config.upstreams)(), [config.service, config.listen.ip()]),
        },
        namespaces: names,
        entries: model::build(
            services.iter().map(|(_, service)| &**service),
            slices.iter().map(|(_, slice)| &**slice),
        ),
    }
}

/// Where to ask: not ourselves, and nobody twice.
fn others(upstreams: Vec<IpAddr>, ourselves: [IpAddr; 2]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for server in upstreams {
        let at = SocketAddr::new(server, 53);
        if !ourselves.contains(&server) && !found.contains(&at) {
            found.push(at);
        }
    }
    found
}

/// An event on the node when names cannot be answered, once for each reason.
fn tell(config: &Config, told: &mut Option<String>, error: Option<&Error>) {
    let now = error
        .filter(|error| matches!(error, Error::Listen { .. }))
        .map(ToString::to_string);
    if let Some(note) = now.as_ref().filter(|_| now != *told) {
        // As the kubelet names a node: by its name in place of its UID.
        let node = ObjectRef {
            kind: "Node".into(),
            name: config.node_name.clone(),
            uid: config.node_name.clone(),
            api_version: "v1".into(),
            ..ObjectRef::default()
        };
        config
            .recorder
            .event(&node, Type::Warning, "FailedListen", "Listen", note.clone());
    }
    *told = now;
}

#[cfg(test)]
mod tests;
