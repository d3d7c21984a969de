//! What the scheduler keeps of pods and nodes: only the fields that its plugins read, with a pod's requests summed up
//! when it is decoded. Everything else, heartbeats above all, is left out, so that equal views mean that nothing
//! relevant has changed.

mod affinity;
mod pod;
mod resources;
mod storage;

use client::Labels;
use serde::Deserialize;

pub(crate) use self::{
    affinity::{Affinity, NodeSelector, PodTerm},
    pod::{HostPort, Pod, Spread},
    resources::{Requests, ResourceList},
    storage::{Claim, SELECTED_NODE, StorageClass, Volume},
};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: NodeMeta,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeMeta {
    pub(crate) name: Box<str>,
    pub(crate) labels: Labels,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSpec {
    pub(crate) unschedulable: bool,
    pub(crate) taints: Box<[Taint]>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeStatus {
    pub(crate) allocatable: ResourceList,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: Box<str>,
    pub(crate) value: Box<str>,
    pub(crate) effect: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Toleration {
    pub(crate) key: Box<str>,
    pub(crate) operator: Box<str>,
    pub(crate) value: Box<str>,
    pub(crate) effect: Box<str>,
}

impl Toleration {
    /// Whether this toleration covers the taint: an empty effect covers all effects, an empty key with `Exists` all keys.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        let key = self.key.is_empty() || self.key == taint.key;
        effect && key && (&*self.operator == "Exists" || (!self.key.is_empty() && self.value == taint.value))
    }
}
