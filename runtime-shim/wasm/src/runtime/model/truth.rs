//! What a host may tell of: its own sandboxes, with the addresses they were given, of pods of its own namespace.
//!
//! A host runs what its tenant brought. Should a guest ever take one over, it must not be able to speak for the pods of
//! others, nor to have an address given out twice.

use cri::SandboxState;

use super::{ContainerKey, HostId, Model, SandboxKey};
use crate::protocol::{ContainerRecord, Network, SandboxRecord};

/// Who tells of a change: a host, and the namespace whose pods it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) host: HostId,
    pub(crate) tenant: String,
}

/// A host tells of what it cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sandbox host {host} tells of {what}: \"{id}\"")]
pub(crate) struct Untrue {
    host: HostId,
    id: String,
    what: &'static str,
}

/// Whether nobody else holds what a host tells of.
pub(super) fn check_holder(origin: &Origin, id: &str, holder: Option<&HostId>) -> Result<(), Untrue> {
    match holder {
        Some(holder) if *holder != origin.host => Err(Untrue {
            host: origin.host.clone(),
            id: id.to_owned(),
            what: "what another host holds",
        }),
        _ => Ok(()),
    }
}

impl Model {
    /// Whether a host may hold this sandbox.
    pub(super) fn check_sandbox(&self, origin: &Origin, record: &SandboxRecord) -> Result<(), Untrue> {
        let sandbox = &record.sandbox;
        let untrue = |what| {
            Err(Untrue {
                host: origin.host.clone(),
                id: sandbox.id.to_string(),
                what,
            })
        };
        let key = SandboxKey::of(&sandbox.config);
        if sandbox.config.namespace != origin.tenant {
            return untrue("a pod of another namespace");
        }
        if self.sandbox_keys.get(&key).is_some_and(|known| *known != sandbox.id) {
            return untrue("a pod that another sandbox holds");
        }
        if let Some(held) = self.sandbox(&sandbox.id) {
            let known = &held.record.sandbox;
            let same = held.record.network == record.network && SandboxKey::of(&known.config) == key;
            // Its address may have gone to another one since it was stopped.
            let revived = known.state == SandboxState::NotReady && sandbox.state == SandboxState::Ready;
            return match same && !revived && held.host == origin.host {
                true => Ok(()),
                false => untrue("a sandbox that is another one"),
            };
        }
        if let Some(pending) = self.pending_sandboxes.get(&key) {
            return match pending.id == sandbox.id && pending.network == record.network {
                true => Ok(()),
                false => untrue("a sandbox that was not asked for"),
            };
        }
        match sandbox.state == SandboxState::Ready && self.is_taken(&record.network) {
            true => untrue("an address that another sandbox has"),
            false => Ok(()),
        }
    }

    /// Whether a host may hold this container.
    pub(super) fn check_container(&self, origin: &Origin, record: &ContainerRecord) -> Result<(), Untrue> {
        let container = &record.container;
        let untrue = |what| {
            Err(Untrue {
                host: origin.host.clone(),
                id: container.id.to_string(),
                what,
            })
        };
        check_holder(
            origin,
            &container.id.0,
            self.containers.get(&container.id).map(|held| &held.kept.host),
        )?;
        let Some(sandbox) = self.sandbox(&container.sandbox).filter(|held| held.host == origin.host) else {
            return untrue("a container in a sandbox it does not hold");
        };
        let key = ContainerKey::of(&container.sandbox, &container.config);
        if self
            .container_keys
            .get(&key)
            .is_some_and(|known| *known != container.id)
        {
            return untrue("a container that another one is");
        }
        match sandbox.record.sandbox.config.uid == container.pod_uid {
            true => Ok(()),
            false => untrue("a container of another pod"),
        }
    }

    /// Whether some sandbox has the addresses.
    pub(super) fn is_taken(&self, network: &Network) -> bool {
        match network {
            Network::Pod { address, loopback, .. } => {
                let pods = self.pod_addresses.as_ref();
                pods.is_some_and(|pods| pods.is_taken(*address)) || self.loopbacks.is_taken(*loopback)
            }
            Network::Node => false,
        }
    }
}
