//! Services on this node: what kube-proxy is in Kubernetes.
//!
//! A snapshot loop over two inputs, Services and EndpointSlices. `model` decides what each port of each Service leads
//! to, `rules` says it in nftables' terms, `ruleset` finds the commands that lead there from what was applied, and
//! `nftables` runs them, in the node's namespace and in the one that Wasm pods share. `loopback` serves node ports on
//! 127.0.0.1. While the API server is away everything stays as it was; so it does after this process.

mod conntrack;
mod error;
mod loopback;
mod model;
mod nftables;
mod objects;
mod rules;
mod ruleset;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Informer, Informers, Scope, kinds, snapshot};
use ipnet::IpNet;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use conntrack::Leads;
pub use error::Error;
use loopback::Loopback;
use model::Model;
use nftables::Table;
use objects::{EndpointSlice, Service};
use rules::{Addresses, Family, Place};
use ruleset::TableName;

/// How often everything is looked at without a reason.
const PERIOD: Duration = Duration::from_secs(30);
/// How often the tables are made right as a whole, in case somebody else has changed them. With five thousand Services
/// that keeps the kernel busy for seconds.
const RESYNC: Duration = Duration::from_secs(3600);

/// What the proxy of a node is told.
pub struct Config {
    /// Where Services and EndpointSlices come from.
    pub informers: Informers,
    /// The node's name, by which its own endpoints are known.
    pub node_name: String,
    /// A few lower-case letters and digits that name the tables, so that several clusters can share a machine.
    pub cluster_id: String,
    /// The namespace that Wasm pods share, if there is one.
    pub netns_path: Option<PathBuf>,
    /// What Services take their addresses from.
    pub service_range: IpNet,
    /// What the pods of this node take their addresses from.
    pub pod_range: IpNet,
    /// The node's addresses, on which node ports answer.
    pub node_ips: Vec<IpAddr>,
    /// Whether node ports answer on 127.0.0.1 as well.
    pub node_port_loopback: bool,
}

/// Keeps the node's Services as the API has them until `shutdown`. The rules stay; see [`remove`].
pub async fn run(config: Config, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let services = config.informers.get::<Service>(&kinds::SERVICE, Scope::All);
    let slices = config
        .informers
        .get::<EndpointSlice>(&kinds::ENDPOINT_SLICE, Scope::All);
    let triggers = vec![services.version(), slices.version()];
    let state = Mutex::new(Proxy::new(&config, &tasks, &shutdown));
    let follow = async {
        services.synced().await;
        slices.synced().await;
        snapshot::run("proxy", PERIOD, triggers, async || {
            let model = current(&services, &slices, &config.node_name);
            state.lock().await.sync(&model).await
        })
        .await
    };
    shutdown.run_until_cancelled(follow).await;
    drop(state);
    tasks.close();
    tasks.wait().await;
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

fn current(services: &Informer<Service>, slices: &Informer<EndpointSlice>, node: &str) -> Model {
    let (services, slices) = (services.list(), slices.list());
    model::build(
        services.iter().map(|(_, service)| &**service),
        slices.iter().map(|(_, slice)| &**slice),
        node,
    )
}

fn table(cluster_id: &str, family: Family, namespace: Option<PathBuf>) -> Table {
    Table::new(
        TableName(format!("{} wherry-{cluster_id}-services", family.word())),
        namespace,
    )
}

/// What is kept between passes.
struct Proxy {
    addresses: Addresses,
    tables: Vec<(Family, Place, Table)>,
    loopback: Option<Loopback>,
    /// What flows of datagrams have been held against.
    leads: Leads,
    resynced: Instant,
}

impl Proxy {
    fn new(config: &Config, tasks: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let addresses = Addresses {
            services: vec![config.service_range],
            pods: vec![config.pod_range],
            node: config.node_ips.clone(),
        };
        let places = [(Place::Node, None)]
            .into_iter()
            .chain(config.netns_path.clone().map(|path| (Place::Pods, Some(path))));
        let family = if config.service_range.addr().is_ipv6() {
            Family::V6
        } else {
            Family::V4
        };
        let tables = places.map(|(place, namespace)| (family, place, table(&config.cluster_id, family, namespace)));
        Proxy {
            addresses,
            tables: tables.collect(),
            loopback: config
                .node_port_loopback
                .then(|| Loopback::new(Ipv4Addr::LOCALHOST, tasks.clone(), shutdown)),
            leads: Leads::new(),
            resynced: Instant::now(),
        }
    }

    /// Makes everything as the model has it. One table that fails does not keep the others from it.
    async fn sync(&mut self, model: &Model) -> Result<(), Error> {
        if let Some(loopback) = &mut self.loopback {
            loopback.sync(loopback::wanted(model)).await;
        }
        if self.resynced.elapsed() >= RESYNC {
            self.resynced = Instant::now();
            self.tables.iter_mut().for_each(|(.., table)| table.doubt());
        }
        let mut result = Ok(());
        for (family, place, table) in &mut self.tables {
            let applied = table
                .apply(rules::ruleset(model, &self.addresses, *family, *place))
                .await;
            result = result.and(applied);
        }
        result?;
        self.forget_astray(model).await
    }

    /// After the rules: forgets flows that lead where the rules no longer do.
    async fn forget_astray(&mut self, model: &Model) -> Result<(), Error> {
        let now = conntrack::leads(model, &self.addresses.node);
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

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
