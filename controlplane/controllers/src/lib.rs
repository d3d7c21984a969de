//! The controllers. Each is a file of its own: a pure function from the state to a plan, in a thin shell on the keyed
//! loop. [`CATALOGUE`] names them all; to add one is one file and one line.
//!
//! All read through one set of shared informers, as one identity, and each writes as its own service account, whose RBAC
//! role is the bound of what a mistake in it can do.

mod attach_detach;
mod bootstrap_tokens;
mod certificates;
mod cluster_dns;
mod cluster_role_aggregation;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod garbage_collector;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
mod pods;
mod replicaset;
mod root_ca;
mod service_account;
mod storage_protection;
mod view;
mod volumes;

use std::{sync::Arc, time::Duration};

use client::{Client, Clock, Informers, events::Recorder};
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Every object is looked at again after this long, whatever happened.
const RESYNC: Duration = Duration::from_secs(600);

pub use certificates::authority::{Authority, AuthorityError};

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The range that nodes' pod ranges are cut from.
    pub cluster_range: Ipv4Net,
    /// Prefix length of a node's pod range.
    pub node_prefix: u8,
    /// Certificate of the cluster's CA in PEM, for `kube-root-ca.crt`.
    pub root_ca: String,
    /// Signs requests for certificates; without it they wait for somebody who does.
    pub authority: Option<Arc<Authority>>,
    /// The node that runs in this very process: its requests for serving certificates are approved, if they are for these.
    pub own_node: Option<OwnNode>,
    pub clock: Clock,
}

/// A node whose name and addresses are known from elsewhere than the node itself.
#[derive(Clone, Debug)]
pub struct OwnNode {
    pub name: String,
    pub addresses: Vec<std::net::IpAddr>,
}

/// What a controller gets.
#[derive(Clone)]
struct Context {
    /// Writes as the controller's own service account.
    client: Client,
    informers: Informers,
    recorder: Recorder,
    config: Arc<Config>,
}

struct Controller {
    name: &'static str,
    /// In `kube-system`.
    service_account: &'static str,
    run: fn(Context) -> BoxFuture<'static, ()>,
}

/// All controllers.
static CATALOGUE: &[Controller] = &[
    Controller {
        name: "persistentvolume-attach-detach-controller",
        service_account: "attachdetach-controller",
        run: |context| Box::pin(attach_detach::run(context)),
    },
    Controller {
        name: "bootstrap-signer-controller",
        service_account: "bootstrap-signer",
        run: |context| Box::pin(bootstrap_tokens::sign(context)),
    },
    Controller {
        name: "certificatesigningrequest-approving-controller",
        service_account: "certificate-controller",
        run: |context| Box::pin(certificates::approve::run(context)),
    },
    Controller {
        name: "certificatesigningrequest-cleaner-controller",
        service_account: "certificate-controller",
        run: |context| Box::pin(certificates::clean::run(context)),
    },
    Controller {
        name: "certificatesigningrequest-signing-controller",
        service_account: "certificate-controller",
        run: |context| Box::pin(certificates::sign::run(context)),
    },
    Controller {
        name: "cluster-dns-controller",
        service_account: "endpointslice-controller",
        run: |context| Box::pin(cluster_dns::run(context)),
    },
    Controller {
        name: "clusterrole-aggregation",
        service_account: "clusterrole-aggregation-controller",
        run: |context| Box::pin(cluster_role_aggregation::run(context)),
    },
    Controller {
        name: "deployment-controller",
        service_account: "deployment-controller",
        run: |context| Box::pin(deployment::run(context)),
    },
    Controller {
        name: "disruption-controller",
        service_account: "disruption-controller",
        run: |context| Box::pin(disruption::run(context)),
    },
    Controller {
        name: "endpoint-controller",
        service_account: "endpoint-controller",
        run: |context| Box::pin(endpoints::run(context)),
    },
    Controller {
        name: "endpoint-slice-controller",
        service_account: "endpointslice-controller",
        run: |context| Box::pin(endpointslice::run(context)),
    },
    Controller {
        name: "endpoint-slice-mirroring-controller",
        service_account: "endpointslicemirroring-controller",
        run: |context| Box::pin(endpointslice_mirroring::run(context)),
    },
    Controller {
        name: "ephemeral-volume-controller",
        service_account: "ephemeral-volume-controller",
        run: |context| Box::pin(volumes::ephemeral::run(context)),
    },
    Controller {
        name: "garbage-collector",
        service_account: "generic-garbage-collector",
        run: |context| Box::pin(garbage_collector::run(context)),
    },
    Controller {
        name: "namespace-controller",
        service_account: "namespace-controller",
        run: |context| Box::pin(namespace::run(context)),
    },
    Controller {
        name: "cidrAllocator",
        service_account: "node-controller",
        run: |context| Box::pin(node_ipam::run(context)),
    },
    Controller {
        name: "node-controller",
        service_account: "node-controller",
        run: |context| Box::pin(node_lifecycle::run(context)),
    },
    Controller {
        name: "persistentvolume-binder-controller",
        service_account: "persistent-volume-binder",
        run: |context| Box::pin(volumes::bind(context)),
    },
    Controller {
        name: "persistentvolume-protection-controller",
        service_account: "pv-protection-controller",
        run: |context| Box::pin(storage_protection::volumes(context)),
    },
    Controller {
        name: "persistentvolumeclaim-protection-controller",
        service_account: "pvc-protection-controller",
        run: |context| Box::pin(storage_protection::claims(context)),
    },
    Controller {
        name: "pod-garbage-collector",
        service_account: "pod-garbage-collector",
        run: |context| Box::pin(pod_gc::run(context)),
    },
    Controller {
        name: "replicaset-controller",
        service_account: "replicaset-controller",
        run: |context| Box::pin(replicaset::run(context)),
    },
    Controller {
        name: "root-ca-certificate-publisher",
        service_account: "root-ca-cert-publisher",
        run: |context| Box::pin(root_ca::run(context)),
    },
    Controller {
        name: "serviceaccount-controller",
        service_account: "service-account-controller",
        run: |context| Box::pin(service_account::run(context)),
    },
    Controller {
        name: "token-cleaner-controller",
        service_account: "token-cleaner",
        run: |context| Box::pin(bootstrap_tokens::clean(context)),
    },
    Controller {
        name: "volumeattributesclass-protection-controller",
        service_account: "volumeattributesclass-protection-controller",
        run: |context| Box::pin(storage_protection::classes(context)),
    },
];

/// The users that the controllers write as: what RBAC has to know.
pub fn users() -> impl Iterator<Item = String> {
    CATALOGUE.iter().map(user)
}

fn user(controller: &Controller) -> String {
    format!("system:serviceaccount:kube-system:{}", controller.service_account)
}

/// Runs every controller until `shutdown`. `make_client` gives a client that acts as the named user.
pub async fn run_all(
    make_client: impl Fn(&str) -> Client,
    informers: Informers,
    config: Config,
    shutdown: CancellationToken,
) {
    let config = Arc::new(config);
    let tasks = TaskTracker::new();
    for controller in CATALOGUE {
        let client = make_client(&user(controller)).named("kube-controller-manager");
        let clock = config.clock.clone();
        let recorder = Recorder::new(client.clone(), controller.name, "", clock, &tasks, shutdown.clone());
        let context = Context {
            client,
            informers: informers.clone(),
            recorder,
            config: config.clone(),
        };
        let span = tracing::debug_span!("controller", name = controller.name);
        let run = (controller.run)(context);
        let shutdown = shutdown.clone();
        tasks.spawn(async move { shutdown.run_until_cancelled(run).await }.instrument(span));
    }
    tasks.close();
    tasks.wait().await;
}

#[cfg(test)]
mod tests;
