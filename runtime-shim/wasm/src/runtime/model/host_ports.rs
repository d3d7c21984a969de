//! Ports of the node that lead to pods. To lead there is for who programs the node's network: this says what is to lead where.

use std::collections::BTreeMap;

use cri::{HostPorts, PortMapping, SandboxId};
use tokio::sync::watch;

use super::{Model, held_addresses};
use crate::protocol::SandboxRecord;

impl Model {
    /// What of ready sandboxes answers at ports of the node, now and from now on.
    pub(crate) fn host_ports(&self) -> watch::Receiver<BTreeMap<SandboxId, HostPorts>> {
        self.host_ports.subscribe()
    }

    /// Has ports of the node lead to a sandbox, or no longer.
    pub(super) fn lead_host_ports(&self, id: &SandboxId, to: Option<HostPorts>) {
        self.host_ports.send_if_modified(|led| {
            let changed = led.get(id) != to.as_ref();
            match to {
                Some(to) => drop(led.insert(id.clone(), to)),
                None => drop(led.remove(id)),
            }
            changed
        });
    }
}

/// What of a sandbox answers at ports of the node. In the node's own network every port is one already.
pub(super) fn of(record: &SandboxRecord) -> Option<HostPorts> {
    let config = &record.sandbox.config;
    let ports = config.ports.iter().filter(|port| port.host_port != 0).cloned();
    let ports: Vec<PortMapping> = ports.collect();
    if ports.is_empty() {
        return None;
    }
    let (ip, _) = held_addresses(record)?;
    Some(HostPorts {
        namespace: config.namespace.clone(),
        name: config.name.clone(),
        uid: config.uid.clone(),
        ip: ip.into(),
        ports,
    })
}
