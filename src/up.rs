//! `wherry up`: control plane and node in one process, until SIGTERM.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::Context;
use client::Clock;
use server::Server;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    claim::{Claim, Ranges},
    cli::{self, flag_for},
    containers::{self, Choice},
    control_plane,
    datadir::DataDir,
    footprint, kept_images, machine,
    notify::{Manager, State},
    rootless,
};

/// Prefix length of a node's pod range: 256 nodes of a /9, each with 16,382 addresses for Wasm pods.
pub(crate) const NODE_PREFIX: u8 = 17;
/// Pods that fit on a node: what one sandbox host can listen for within the usual limit of file descriptors.
const MAX_PODS: u32 = 10_000;
/// The kubelet API's usual port; another cluster of this machine may have it.
const KUBELET_PORT: u16 = 10250;

/// Runs a cluster.
pub(crate) async fn run(options: cli::Up) -> anyhow::Result<()> {
    let manager = Manager::from_environment();
    rootless::check_ranges(options.ranges.cluster_cidr, options.ranges.service_cidr)?;
    let thresholds = options.thresholds.config()?;
    let directory = DataDir::hold(&options.data.path()?)?;
    let users = claim(&directory, &options)?;
    let (pods, services) = (options.ranges.cluster_cidr, options.ranges.service_cidr);
    let addresses = rootless::addresses(directory.path(), pods, services).filter(|_| !options.no_node);
    let _held = addresses.as_ref().map(agent::Claim::hold).transpose()?;
    let node_name = options.node_name.clone().unwrap_or_else(machine::host_name);
    let gateway = agent::gateway(machine::first_subnet(options.ranges.cluster_cidr, NODE_PREFIX)?);
    let node_ip = server::primary_address().unwrap_or(IpAddr::V4(gateway));
    let control_plane = Server::start(server::Config {
        data_dir: directory.path().to_owned(),
        store: server::Store::Redb(control_plane::default_store(directory.path())),
        kms_endpoint: options.kms_endpoint.clone(),
        tls_san: Vec::new(),
        advertise: None,
        api_bind: options.api_bind,
        max_inflight: options.inflight.limits(),
        kubeconfig: options
            .kubeconfig
            .clone()
            .unwrap_or_else(|| directory.path().join("kubeconfig")),
        node_name: node_name.clone(),
        node_addresses: vec![node_ip, IpAddr::V4(gateway)],
        gateway,
        cluster_range: options.ranges.cluster_cidr,
        service_range: options.ranges.service_cidr,
        node_ports: options.ranges.service_node_port_range.ports(),
        node_prefix: NODE_PREFIX,
        images: kept_images::config(&options.images, false),
        audit: options.audit.config()?,
        authentication: options.authentication.config()?,
        authorization: options.authorization.config()?,
    })
    .await?;
    tracing::info!(address = %control_plane.address(), "the API answers");

    if !options.no_node {
        let api = format!("https://{}", control_plane.address());
        kept_images::reach(directory.path(), &api, &control_plane.node_credentials())?;
    }
    let (ready, is_ready) = watch::channel(options.no_node);
    let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
    let link = control_plane.sign_in_link();
    let announced = tasks.spawn(announce(is_ready, link, manager.clone(), quit.clone()));
    let small = tasks.spawn(footprint::stay_small());
    let ended = match options.no_node {
        true => stopped(&manager).await,
        false => {
            let node = Node {
                directory: &directory,
                options: &options,
                name: node_name,
                address: node_ip,
                users,
                addresses,
                thresholds,
                manager: &manager,
            };
            Box::pin(node.run(&control_plane, ready, &tasks, &quit)).await
        }
    };
    quit.cancel();
    announced.abort();
    small.abort();
    tasks.close();
    tasks.wait().await;
    control_plane.stop().await;
    if ended? && !options.no_node {
        cli::complain(&format!(
            "workloads keep running; end them with: wherry down {}",
            flag_for(directory.path())
        ));
    }
    Ok(())
}

/// The node of this machine.
struct Node<'a> {
    directory: &'a DataDir,
    options: &'a cli::Up,
    name: String,
    address: IpAddr,
    /// The first user of sandbox hosts.
    users: Option<u32>,
    /// What other clusters are kept from.
    addresses: Option<agent::Claim>,
    /// When pods and images go.
    thresholds: agent::Thresholds,
    manager: &'a Manager,
}

impl Node<'_> {
    /// Runs until a signal; answers whether its workloads keep running.
    async fn run(
        self,
        control_plane: &Server,
        ready: watch::Sender<bool>,
        tasks: &TaskTracker,
        quit: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let path = self.directory.path();
        let services = Some(self.options.ranges.service_cidr);
        let settings = machine::runtime(path, self.users, services)?;
        let wasm = wasm::Runtime::start(settings, tasks.clone(), quit.clone()).await?;
        let choice = containers::choose(path, self.options.containerd.as_deref()).await?;
        let limitation = rootless::limitation(self.options.ranges.cluster_cidr).or(match &choice {
            Choice::Use(_) => None,
            Choice::Without { limitation, .. } => limitation.clone(),
        });
        let (others, used) = containers::start(path, choice, tasks, quit).await?;
        let user = format!("system:node:{}", self.name);
        let config = agent::Config {
            data_dir: path.to_owned(),
            drivers_dir: machine::drivers_dir(path, self.options.kubelet_dir.as_deref())?,
            client: control_plane.client(&user, &["system:nodes"]),
            clock: Clock::system(),
            node_name: self.name,
            node_ips: vec![self.address],
            labels: BTreeMap::new(),
            max_pods: MAX_PODS,
            reserved: self.options.system_reserved,
            thresholds: self.thresholds,
            static_pods: self.options.pod_manifest_path.clone(),
            version: server::VERSION.to_owned(),
            dns: machine::dns(path, self.options.ranges.service_cidr, self.options.resolv_conf.clone()),
            network: machine::network(path, self.options.ranges.cluster_cidr, self.options.ranges.service_cidr),
            service_proxy: machine::service_proxy(path, self.addresses),
            limitation,
            host_ports: wasm.host_ports(),
            runtime: Arc::new(shim::Dispatch::new(wasm.clone(), others)),
            api_listener: kubelet_listener(self.address)?,
            api_tls: kubelet_tls(control_plane)?,
            ready,
            tasks: tasks.clone(),
        };
        let shutdown = quit.child_token();
        let mut node = std::pin::pin!(agent::run(config, shutdown.clone()));
        let ended = tokio::select! {
            ended = &mut node => ended?,
            asked = stopped(self.manager) => {
                asked?;
                shutdown.cancel();
                node.await?
            }
        };
        if ended == agent::Ended::Down {
            wasm.down().await?;
            if let Some(used) = used {
                used.ended().await?;
            }
        }
        Ok(ended == agent::Ended::Stopped)
    }
}

/// Claims what the cluster takes of this machine; answers the first user of its sandbox hosts. A control plane alone takes
/// nothing that another could take.
fn claim(directory: &DataDir, options: &cli::Up) -> anyhow::Result<Option<u32>> {
    if options.no_node {
        return Ok(None);
    }
    let ranges = Ranges {
        cluster_range: options.ranges.cluster_cidr,
        service_range: options.ranges.service_cidr,
        node_ports: Some(options.ranges.service_node_port_range),
    };
    let claim = Claim::make(directory.path(), ranges)?;
    Ok(machine::changes_users().then(|| claim.first_user()))
}

/// Prints `ready` once the node is, then where the dashboard is, and tells the service manager.
async fn announce(mut ready: watch::Receiver<bool>, link: Option<String>, manager: Manager, quit: CancellationToken) {
    let is_ready = quit.run_until_cancelled(ready.wait_for(|ready| *ready)).await;
    if let Some(Ok(_)) = is_ready {
        cli::say("ready");
        if let Some(link) = link {
            cli::say(&format!("dashboard: {link}"));
        }
        manager.tell(State::Ready);
    }
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stopped(manager: &Manager) -> anyhow::Result<bool> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to stop by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("asked to stop by SIGINT"),
    }
    manager.tell(State::Stopping);
    Ok(true)
}

/// The usual port where it is free, else any. The address may be the pod network's, which is made later.
fn kubelet_listener(address: IpAddr) -> anyhow::Result<TcpListener> {
    let at = |port| server::bind(SocketAddr::new(address, port), true);
    let listener = at(KUBELET_PORT)
        .or_else(|_| at(0))
        .context("cannot serve the kubelet API")?;
    Ok(listener.into_std()?)
}

fn kubelet_tls(control_plane: &Server) -> anyhow::Result<agent::Tls> {
    let identity = control_plane.kubelet_identity()?;
    Ok(agent::Tls {
        certificates: identity.certificates,
        key: identity.key,
        client_authorities: identity.authorities,
        allowed_names: vec!["kube-apiserver-kubelet-client".to_owned()],
    })
}
