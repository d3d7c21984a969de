//! Claims, volumes, their classes, and the classes of their attributes.

use api::{LabelSelector, Quantity};
use client::Meta;
use serde::Deserialize;
use serde_json::Value;

use super::Selector;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PersistentVolumeClaim {
    pub(crate) metadata: Meta,
    pub(crate) spec: ClaimSpec,
    pub(crate) status: ClaimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimSpec {
    pub(crate) access_modes: Vec<Box<str>>,
    /// `None`: no class was named and there was no default; empty: expressly none.
    pub(crate) storage_class_name: Option<Box<str>>,
    pub(crate) volume_name: Box<str>,
    pub(crate) volume_mode: Box<str>,
    pub(crate) selector: Option<Selector>,
    pub(crate) resources: Requests,
    pub(crate) volume_attributes_class_name: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requests {
    pub(crate) requests: Storage,
}

/// A resource list, of which storage counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Storage {
    pub(crate) storage: Box<str>,
}

impl Storage {
    /// Bytes; 0 where nothing is said.
    pub(crate) fn bytes(&self) -> i64 {
        self.storage.parse::<Quantity>().map_or(0, |q| q.value())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimStatus {
    pub(crate) phase: Box<str>,
    pub(crate) current_volume_attributes_class_name: Box<str>,
    pub(crate) modify_volume_status: ModifyVolumeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ModifyVolumeStatus {
    pub(crate) target_volume_attributes_class_name: Box<str>,
}

impl PersistentVolumeClaim {
    /// The classes of attributes that it has, wants, or is on its way to.
    pub(crate) fn attributes_classes(&self) -> [&str; 3] {
        [
            &self.spec.volume_attributes_class_name,
            &self.status.current_volume_attributes_class_name,
            &self.status.modify_volume_status.target_volume_attributes_class_name,
        ]
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PersistentVolume {
    pub(crate) metadata: Meta,
    pub(crate) spec: VolumeSpec,
    pub(crate) status: VolumeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeSpec {
    pub(crate) capacity: Storage,
    pub(crate) access_modes: Vec<Box<str>>,
    pub(crate) claim_ref: Option<ClaimRef>,
    pub(crate) persistent_volume_reclaim_policy: Box<str>,
    pub(crate) storage_class_name: Box<str>,
    pub(crate) volume_mode: Box<str>,
    pub(crate) node_affinity: Option<NodeAffinity>,
    pub(crate) volume_attributes_class_name: Box<str>,
    pub(crate) csi: Option<CsiSource>,
}

/// Of a driver's volume, what names it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsiSource {
    pub(crate) driver: Box<str>,
    pub(crate) volume_handle: Box<str>,
}

/// A storage driver as the cluster knows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CsiDriver {
    pub(crate) spec: CsiDriverSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsiDriverSpec {
    pub(crate) attach_required: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeAttachment {
    pub(crate) metadata: Meta,
    pub(crate) spec: AttachmentSpec,
    pub(crate) status: AttachmentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AttachmentSpec {
    pub(crate) node_name: Box<str>,
    pub(crate) source: AttachmentSource,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AttachmentSource {
    pub(crate) persistent_volume_name: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AttachmentStatus {
    pub(crate) attached: bool,
    pub(crate) attach_error: Option<AttachError>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AttachError {
    pub(crate) message: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeStatus {
    pub(crate) phase: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimRef {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
}

/// Where a volume can be used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAffinity {
    required: Terms,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terms {
    node_selector_terms: Vec<Term>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    match_expressions: Vec<Value>,
    match_fields: Vec<Value>,
}

impl NodeAffinity {
    /// Whether one of the terms accepts the node.
    pub(crate) fn accepts(&self, node: &Meta) -> bool {
        let field = |key: &str| (key == "metadata.name").then_some(&*node.name);
        self.required.node_selector_terms.iter().any(|term| {
            let some = !term.match_expressions.is_empty() || !term.match_fields.is_empty();
            some && selects(&term.match_expressions, |key| node.labels.get(key)) && selects(&term.match_fields, field)
        })
    }
}

fn selects<'a>(expressions: &[Value], of: impl Fn(&str) -> Option<&'a str>) -> bool {
    let selector = serde_json::json!({ "matchExpressions": expressions });
    LabelSelector::from_json(&selector).is_ok_and(|selector| selector.matches(of))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StorageClass {
    pub(crate) metadata: Meta,
    pub(crate) provisioner: Box<str>,
    pub(crate) reclaim_policy: Option<Box<str>>,
    pub(crate) volume_binding_mode: Box<str>,
    pub(crate) mount_options: Vec<Box<str>>,
}

impl StorageClass {
    /// A claim waits for its first pod to be given a node.
    pub(crate) fn waits_for_consumer(&self) -> bool {
        &*self.volume_binding_mode == "WaitForFirstConsumer"
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeAttributesClass {
    pub(crate) metadata: Meta,
}
