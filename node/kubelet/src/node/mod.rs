//! This node's object: registered once, its status kept true, its lease renewed.
//!
//! Status goes out when it changes, and every five minutes so that its heartbeat is seen to be alive; the lease, which
//! is small, carries the frequent heartbeat (KEP-589).

mod machine;
mod reserved;
mod status;
mod strain;
mod thresholds;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::NamespacedName;
use client::{
    Client, Clock, Informer, Patch,
    events::{ObjectRef, Recorder, Type},
    kinds,
    lease::{self, Heartbeat},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use machine::Usage;
pub(crate) use machine::{Machine, has_apparmor, machine, memory, most_processes, storage};
pub use reserved::{Reserved, ReservedError};
use status::Facts;
pub(crate) use status::{Node, Pressure, allocatable};
pub(crate) use strain::Strain;
pub use thresholds::{EvictionHard, ThresholdError, Thresholds};
pub(crate) use thresholds::{Shortage, Signal};

use crate::{Limitation, PodNetwork, csi, resources::Capacity, volumes};

/// How often the status is computed, and how often it is sent though nothing changed.
pub(crate) const LOOK: Duration = Duration::from_secs(10);
const LOOK_WHILE_NOT_READY: Duration = Duration::from_millis(250);
pub(crate) const SEND: Duration = Duration::from_secs(300);
/// Kubernetes' `nodeLeaseDurationSeconds`; it is renewed four times as often.
pub(crate) const LEASE: Duration = Duration::from_secs(40);

/// What registers and reports this node.
pub(crate) struct Reporter {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn cri::Runtime>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) node: Informer<Node>,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) version: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) data_dir: PathBuf,
    /// Where volumes of storage drivers are.
    pub(crate) drivers_dir: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) capacity: Capacity,
    pub(crate) reserved: Reserved,
    pub(crate) eviction_hard: EvictionHard,
    pub(crate) strain: Arc<Strain>,
    pub(crate) network: Arc<dyn PodNetwork>,
    /// Becomes true when the network stands and the runtime has taken the pod range, and stays so: pods wait for it.
    pub(crate) network_stands: watch::Sender<bool>,
    pub(crate) limitation: Option<Limitation>,
    /// Becomes true when the API has taken a status that says Ready.
    pub(crate) ready: watch::Sender<bool>,
}

impl Reporter {
    /// Registers, then reports until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.tell(Type::Normal, "Starting", "Starting kubelet.".into());
        if let Some(Limitation { reason, message, .. }) = &self.limitation {
            self.tell(Type::Normal, reason, message.clone());
        }
        shutdown
            .run_until_cancelled(async { tokio::join!(self.report(), self.beat()) })
            .await;
    }

    fn at(&self) -> NamespacedName {
        NamespacedName::cluster(&self.name)
    }

    fn tell(&self, type_: Type, reason: &str, note: String) {
        self.recorder.event(&reference(&self.name), type_, reason, "", note);
    }

    async fn beat(&self) {
        self.node.wait_until(&self.at(), |node| node.is_some()).await;
        let owner = self.node.get(&self.at()).map(|node| api::OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name.clone(),
            uid: node.metadata.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        });
        let lease = NamespacedName::new("kube-node-lease", &self.name);
        let heartbeat = Heartbeat {
            lease,
            holder: self.name.clone(),
            duration: LEASE,
            owner,
        };
        match lease::beat(&self.client, &heartbeat, &self.clock).await {}
    }

    async fn report(&self) {
        let mut state = Sent::default();
        let mut changes = self.node.version();
        loop {
            let pause = match self.round(&mut state).await {
                Ok(true) => LOOK,
                Ok(false) => LOOK_WHILE_NOT_READY,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot report this node");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = self.strain.grown() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look and, if it is due, one report; whether the node is ready and its pod range, if it has one, is in use.
    async fn round(&self, sent: &mut Sent) -> Result<bool, client::Error> {
        let Some(node) = self.registered().await? else {
            return Ok(false);
        };
        self.take_pod_range(&node, sent).await;
        let conditions = self.runtime.status().await;
        let images = self.runtime.list_images().await.unwrap_or_default();
        let drivers_dir = self.drivers_dir.clone();
        let volumes_in_use = crate::blocking::run(move || csi::in_use(&drivers_dir))
            .await
            .unwrap_or_default();
        let usage = usage(&*self.runtime, &self.data_dir, &self.eviction_hard).await;
        let now = self.clock.now();
        self.strain.note(&self.eviction_hard.shortages(&usage), now);
        let short = self.strain.pressures(now);
        let facts = Facts {
            name: &self.name,
            addresses: &self.addresses,
            port: self.port,
            version: &self.version,
            runtime: &self.runtime.version(),
            machine: &self.machine,
            short: &short,
            capacity: self.capacity,
            reserved: self.reserved,
            eviction_hard: &self.eviction_hard,
            runtime_conditions: &conditions,
            limitation: self.limitation.as_ref(),
            images: &images,
            volumes_in_use: &volumes_in_use,
        };
        let status = status::make(&facts, &node.status, now);
        let ready = status::readiness(&conditions);
        let taken = node
            .status
            .conditions
            .iter()
            .any(|c| c.kind == "Ready" && (c.status == "True") == ready.is_ok());
        let due = sent.at.is_none_or(|at| at.elapsed() >= SEND);
        if due || !taken || sent.status.as_ref().is_none_or(|old| !status::same(old, &status)) {
            self.send(&status).await?;
            if let Some(reason) = status::transition(&node.status, ready.is_ok()) {
                self.tell(
                    Type::Normal,
                    reason,
                    format!("Node {} status is now: {reason}", self.name),
                );
            }
            *sent = Sent {
                at: Some(Instant::now()),
                status: Some(status),
                ..std::mem::take(sent)
            };
            self.ready.send_replace(ready.is_ok());
        }
        Ok(ready.is_ok() && sent.pod_cidr == node.spec.pod_cidr)
    }

    /// The node's object; made, or given its labels, if that is lacking.
    async fn registered(&self) -> Result<Option<Arc<Node>>, client::Error> {
        self.node.synced().await;
        let labels = status::labels(&self.name, &self.labels);
        let storage = volumes::storage::root(&self.data_dir).to_string_lossy().into_owned();
        let annotations = BTreeMap::from([(volumes::storage::ANNOTATION.to_owned(), storage)]);
        let Some(node) = self.node.get(&self.at()) else {
            match self
                .client
                .create(&kinds::NODE, None, &status::object(&self.name, &labels, &annotations))
                .await
            {
                Ok(made) => {
                    tracing::info!(node = self.name, "registered this node");
                    self.node.wait_seen(made.resource_version().unwrap_or_default()).await;
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
            return Ok(self.node.get(&self.at()));
        };
        type Marks = BTreeMap<String, String>;
        let lacks = |own: &Marks, wanted: &Marks| wanted.iter().any(|(key, value)| own.get(key) != Some(value));
        if lacks(&node.metadata.labels, &labels) || lacks(&node.metadata.annotations, &annotations) {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels, "annotations": annotations}}));
            self.client.patch(&kinds::NODE, &self.at(), None, patch).await?;
        }
        Ok(Some(node))
    }

    /// Sets up the network for the pod range and tells the runtime, when the range is known or changes.
    async fn take_pod_range(&self, node: &Node, sent: &mut Sent) {
        let range = &node.spec.pod_cidr;
        if range.is_empty() || sent.pod_cidr == *range {
            return;
        }
        if let Err(error) = self.network.ensure(range).await {
            tracing::error!(
                range,
                error = &*error as &dyn std::error::Error,
                "cannot set up the pod network"
            );
            return;
        }
        match self
            .runtime
            .update_config(cri::RuntimeConfig {
                pod_cidr: range.clone(),
            })
            .await
        {
            Ok(()) => {
                sent.pod_cidr.clone_from(range);
                self.network_stands.send_replace(true);
            }
            Err(error) => {
                tracing::warn!(
                    range,
                    error = &error as &dyn std::error::Error,
                    "the runtime does not take the pod range"
                );
            }
        }
    }

    async fn send(&self, status: &Value) -> Result<(), client::Error> {
        let patch = Patch::Strategic(json!({"status": status}));
        let sent = self
            .client
            .patch(&kinds::NODE, &self.at(), Some("status"), patch)
            .await?;
        // The next look must see what we wrote; a slow watch only means that the status is sent once more.
        let seen = self.node.wait_seen(sent.resource_version().unwrap_or_default());
        let _ = tokio::time::timeout(LOOK, seen).await;
        Ok(())
    }
}

/// What is free of the node now, as far as its thresholds ask.
pub(crate) async fn usage(runtime: &dyn cri::Runtime, data_dir: &Path, hard: &EvictionHard) -> Usage {
    let images = match hard.asks_for_images() {
        true => runtime.image_filesystems().await.unwrap_or_default(),
        false => Vec::new(),
    };
    let places = images.into_iter().map(|filesystem| filesystem.mountpoint);
    machine::usage(data_dir, &places.collect::<Vec<_>>())
}

/// This node as events name it: its UID is its name, as the kubelet has it.
pub(crate) fn reference(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "Node".into(),
        uid: name.to_owned(),
        name: name.to_owned(),
        api_version: "v1".into(),
        ..ObjectRef::default()
    }
}

/// What was last sent.
#[derive(Default)]
struct Sent {
    at: Option<Instant>,
    status: Option<Value>,
    pod_cidr: String,
}
