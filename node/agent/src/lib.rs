//! The node agent: composes pod network, kubelet and Service proxy into a node, over a container runtime it is given.
//!
//! It reads no files of its own: names, addresses, identity, certificates and the runtime come in [`Config`], from the
//! binary; only the machine's `resolv.conf` it reads, for pods and names that are no cluster's. Ending it leaves the node's pods running; [`down()`] ends them too.

mod down;
mod names;
mod network;
mod socket;

use std::{collections::BTreeMap, io, net::IpAddr, path::PathBuf, sync::Arc};

use client::{Client, Clock, Informers, events::Recorder};
use ipnet::Ipv4Net;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use crate::network::ensure_network;
pub use ::dns::{Process as ClusterDns, process_main as cluster_dns};
pub use ::network::{Conflist, conflist, container_network_name, gateway, link_name, netns_path};
pub use ::proxy::{Claim, ClaimError, Held, Process as ServiceProxy, process_main as service_proxy};
pub use api::cluster_dns::PORT as DNS_PORT;
pub use down::{Leftovers, down, remove_cgroups};
pub use kubelet::{CONTAINERS_UNAVAILABLE, EvictionHard, ImageGc, Limitation, ROOTLESS, Reserved, Thresholds, Tls};

use crate::network::{NoNetwork, SharedNetwork};

/// Everything a node is told.
pub struct Config {
    /// Holds everything of this node; 0700.
    pub data_dir: PathBuf,
    /// Where storage drivers find this node's kubelet; the data directory unless told otherwise.
    pub drivers_dir: PathBuf,
    /// The API, as this node's identity.
    pub client: Client,
    pub clock: Clock,
    pub node_name: String,
    /// The node's addresses, primary first.
    pub node_ips: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    /// How many pods fit on the node.
    pub max_pods: u32,
    /// What of the machine is kept from pods.
    pub reserved: Reserved,
    /// When pods and images go for the node's sake.
    pub thresholds: Thresholds,
    /// Files of pods that run on this node whatever the API says.
    pub static_pods: Option<PathBuf>,
    /// `v1.36.0+wherry`.
    pub version: String,
    pub dns: Dns,
    /// The pod network; `None` without root: pods and Services then live on the machine's loopback addresses.
    pub network: Option<PodNetwork>,
    /// What listens for Services where the kernel does not.
    pub service_proxy: ServiceProxy,
    /// What this node cannot do for want of privileges, if anything.
    pub limitation: Option<Limitation>,
    /// What runs the pods; it has adopted those that run already.
    pub runtime: cri::SharedRuntime,
    /// Ports of the node that lead to pods and that the runtime does not lead there itself, by the sandbox.
    pub host_ports: watch::Receiver<BTreeMap<cri::SandboxId, cri::HostPorts>>,
    /// Where the kubelet API listens, 10250 by default.
    pub api_listener: std::net::TcpListener,
    pub api_tls: Tls,
    /// Becomes true when the API has been told that the node is Ready.
    pub ready: watch::Sender<bool>,
    /// Where all tasks are spawned.
    pub tasks: TaskTracker,
}

/// Names and ranges of the cluster's network on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// Tells clusters of one machine apart; at most 8 of `[a-z0-9]`.
    pub cluster_id: String,
    /// All nodes' pods.
    pub cluster_range: Ipv4Net,
    pub service_range: Ipv4Net,
}

/// Who answers for names, on this node and beyond.
#[derive(Clone, Debug)]
pub struct Dns {
    /// The address of the cluster's name service; without one, pods ask those of the node.
    pub server: Option<IpAddr>,
    /// `cluster.local`
    pub domain: String,
    /// The node's own resolver configuration.
    pub resolv_conf: PathBuf,
    /// What answers for the cluster's names.
    pub process: ClusterDns,
}

/// The address of the cluster's name service in a Service range, if it is large enough.
pub fn dns_address(services: Ipv4Net) -> Option<IpAddr> {
    api::cluster_dns::address(services.network(), services.prefix_len()).map(IpAddr::V4)
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop; its pods keep running.
    Stopped,
    /// It was asked over its socket to end the pods as well.
    Down,
}

/// Why a node cannot start, or be taken down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {path:?}")]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the kubelet")]
    Kubelet(#[source] kubelet::Error),
    #[error("cannot end the node's pods")]
    EndPods(#[source] cri::Error),
    #[error("cannot make the pod network")]
    Network(#[source] ::network::Error),
    #[error("cannot remove the pod network")]
    RemoveNetwork(#[source] ::network::Error),
    #[error("cannot remove what serves Services")]
    RemoveServices(#[source] ::proxy::Error),
    #[error("cannot prepare cluster DNS")]
    ClusterDns(#[source] io::Error),
    #[error("cannot end cluster DNS")]
    EndClusterDns(#[source] ::dns::Error),
}

/// Runs a node until `shutdown`, or until it is asked over `agent.sock` to end its pods.
///
/// # Errors
/// A part cannot start. What fails later is retried and logged.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<Ended, Error> {
    let quit = shutdown.child_token();
    let _quit_with_us = quit.clone().drop_guard();
    let (down, mut asked_down) = mpsc::channel(1);
    let socket = socket::Socket {
        runtime: config.runtime.clone(),
        data_dir: config.data_dir.clone(),
        node_name: config.node_name.clone(),
        ready: config.ready.subscribe(),
        down,
    };
    let served = socket.listen()?;
    // The socket outlives the rest of the node, to answer when the pods have ended.
    let sockets = CancellationToken::new();
    let _sockets_with_us = sockets.clone().drop_guard();
    let sockets_ended = config.tasks.spawn(served.run(sockets.clone()));

    let informers = Informers::new(config.client.clone(), config.tasks.clone(), quit.clone());
    let left = Leftovers {
        data_dir: config.data_dir.clone(),
        drivers_dir: config.drivers_dir.clone(),
        cluster_id: config.network.as_ref().map(|network| network.cluster_id.clone()),
        service_proxies: config.service_proxy.directory.clone(),
        cluster_dns: config.dns.process.directory.clone(),
        runtime: config.runtime.clone(),
    };
    let (range, known_range) = watch::channel(None);
    let names = ::dns::Dns::new(config.dns.process.clone()).map_err(Error::ClusterDns)?;
    let proxy = proxy(&config, &informers, known_range.clone(), quit.clone());
    let answering = names::run(&config, &informers, names.clone(), known_range, quit.clone());
    let kubelet = kubelet_config(config, informers, range, names);
    let mut node = std::pin::pin!(async {
        let (ran, (), ()) = tokio::join!(kubelet::run(kubelet, quit.clone()), proxy, answering);
        ran.map_err(Error::Kubelet)
    });
    let asked = tokio::select! {
        ended = &mut node => return ended.map(|()| Ended::Stopped),
        Some(asked) = asked_down.recv() => asked,
    };
    tracing::info!("ending the node's pods");
    quit.cancel();
    node.await?;
    let ended = down::down(left).await;
    let answer = ended.as_ref().map(drop).map_err(ToString::to_string);
    let _ = asked.send(answer); // who asked may have gone
    sockets.cancel();
    let _ = sockets_ended.await; // it has sent the answer, or nobody waits for it
    ended.map(|()| Ended::Down)
}

/// The cgroup of a cluster's pods on this machine.
fn cgroup_prefix(cluster_id: &str) -> String {
    format!("wherry-{cluster_id}")
}

fn kubelet_config(
    config: Config,
    informers: Informers,
    range: watch::Sender<Option<Ipv4Net>>,
    names: ::dns::Dns,
) -> kubelet::Config {
    let (servers, known_servers) = watch::channel(config.dns.server.iter().map(IpAddr::to_string).collect());
    // Each cluster has a cgroup of its own. Without root there is none to give.
    let cgroup_prefix = config
        .network
        .as_ref()
        .map(|network| cgroup_prefix(&network.cluster_id));
    let network: Arc<dyn kubelet::PodNetwork> = match config.network {
        Some(network) => Arc::new(SharedNetwork { network, range }),
        None => Arc::new(NoNetwork {
            range,
            servers: config.dns.server.is_some().then_some(servers),
        }),
    };
    kubelet::Config {
        client: config.client,
        informers,
        runtime: config.runtime,
        clock: config.clock,
        node_name: config.node_name,
        node_ips: config.node_ips,
        labels: config.labels,
        max_pods: config.max_pods,
        reserved: config.reserved,
        thresholds: config.thresholds,
        version: config.version,
        data_dir: config.data_dir,
        drivers_dir: config.drivers_dir,
        dns: kubelet::Dns {
            servers: known_servers,
            domain: config.dns.domain,
            node: std::fs::read_to_string(&config.dns.resolv_conf).unwrap_or_default(),
        },
        metrics: vec![Arc::new(names::Metrics(names))],
        cgroup_prefix,
        static_pods: config.static_pods,
        network,
        api_listener: config.api_listener,
        api_tls: config.api_tls,
        rotate_certificates: true,
        limitation: config.limitation,
        ready: config.ready,
        tasks: config.tasks,
    }
}

/// The Service proxy. Where there is a pod network to program it begins when the node's pod range is known.
fn proxy(
    config: &Config,
    informers: &Informers,
    mut range: watch::Receiver<Option<Ipv4Net>>,
    quit: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (network, process) = (config.network.clone(), config.service_proxy.clone());
    let (informers, node_name, node_ips) = (informers.clone(), config.node_name.clone(), config.node_ips.clone());
    let host_ports = config.host_ports.clone();
    let recorder = Recorder::new(
        config.client.clone().named("kube-proxy"),
        "service-proxy",
        &config.node_name,
        config.clock.clone(),
        &config.tasks,
        quit.clone(),
    );
    async move {
        let kernel = match network {
            Some(network) => {
                let known = quit.run_until_cancelled(range.wait_for(Option::is_some)).await;
                let Some(pod_range) = known.and_then(Result::ok).and_then(|range| *range) else {
                    return;
                };
                Some(kernel(network, pod_range))
            }
            None => None,
        };
        let settings = ::proxy::Config {
            informers,
            host_ports,
            recorder,
            node_name,
            node_ips,
            kernel,
            process,
        };
        ::proxy::run(settings, quit).await;
    }
}

fn kernel(network: PodNetwork, pod_range: Ipv4Net) -> ::proxy::Kernel {
    ::proxy::Kernel {
        netns_path: Some(netns_path(&network.cluster_id)),
        cluster_id: network.cluster_id,
        service_range: network.service_range.into(),
        pod_range: pod_range.into(),
    }
}
