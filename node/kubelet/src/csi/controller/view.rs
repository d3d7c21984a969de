//! What is read of the API for a driver's controller service.

use std::collections::BTreeMap;

use api::Quantity;
use client::Meta;
use serde::Deserialize;
use serde_json::Value;

/// `PersistentVolumeClaim`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Claim {
    pub(super) metadata: Meta,
    pub(super) spec: ClaimSpec,
    pub(super) status: ClaimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimStatus {
    pub(super) phase: String,
    pub(super) capacity: Storage,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClaimSpec {
    pub(super) access_modes: Vec<String>,
    pub(super) storage_class_name: String,
    pub(super) volume_name: String,
    pub(super) volume_mode: String,
    pub(super) resources: Requests,
    pub(super) data_source: Option<Value>,
    pub(super) data_source_ref: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requests {
    pub(super) requests: Storage,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Storage {
    pub(super) storage: String,
}

impl Storage {
    /// 0, where nothing is said.
    pub(super) fn bytes(&self) -> i64 {
        self.storage.parse::<Quantity>().map_or(0, |quantity| quantity.value())
    }
}

/// `PersistentVolume`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Volume {
    pub(super) metadata: Meta,
    pub(super) spec: VolumeSpec,
    pub(super) status: Phase,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VolumeSpec {
    pub(super) persistent_volume_reclaim_policy: String,
    pub(super) capacity: Storage,
    pub(super) access_modes: Vec<String>,
    pub(super) mount_options: Vec<String>,
    pub(super) csi: Option<super::super::source::Persistent>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Phase {
    pub(super) phase: String,
}

/// `StorageClass`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Class {
    pub(super) metadata: Meta,
    pub(super) provisioner: String,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) reclaim_policy: Option<String>,
    pub(super) mount_options: Vec<String>,
}

/// `VolumeAttachment`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attachment {
    pub(super) metadata: Meta,
    pub(super) spec: AttachmentSpec,
    pub(super) status: AttachmentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AttachmentSpec {
    pub(super) attacher: String,
    pub(super) node_name: String,
    pub(super) source: AttachmentSource,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AttachmentSource {
    pub(super) persistent_volume_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AttachmentStatus {
    pub(super) attached: bool,
}

/// `CSINode`, as far as it says what a driver calls the node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CsiNode {
    pub(super) spec: CsiNodeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CsiNodeSpec {
    pub(super) drivers: Vec<CsiNodeDriver>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CsiNodeDriver {
    pub(super) name: String,
    #[serde(rename = "nodeID")]
    pub(super) node_id: String,
    pub(super) topology_keys: Vec<String>,
}

impl CsiNode {
    pub(super) fn driver(&self, name: &str) -> Option<&CsiNodeDriver> {
        self.spec.drivers.iter().find(|driver| driver.name == name)
    }
}
