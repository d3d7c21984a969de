//! What all pod workers of this kubelet share.

use std::{path::PathBuf, sync::Arc};

use client::{Client, Clock, Informer, Informers, events::Recorder};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    Metrics,
    cgroups::Cgroups,
    csi::Csi,
    dns::Dns,
    env::Service,
    eviction::Evictions,
    history::History,
    images::Images,
    node::{Strain, Thresholds},
    objects::Warm,
    observer::Observer,
    pod::Pod,
    probes::Tally,
    resources::Capacity,
    static_pods::{self, StaticPods},
    status::NodeFacts,
    user_namespaces::UserNamespaces,
};

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) informers: Informers,
    pub(crate) runtime: Arc<dyn cri::Runtime>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    /// Pods bound to this node.
    pub(crate) pods: Informer<Pod>,
    /// Those of files, which the API shows by mirrors.
    pub(crate) statics: watch::Receiver<StaticPods>,
    pub(crate) services: Informer<Service>,
    pub(crate) classes: Informer<RuntimeClass>,
    pub(crate) warm: Warm,
    pub(crate) node_name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) node: NodeFacts,
    /// Becomes true when the pod network stands and the runtime knows the node's pod range.
    pub(crate) network: watch::Receiver<bool>,
    pub(crate) capacity: Capacity,
    pub(crate) dns: Dns,
    /// What else of the node has metrics.
    pub(crate) metrics: Vec<Arc<dyn Metrics>>,
    pub(crate) cgroups: Option<Cgroups>,
    /// Volumes of storage drivers.
    pub(crate) csi: Csi,
    pub(crate) thresholds: Thresholds,
    pub(crate) strain: Arc<Strain>,
    pub(crate) evictions: Evictions,
    pub(crate) images: Images,
    pub(crate) probes: Tally,
    pub(crate) users: UserNamespaces,
    /// What was used in the last hour.
    pub(crate) history: Mutex<History>,
}

impl Shared {
    /// The pod that runs here for one that the API shows.
    pub(crate) fn running_for(&self, shown: &Arc<Pod>) -> Arc<Pod> {
        static_pods::running_for(&self.statics.borrow(), shown)
    }
}

/// The part of a RuntimeClass that is used.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeClass {
    pub(crate) handler: String,
}
