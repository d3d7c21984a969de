//! Claims, volumes and storage classes, as far as they say where a pod can run.

use client::Labels;
use serde::Deserialize;

use super::NodeSelector;

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claim {
    pub(crate) metadata: Metadata,
    pub(crate) spec: ClaimSpec,
    pub(crate) status: Phase,
}

/// What of a claim's metadata matters.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) uid: Box<str>,
    pub(crate) deletion_timestamp: Option<Box<str>>,
    pub(crate) annotations: Labels,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimSpec {
    pub(crate) volume_name: Box<str>,
    pub(crate) storage_class_name: Option<Box<str>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Phase {
    pub(crate) phase: Box<str>,
}

/// The node that was chosen for a claim's first pod.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

impl Claim {
    /// It has its volume.
    pub(crate) fn is_bound(&self) -> bool {
        &*self.status.phase == "Bound" && !self.spec.volume_name.is_empty()
    }

    /// The node that was chosen for its first pod.
    pub(crate) fn selected_node(&self) -> Option<&str> {
        self.metadata.annotations.get(SELECTED_NODE)
    }
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    spec: VolumeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeSpec {
    node_affinity: Option<VolumeAffinity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct VolumeAffinity {
    required: Option<NodeSelector>,
}

impl Volume {
    /// The nodes it can be used on; `None`: all.
    pub(crate) fn nodes(&self) -> Option<&NodeSelector> {
        self.spec.node_affinity.as_ref()?.required.as_ref()
    }
}

/// A StorageClass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StorageClass {
    pub(crate) volume_binding_mode: Box<str>,
    allowed_topologies: Box<[TopologyTerm]>,
}

/// Labels that a node has to have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TopologyTerm {
    match_label_expressions: Box<[TopologyExpression]>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TopologyExpression {
    key: Box<str>,
    values: Box<[Box<str>]>,
}

impl StorageClass {
    /// Its volumes may be made for a node with these labels.
    pub(crate) fn allows(&self, labels: &Labels) -> bool {
        let has = |expression: &TopologyExpression| {
            labels
                .get(&expression.key)
                .is_some_and(|value| expression.values.iter().any(|allowed| **allowed == *value))
        };
        let terms = &self.allowed_topologies;
        terms.is_empty() || terms.iter().any(|term| term.match_label_expressions.iter().all(has))
    }

    /// Its claims are bound where their first pod runs.
    pub(crate) fn waits_for_consumer(&self) -> bool {
        &*self.volume_binding_mode == "WaitForFirstConsumer"
    }
}
