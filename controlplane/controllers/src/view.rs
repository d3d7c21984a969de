//! What the controllers keep of objects: small structs with the fields that some controller reads, one per kind, so that
//! all controllers share one watch of it.

mod apps;
mod core;
mod network;
mod policy;
mod storage;

use api::LabelSelector;
use serde::{Deserialize, Deserializer};

pub(crate) use self::{
    apps::{Condition, Deployment, DeploymentStatus, IntOrString, POD_TEMPLATE_HASH, ReplicaSet, Template},
    core::{ClaimVolume, Namespace, Node, NodeCondition, Pod, Taint},
    network::{Endpoint, EndpointSlice, Endpoints, For, Hints, Port, Service, ServicePort, TargetRef},
    policy::{BudgetCondition, BudgetStatus, PodDisruptionBudget},
    storage::{
        ClaimRef, CsiDriver, PersistentVolume, PersistentVolumeClaim, StorageClass, VolumeAttachment,
        VolumeAttributesClass,
    },
};

/// A `metav1.LabelSelector`, parsed. Absent or invalid ones select nothing.
#[derive(Clone, Debug)]
pub(crate) struct Selector(pub(crate) LabelSelector);

impl Selector {
    pub(crate) fn matches(&self, labels: &client::Labels) -> bool {
        self.0.matches(|key| labels.get(key))
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self(LabelSelector::nothing())
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(
            LabelSelector::from_json(&value).unwrap_or_else(|_| LabelSelector::nothing()),
        ))
    }
}
