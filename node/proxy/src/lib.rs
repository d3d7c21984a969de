//! Services on this node: what kube-proxy is in Kubernetes.
//!
//! A snapshot loop over three inputs: Services, EndpointSlices, and the ports of the node that single pods have. `model`
//! decides what each port leads to. As root, `rules` says it in nftables' terms, `ruleset` finds the commands that lead there from what was applied, and
//! `nftables` runs them, in the node's namespace and in the one that Wasm pods share. What the kernel does not do,
//! `userspace` does by listeners of its own: node ports on 127.0.0.1, and everything where there is no root. `health` tells
//! load balancers which nodes have endpoints. While the API
//! server is away everything stays as it was; so it does after this process.

mod conntrack;
mod error;
mod health;
mod model;
mod nftables;
mod objects;
mod rules;
mod ruleset;
mod userspace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::NamespacedName;
use client::events::{ObjectRef, Recorder, Type};
use client::{Informer, Informers, MetaObject, Scope, kinds, snapshot};
use cri::{HostPorts, SandboxId};
use ipnet::IpNet;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use conntrack::Leads;
pub use error::Error;
use health::Checks;
use model::{Here, Model, PortId};
use nftables::Table;
use objects::{EndpointSlice, Service};
use rules::{Addresses, Family, Place};
use ruleset::TableName;
pub use userspace::{Claim, ClaimError, Held, HolderError, Process, main as process_main};
use userspace::{Holder, Launcher, Refused};

/// The label that says in which zone a node is.
const ZONE: &str = "topology.kubernetes.io/zone";
/// How often everything is looked at without a reason.
const PERIOD: Duration = Duration::from_secs(30);
/// How often the tables are made right as a whole, in case somebody else has changed them. With five thousand Services
/// that keeps the kernel busy for seconds.
const RESYNC: Duration = Duration::from_secs(3600);

/// What the proxy of a node is told.
pub struct Config {
    /// Where Services and EndpointSlices come from.
    pub informers: Informers,
    /// Ports of the node that lead to single pods, by the sandbox.
    pub host_ports: watch::Receiver<BTreeMap<SandboxId, HostPorts>>,
    /// Tells users of Services and pods that cannot be listened for.
    pub recorder: Recorder,
    /// The node's name, by which its own endpoints are known.
    pub node_name: String,
    /// The node's addresses, on which node ports answer; 127.0.0.1 is always one.
    pub node_ips: Vec<IpAddr>,
    /// What the kernel does; `None` without root.
    pub kernel: Option<Kernel>,
    /// What does the rest.
    pub process: Process,
}

/// Names and ranges of what the kernel does.
pub struct Kernel {
    /// A few lower-case letters and digits that name the tables, so that several clusters can share a machine.
    pub cluster_id: String,
    /// The namespace that Wasm pods share, if there is one.
    pub netns_path: Option<PathBuf>,
    /// What Services take their addresses from.
    pub service_range: IpNet,
    /// What the pods of this node take their addresses from.
    pub pod_range: IpNet,
}

/// Keeps the node's Services as the API has them until `shutdown`. Rules and listeners stay; see [`remove`] and
/// [`end_processes`].
pub async fn run(config: Config, shutdown: CancellationToken) {
    follow(config, Box::new(userspace::spawn), shutdown).await;
}

async fn follow(config: Config, launcher: Launcher, shutdown: CancellationToken) {
    let holder = match Holder::new(config.process.clone(), launcher) {
        Ok(holder) => holder,
        Err(error) => {
            return tracing::error!(error = &error as &dyn std::error::Error, "no Service can be served");
        }
    };
    let services = config.informers.get::<Service>(&kinds::SERVICE, Scope::All);
    let slices = config
        .informers
        .get::<EndpointSlice>(&kinds::ENDPOINT_SLICE, Scope::All);
    let at = NamespacedName::cluster(&config.node_name);
    let node = config.informers.get_metadata(&kinds::NODE, Scope::Object(at));
    let (led_again, led) = watch::channel(0);
    let triggers = vec![services.version(), slices.version(), node.version(), holder.lost(), led];
    let state = Mutex::new(Proxy::new(&config, holder));
    let follow = async {
        services.synced().await;
        slices.synced().await;
        node.synced().await;
        snapshot::run("proxy", PERIOD, triggers, async || {
            let led = config.host_ports.borrow().clone();
            let model = current(&services, &slices, &node, &config.node_name, &led);
            let find = |id: &PortId| whose(id, &services, &led);
            let mut state = state.lock().await;
            state.check_health(&services, &model, &config);
            state.sync(&model, &config.recorder, find).await
        })
        .await
    };
    let counted = count(config.host_ports.clone(), led_again);
    let both = Box::pin(async { tokio::join!(follow, counted) });
    shutdown.run_until_cancelled(both).await;
}

/// Counts changes of `of`, until there can be none any more.
async fn count<T>(mut of: watch::Receiver<T>, changes: watch::Sender<u64>) {
    while of.changed().await.is_ok() {
        changes.send_modify(|count| *count += 1);
    }
}

/// Ends the processes that [`run`] has left listening; `directory` is that of [`Process`].
pub async fn end_processes(directory: &Path) -> Result<(), Error> {
    userspace::end_all(directory)
        .await
        .map_err(|source| Error::EndProcesses { source })
}

/// Removes what [`run`] has left in the node's namespace and in that of Wasm pods, as far as they are there.
pub async fn remove(cluster_id: &str, netns_path: Option<&Path>) -> Result<(), Error> {
    let pods = netns_path
        .filter(|path| path.exists())
        .map(|path| Some(path.to_owned()));
    for namespace in [None].into_iter().chain(pods) {
        for family in [Family::V4, Family::V6] {
            match table(cluster_id, family, namespace.clone()).remove().await {
                // Then it has not been there to make anything either.
                Err(Error::Missing) => return Ok(()),
                removed => removed?,
            }
        }
    }
    Ok(())
}

fn current(
    services: &Informer<Service>,
    slices: &Informer<EndpointSlice>,
    node: &Informer<MetaObject>,
    node_name: &str,
    led: &BTreeMap<SandboxId, HostPorts>,
) -> Model {
    let (services, slices) = (services.list(), slices.list());
    let own = node.get(&NamespacedName::cluster(node_name));
    let zone = own.as_ref().and_then(|node| node.metadata.labels.get(ZONE));
    let mut model = model::build(
        services.iter().map(|(_, service)| &**service),
        slices.iter().map(|(_, slice)| &**slice),
        Here {
            node: node_name,
            zone: zone.unwrap_or_default(),
        },
    );
    let ports = led.values().flat_map(model::host_ports);
    model.extend(ports.map(|port| (port.id.clone(), port)));
    model
}

/// The Service or the pod that a port is of, as events name it.
fn whose(id: &PortId, services: &Informer<Service>, led: &BTreeMap<SandboxId, HostPorts>) -> Option<ObjectRef> {
    let Some(name) = model::pod(id) else {
        let service = services.get(&NamespacedName::new(&id.namespace, &id.name))?;
        return Some(ObjectRef::of(&kinds::SERVICE, &service.metadata));
    };
    let pod = led
        .values()
        .find(|pod| pod.namespace == id.namespace && pod.name == name)?;
    Some(ObjectRef {
        kind: kinds::POD.kind.to_string(),
        api_version: kinds::POD.api_version(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        ..ObjectRef::default()
    })
}

fn table(cluster_id: &str, family: Family, namespace: Option<PathBuf>) -> Table {
    Table::new(
        TableName(format!("{} wherry-{cluster_id}-services", family.word())),
        namespace,
    )
}

/// What is kept between passes.
struct Proxy {
    kernel: Programmed,
    scope: userspace::Scope,
    holder: Holder,
    refused: Refused,
    checks: Checks,
    /// Health checks that it was said of that they cannot be answered.
    unanswered: BTreeSet<SocketAddr>,
}

impl Proxy {
    fn new(config: &Config, holder: Holder) -> Self {
        let kernel = config.kernel.as_ref();
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let others: Vec<IpAddr> = config.node_ips.iter().copied().filter(|ip| *ip != loopback).collect();
        Proxy {
            kernel: Programmed::new(kernel, &config.node_ips),
            scope: userspace::Scope {
                addresses: kernel.is_none(),
                node_ports: match kernel {
                    Some(_) => vec![loopback],
                    None => [loopback].into_iter().chain(others.clone()).collect(),
                },
            },
            holder,
            refused: Refused::default(),
            checks: Checks::new([loopback].into_iter().chain(others).collect(), TaskTracker::new()),
            unanswered: BTreeSet::new(),
        }
    }

    /// Answers load balancers. An event tells, once, of a port that cannot be had.
    fn check_health(&mut self, services: &Informer<Service>, model: &Model, config: &Config) {
        let listed = services.list();
        let checks = model::health_checks(listed.iter().map(|(_, service)| &**service), model);
        let refused = self.checks.sync(&checks);
        let mut unanswered = BTreeSet::new();
        for health::Refused { at, health, source } in refused {
            unanswered.insert(at);
            let key = NamespacedName::new(&health.service.namespace, &health.service.name);
            let Some(service) = services.get(&key).filter(|_| !self.unanswered.contains(&at)) else {
                continue;
            };
            let note = format!(
                "node {} failed to start healthcheck \"{key}\" on port {}: {source}",
                config.node_name,
                at.port()
            );
            let regarding = ObjectRef::of(&kinds::SERVICE, &service.metadata);
            let reason = "FailedToStartServiceHealthcheck";
            config.recorder.event(&regarding, Type::Warning, reason, "Listen", note);
        }
        self.unanswered = unanswered;
    }

    /// Makes everything as the model has it. One part that fails does not keep the others from it.
    async fn sync(
        &mut self,
        model: &Model,
        recorder: &Recorder,
        find: impl Fn(&PortId) -> Option<ObjectRef>,
    ) -> Result<(), Error> {
        let table = userspace::table(model, &self.scope);
        let is_needed = userspace::is_needed(model, &self.scope);
        let (listened, programmed) = tokio::join!(self.holder.sync(table, is_needed), self.kernel.program(model));
        if let Ok(refused) = &listened {
            self.refused.tell(refused, model, recorder, find);
        }
        listened?;
        programmed
    }
}

/// What is kept of what the kernel was told.
struct Programmed {
    /// What it is told, if it is told anything.
    addresses: Option<Addresses>,
    tables: Vec<(Family, Place, Table)>,
    /// What flows of datagrams have been held against.
    leads: Leads,
    resynced: Instant,
}

impl Programmed {
    fn new(kernel: Option<&Kernel>, node_ips: &[IpAddr]) -> Self {
        Programmed {
            addresses: kernel.map(|kernel| Addresses {
                services: vec![kernel.service_range],
                pods: vec![kernel.pod_range],
                node: node_ips.to_vec(),
            }),
            tables: kernel.map(tables).unwrap_or_default(),
            leads: Leads::new(),
            resynced: Instant::now(),
        }
    }

    /// Tells the kernel.
    async fn program(&mut self, model: &Model) -> Result<(), Error> {
        let Some(addresses) = &self.addresses else {
            return Ok(());
        };
        if self.resynced.elapsed() >= RESYNC {
            self.resynced = Instant::now();
            self.tables.iter_mut().for_each(|(.., table)| table.doubt());
        }
        let mut result = Ok(());
        for (family, place, table) in &mut self.tables {
            let applied = table.apply(rules::ruleset(model, addresses, *family, *place)).await;
            result = result.and(applied);
        }
        result?;
        let now = conntrack::leads(model, &addresses.node);
        self.forget_astray(now).await
    }

    /// After the rules: forgets flows that lead where the rules no longer do.
    async fn forget_astray(&mut self, now: Leads) -> Result<(), Error> {
        let changed = conntrack::changed(&self.leads, &now);
        if changed.is_empty() {
            return Ok(());
        }
        for (.., table) in &self.tables {
            let (namespace, changed) = (table.namespace().map(Path::to_owned), changed.clone());
            let forgotten = spawn_blocking(move || conntrack::forget_astray(namespace, &changed)).await;
            let forgotten = forgotten.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let flows = forgotten.map_err(|source| Error::Flows { source })?;
            tracing::debug!(flows, "forgot flows that led astray");
        }
        self.leads = now;
        Ok(())
    }
}

/// The tables of a node, in its own namespace and in that of Wasm pods.
fn tables(kernel: &Kernel) -> Vec<(Family, Place, Table)> {
    let family = if kernel.service_range.addr().is_ipv6() {
        Family::V6
    } else {
        Family::V4
    };
    [(Place::Node, None)]
        .into_iter()
        .chain(kernel.netns_path.clone().map(|path| (Place::Pods, Some(path))))
        .map(|(place, namespace)| (family, place, table(&kernel.cluster_id, family, namespace)))
        .collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
