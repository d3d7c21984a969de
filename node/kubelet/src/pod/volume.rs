//! Volumes as the API describes them: the kinds this kubelet prepares, and the name of any other.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{FieldRef, LocalReference, PullPolicy, QuantityText, ResourceFieldRef};

/// `Volume`: one of its sources is set, so they lie apart. Kinds that are not prepared here land in `other`, so that the
/// event can name them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) empty_dir: Option<Box<EmptyDir>>,
    pub(crate) config_map: Option<Box<ConfigMapSource>>,
    pub(crate) secret: Option<Box<SecretSource>>,
    #[serde(rename = "downwardAPI")]
    pub(crate) downward_api: Option<Box<DownwardSource>>,
    pub(crate) projected: Option<Box<ProjectedSource>>,
    pub(crate) host_path: Option<Box<HostPath>>,
    pub(crate) image: Option<Box<ImageSource>>,
    pub(crate) persistent_volume_claim: Option<Box<ClaimSource>>,
    /// A claim that is the pod's own, called `<pod>-<volume>`.
    pub(crate) ephemeral: Option<EphemeralSource>,
    /// A volume that its driver makes for this pod alone.
    pub(crate) csi: Option<Box<CsiVolume>>,
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, Value>,
}

impl Volume {
    /// The kubelet alone writes what is in it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.config_map.is_some() || self.secret.is_some() || self.downward_api.is_some() || self.projected.is_some()
    }
}

/// `ImageVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ImageSource {
    pub(crate) reference: String,
    pub(crate) pull_policy: PullPolicy,
}

/// `PersistentVolumeClaimVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimSource {
    pub(crate) claim_name: String,
    pub(crate) read_only: bool,
}

/// `EphemeralVolumeSource`, of which a kubelet needs to know only that it is one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct EphemeralSource {}

/// `CSIVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsiVolume {
    pub(crate) driver: String,
    pub(crate) read_only: bool,
    pub(crate) fs_type: String,
    pub(crate) volume_attributes: BTreeMap<String, String>,
    pub(crate) node_publish_secret_ref: Option<LocalReference>,
}

/// `EmptyDirVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EmptyDir {
    pub(crate) medium: String,
    pub(crate) size_limit: Option<QuantityText>,
}

/// `ConfigMapVolumeSource` and `ConfigMapProjection`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigMapSource {
    pub(crate) name: String,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) items: Vec<KeyToPath>,
    pub(crate) default_mode: Option<u32>,
    pub(crate) optional: bool,
}

/// `SecretVolumeSource`, and `SecretProjection` whose name stands in `name`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecretSource {
    #[serde(alias = "name")]
    pub(crate) secret_name: String,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) items: Vec<KeyToPath>,
    pub(crate) default_mode: Option<u32>,
    pub(crate) optional: bool,
}

/// `KeyToPath`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct KeyToPath {
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) mode: Option<u32>,
}

/// `DownwardAPIVolumeSource` and `DownwardAPIProjection`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DownwardSource {
    #[serde(deserialize_with = "super::exact")]
    pub(crate) items: Vec<DownwardFile>,
    pub(crate) default_mode: Option<u32>,
}

/// `DownwardAPIVolumeFile`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DownwardFile {
    pub(crate) path: String,
    pub(crate) field_ref: Option<FieldRef>,
    pub(crate) resource_field_ref: Option<ResourceFieldRef>,
    pub(crate) mode: Option<u32>,
}

/// `ProjectedVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProjectedSource {
    #[serde(deserialize_with = "super::exact")]
    pub(crate) sources: Vec<Projection>,
    pub(crate) default_mode: Option<u32>,
}

/// `VolumeProjection`; one of these is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Projection {
    pub(crate) service_account_token: Option<Box<TokenSource>>,
    pub(crate) config_map: Option<Box<ConfigMapSource>>,
    pub(crate) secret: Option<Box<SecretSource>>,
    #[serde(rename = "downwardAPI")]
    pub(crate) downward_api: Option<Box<DownwardSource>>,
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, Value>,
}

/// `ServiceAccountTokenProjection`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TokenSource {
    pub(crate) audience: String,
    pub(crate) expiration_seconds: Option<i64>,
    pub(crate) path: String,
}

/// `HostPathVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct HostPath {
    pub(crate) path: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}
