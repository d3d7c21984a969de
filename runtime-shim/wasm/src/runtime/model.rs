//! What the agent knows of all sandboxes and containers, as their hosts told it. Pure: changes in, events out.
//!
//! The hosts hold the truth; this is a copy, rebuilt from them when the agent starts. Two things are the agent's own: which
//! addresses are taken (they follow from the records), and which creations are under way, so that a repeated one gets the
//! id and the address of the first.

mod host_ports;
mod truth;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    time::Duration,
};

use cri::{Container, ContainerId, ContainerState, Event, HostPorts, Sandbox, SandboxId, SandboxState};
use ipnet::Ipv4Net;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

pub(crate) use self::truth::{Origin, Untrue};
use super::addresses::{Addresses, NoneLeft, loopback_half, wasm_half};
use crate::protocol::{Change, ContainerRecord, Network, SandboxRecord, packed::Packed};

/// A sandbox host's id.
pub(crate) type HostId = std::sync::Arc<str>;

/// What a host has told while a snapshot of it was read.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    sandboxes: BTreeSet<SandboxId>,
    containers: BTreeSet<ContainerId>,
}

impl Seen {
    /// Notes what is told of; false if it was told of before.
    pub(crate) fn note(&mut self, change: &Change) -> bool {
        match change {
            Change::Sandbox(record) => self.sandboxes.insert(record.sandbox.id.clone()),
            Change::SandboxRemoved(id) => self.sandboxes.insert(id.clone()),
            Change::Container(record) => self.containers.insert(record.container.id.clone()),
            Change::ContainerRemoved(id) => self.containers.insert(id.clone()),
        }
    }
}

/// By what a sandbox's creation is known to be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SandboxKey {
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
}

impl SandboxKey {
    pub(crate) fn of(config: &cri::SandboxConfig) -> Self {
        let cri::SandboxConfig {
            namespace,
            name,
            uid,
            attempt,
            ..
        } = config.clone();
        Self {
            namespace,
            name,
            uid,
            attempt,
        }
    }
}

/// By what a container's creation is known to be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ContainerKey {
    sandbox: SandboxId,
    name: String,
    attempt: u32,
}

impl ContainerKey {
    pub(crate) fn of(sandbox: &SandboxId, config: &cri::ContainerConfig) -> Self {
        Self {
            sandbox: sandbox.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
        }
    }
}

/// A record and the host that holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held<R> {
    pub(crate) host: HostId,
    pub(crate) record: R,
}

/// The same as it rests.
#[derive(Debug, PartialEq)]
struct Kept<R> {
    host: HostId,
    record: Packed<R>,
}

impl<R: Serialize + DeserializeOwned> Kept<R> {
    fn new(host: &HostId, record: &R) -> Self {
        Self {
            host: host.clone(),
            record: Packed::new(record),
        }
    }

    fn held(&self) -> Option<Held<R>> {
        let record = self.record.unpack()?;
        let host = self.host.clone();
        Some(Held { host, record })
    }
}

/// A container's record, and the sandbox it is in.
#[derive(Debug)]
struct KeptContainer {
    kept: Kept<ContainerRecord>,
    sandbox: SandboxId,
}

/// A sandbox that is being made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) id: SandboxId,
    pub(crate) network: Network,
}

/// What a create call is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Creation<T, P> {
    /// It was made before.
    Exists(T),
    /// It is to be made, perhaps once more.
    Make(P),
}

/// The copy.
#[derive(Debug)]
pub(crate) struct Model {
    sandboxes: BTreeMap<SandboxId, Kept<SandboxRecord>>,
    containers: BTreeMap<ContainerId, KeptContainer>,
    sandbox_keys: HashMap<SandboxKey, SandboxId>,
    container_keys: HashMap<ContainerKey, ContainerId>,
    pending_sandboxes: HashMap<SandboxKey, Pending>,
    pending_containers: HashMap<ContainerKey, ContainerId>,
    /// `None` until the node's pod range is known.
    pod_addresses: Option<Addresses>,
    /// What stands for 127.0.0.1 in each pod.
    loopbacks: Addresses,
    /// Where pods are, if that is a part of 127.0.0.0/8.
    loopback_pods: Option<Ipv4Net>,
    /// What of ready sandboxes answers at ports of the node.
    host_ports: watch::Sender<BTreeMap<SandboxId, HostPorts>>,
}

impl Model {
    /// An empty model that gives out `loopbacks`.
    pub(crate) fn new(loopbacks: Addresses) -> Self {
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            sandbox_keys: HashMap::new(),
            container_keys: HashMap::new(),
            pending_sandboxes: HashMap::new(),
            pending_containers: HashMap::new(),
            pod_addresses: None,
            loopbacks,
            loopback_pods: None,
            host_ports: watch::Sender::default(),
        }
    }

    /// Sets or changes the node's range, of which Wasm pods have the lower half.
    pub(crate) fn set_node_range(&mut self, range: Ipv4Net) {
        let pods = wasm_half(range);
        self.set_pod_range(pods);
        if let Some(loopbacks) = loopback_half(range) {
            self.loopbacks.change_range(loopbacks);
            self.loopback_pods = Some(pods);
        }
    }

    /// The part of 127.0.0.0/8 where pods are, which they may dial; their own loopback addresses lie outside of it.
    pub(crate) fn loopback_pods(&self) -> Option<Ipv4Net> {
        self.loopback_pods
    }

    /// Sets or changes the range that pods get addresses of.
    pub(crate) fn set_pod_range(&mut self, range: Ipv4Net) {
        match &mut self.pod_addresses {
            Some(addresses) => addresses.change_range(range),
            None => {
                let mut addresses = Addresses::of(range);
                self.sandboxes
                    .values()
                    .filter_map(|kept| held_addresses(&kept.record.unpack()?))
                    .for_each(|(pod, _)| addresses.hold(pod));
                self.pod_addresses = Some(addresses);
            }
        }
    }

    pub(crate) fn has_pod_range(&self) -> bool {
        self.pod_addresses.is_some()
    }

    pub(crate) fn sandbox(&self, id: &SandboxId) -> Option<Held<SandboxRecord>> {
        self.sandboxes.get(id)?.held()
    }

    pub(crate) fn container(&self, id: &ContainerId) -> Option<Held<ContainerRecord>> {
        self.containers.get(id)?.kept.held()
    }

    /// Whether a container is known.
    pub(crate) fn has_container(&self, id: &ContainerId) -> bool {
        self.containers.contains_key(id)
    }

    /// The sandbox that a container is in.
    pub(crate) fn sandbox_of(&self, id: &ContainerId) -> Option<&SandboxId> {
        self.containers.get(id).map(|container| &container.sandbox)
    }

    pub(crate) fn sandbox_ids(&self) -> impl Iterator<Item = &SandboxId> {
        self.sandboxes.keys()
    }

    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = Sandbox> {
        self.sandboxes
            .values()
            .filter_map(|kept| Some(kept.record.unpack()?.sandbox))
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = Container> {
        let records = self
            .containers
            .values()
            .filter_map(|container| container.kept.record.unpack());
        records.map(|record| record.container)
    }

    /// The ids of what a host holds.
    pub(crate) fn held_by(&self, host: &HostId) -> (BTreeSet<SandboxId>, BTreeSet<ContainerId>) {
        let sandboxes = self
            .sandboxes
            .iter()
            .filter(|(_, held)| held.host == *host)
            .map(|(id, _)| id.clone());
        let containers = self
            .containers
            .iter()
            .filter(|(_, container)| container.kept.host == *host)
            .map(|(id, _)| id.clone());
        (sandboxes.collect(), containers.collect())
    }

    /// Whether a host holds nothing.
    pub(crate) fn is_empty(&self, host: &HostId) -> bool {
        !self.sandboxes.values().any(|kept| kept.host == *host)
            && !self.containers.values().any(|container| container.kept.host == *host)
    }

    /// Begins or repeats making a sandbox. `fresh` makes an id; `network` takes addresses.
    pub(crate) fn begin_sandbox(
        &mut self,
        config: &cri::SandboxConfig,
        fresh: impl FnOnce() -> SandboxId,
        network: impl FnOnce(&mut Self) -> Result<Network, NetworkError>,
    ) -> Result<Creation<Sandbox, Pending>, NetworkError> {
        let key = SandboxKey::of(config);
        if let Some(held) = self.sandbox_keys.get(&key).and_then(|id| self.sandbox(id)) {
            return Ok(Creation::Exists(held.record.sandbox));
        }
        if let Some(pending) = self.pending_sandboxes.get(&key) {
            return Ok(Creation::Make(pending.clone()));
        }
        let pending = Pending {
            id: fresh(),
            network: network(self)?,
        };
        self.pending_sandboxes.insert(key, pending.clone());
        Ok(Creation::Make(pending))
    }

    /// The sandbox was not made and will not be.
    pub(crate) fn abandon_sandbox(&mut self, config: &cri::SandboxConfig, now: Duration) {
        if let Some(pending) = self.pending_sandboxes.remove(&SandboxKey::of(config)) {
            self.give_back(&pending.network, now);
        }
    }

    /// An address of the pods' range and one that stands for its loopback.
    pub(crate) fn take_addresses(&mut self, now: Duration) -> Result<(Ipv4Addr, Ipv4Addr), NetworkError> {
        let pods = self.pod_addresses.as_mut().ok_or(NetworkError::NoRange)?;
        let pod = pods.take(now)?;
        match self.loopbacks.take(now) {
            Ok(loopback) => Ok((pod, loopback)),
            Err(error) => {
                pods.give_back(pod, now);
                Err(error.into())
            }
        }
    }

    /// Begins or repeats making a container.
    pub(crate) fn begin_container(
        &mut self,
        sandbox: &SandboxId,
        config: &cri::ContainerConfig,
        fresh: impl FnOnce() -> ContainerId,
    ) -> Creation<ContainerId, ContainerId> {
        let key = ContainerKey::of(sandbox, config);
        match self.container_keys.get(&key) {
            Some(id) => Creation::Exists(id.clone()),
            None => Creation::Make(self.pending_containers.entry(key).or_insert_with(fresh).clone()),
        }
    }

    /// The container was not made and will not be.
    pub(crate) fn abandon_container(&mut self, sandbox: &SandboxId, config: &cri::ContainerConfig) {
        self.pending_containers.remove(&ContainerKey::of(sandbox, config));
    }

    /// Takes over what a host says has changed. A host is not trusted with what other hosts hold.
    pub(crate) fn apply(&mut self, origin: &Origin, change: Change, now: Duration) -> Result<Option<Event>, Untrue> {
        match &change {
            Change::Sandbox(record) => self.check_sandbox(origin, record)?,
            Change::Container(record) => self.check_container(origin, record)?,
            Change::SandboxRemoved(id) => {
                truth::check_holder(origin, &id.0, self.sandboxes.get(id).map(|kept| &kept.host))?
            }
            Change::ContainerRemoved(id) => truth::check_holder(
                origin,
                &id.0,
                self.containers.get(id).map(|container| &container.kept.host),
            )?,
        }
        Ok(match change {
            Change::Sandbox(record) => self.apply_sandbox(&origin.host, *record, now),
            Change::Container(record) => self.apply_container(&origin.host, *record),
            removed => self.forget(removed, now),
        })
    }

    /// Forgets what was removed.
    pub(crate) fn forget(&mut self, removed: Change, now: Duration) -> Option<Event> {
        match removed {
            Change::SandboxRemoved(id) => self.remove_sandbox(&id, now),
            Change::ContainerRemoved(id) => self.remove_container(&id),
            Change::Sandbox(_) | Change::Container(_) => None,
        }
    }

    /// Forgets what a host held and a snapshot has not shown.
    pub(crate) fn sweep(&mut self, origin: &Origin, seen: &Seen, now: Duration) -> Vec<Event> {
        let (sandboxes, containers) = self.held_by(&origin.host);
        let containers = containers
            .difference(&seen.containers)
            .cloned()
            .map(Change::ContainerRemoved);
        let sandboxes = sandboxes
            .difference(&seen.sandboxes)
            .cloned()
            .map(Change::SandboxRemoved);
        containers
            .chain(sandboxes)
            .filter_map(|removed| self.forget(removed, now))
            .collect()
    }

    fn apply_sandbox(&mut self, host: &HostId, record: SandboxRecord, now: Duration) -> Option<Event> {
        let key = SandboxKey::of(&record.sandbox.config);
        let id = record.sandbox.id.clone();
        let was_pending = self.pending_sandboxes.remove(&key).is_some();
        match record.sandbox.state {
            SandboxState::Ready => self.hold(&record.network),
            SandboxState::NotReady if was_pending || self.is_ready(&id) => self.give_back(&record.network, now),
            // It gave its address back before; another one may have it.
            SandboxState::NotReady => {}
        }
        self.sandbox_keys.insert(key, id.clone());
        self.lead_host_ports(&id, host_ports::of(&record));
        let kept = Kept::new(host, &record);
        let known = self.sandboxes.get(&id) == Some(&kept);
        self.sandboxes.insert(id.clone(), kept);
        let pod_uid = record.sandbox.config.uid;
        (!known).then_some(Event::Sandbox { id, pod_uid })
    }

    fn apply_container(&mut self, host: &HostId, record: ContainerRecord) -> Option<Event> {
        let container = &record.container;
        let key = ContainerKey::of(&container.sandbox, &container.config);
        self.pending_containers.remove(&key);
        let id = container.id.clone();
        let event = Event::Container {
            id: id.clone(),
            pod_uid: container.pod_uid.clone(),
            state: container.state,
        };
        self.container_keys.insert(key, id.clone());
        let kept = Kept::new(host, &record);
        let known = self.containers.get(&id).is_some_and(|before| before.kept == kept);
        let sandbox = record.container.sandbox;
        self.containers.insert(id, KeptContainer { kept, sandbox });
        (!known).then_some(event)
    }

    fn remove_sandbox(&mut self, id: &SandboxId, now: Duration) -> Option<Event> {
        let was_ready = self.is_ready(id);
        let record = self.sandboxes.remove(id)?.record.unpack()?;
        self.sandbox_keys.remove(&SandboxKey::of(&record.sandbox.config));
        self.lead_host_ports(id, None);
        if was_ready {
            self.give_back(&record.network, now);
        }
        Some(Event::Sandbox {
            id: id.clone(),
            pod_uid: record.sandbox.config.uid,
        })
    }

    fn remove_container(&mut self, id: &ContainerId) -> Option<Event> {
        let record = self.containers.remove(id)?.kept.record.unpack()?;
        let container = record.container;
        self.container_keys
            .remove(&ContainerKey::of(&container.sandbox, &container.config));
        Some(Event::Sandbox {
            id: container.sandbox,
            pod_uid: container.pod_uid,
        })
    }

    /// The ids of a sandbox's containers.
    pub(crate) fn containers_of(&self, sandbox: &SandboxId) -> Vec<ContainerId> {
        let of = self.containers.iter().filter(|(_, held)| held.sandbox == *sandbox);
        of.map(|(id, _)| id.clone()).collect()
    }

    fn is_ready(&self, id: &SandboxId) -> bool {
        let held = self.sandbox(id);
        held.is_some_and(|held| held.record.sandbox.state == SandboxState::Ready)
    }

    fn hold(&mut self, network: &Network) {
        if let Network::Pod { address, loopback, .. } = network {
            if let Some(pods) = &mut self.pod_addresses {
                pods.hold(*address);
            }
            self.loopbacks.hold(*loopback);
        }
    }

    fn give_back(&mut self, network: &Network, now: Duration) {
        if let Network::Pod { address, loopback, .. } = network {
            if let Some(pods) = &mut self.pod_addresses {
                pods.give_back(*address, now);
            }
            self.loopbacks.give_back(*loopback, now);
        }
    }
}

/// A sandbox cannot be given an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("the node has no pod range yet")]
    NoRange,
    #[error(transparent)]
    NoneLeft(#[from] NoneLeft),
}

fn held_addresses(record: &SandboxRecord) -> Option<(Ipv4Addr, Ipv4Addr)> {
    match (record.sandbox.state, &record.network) {
        (SandboxState::Ready, Network::Pod { address, loopback, .. }) => Some((*address, *loopback)),
        _ => None,
    }
}

/// What is left of a container when its host is gone: what it had recorded, or that nobody knows.
pub(crate) fn after_loss(mut record: ContainerRecord, lost_at: i64, cause: &str) -> ContainerRecord {
    let container = &mut record.container;
    if container.state < ContainerState::Exited {
        container.state = ContainerState::Unknown;
        container.finished_at = lost_at;
        container.exit_code = 255;
        container.reason = "ContainerStatusUnknown".to_owned();
        container.message = format!("the sandbox host that ran the container is gone: {cause}");
    }
    record
}

#[cfg(test)]
mod tests;
