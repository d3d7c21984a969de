//! Volumes of drivers as the API describes them, and drivers as the cluster knows them. Pure.

use std::collections::BTreeMap;

use api::Quantity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::place;
use crate::pod::{CsiVolume, Pod};

/// A volume to be mounted by its driver.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Source {
    /// Of the PersistentVolume, or of the pod's volume.
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) handle: String,
    pub(crate) read_only: bool,
    pub(crate) fs_type: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) stage_secret: Option<SecretReference>,
    pub(crate) publish_secret: Option<SecretReference>,
    pub(crate) access_modes: Vec<String>,
    pub(crate) mount_options: Vec<String>,
    /// It lives as long as its pod, and is described in it.
    pub(crate) ephemeral: bool,
    /// It is a device without a file system.
    pub(crate) block: bool,
    pub(crate) expand_secret: Option<SecretReference>,
    /// The claim that it is bound to, and how large the two are.
    pub(crate) claim: Option<Sizes>,
}

/// How large a volume is, and how large its claim says it is: they differ until the node has made the file system grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// As the PersistentVolume says it.
    pub(crate) volume: String,
    /// As the claim's status says it.
    pub(crate) claim: String,
    /// The conditions of the claim.
    pub(crate) conditions: Vec<Value>,
}

impl Sizes {
    /// The bytes that the file system is to grow to.
    pub(crate) fn growth(&self) -> Option<i64> {
        let bytes = |text: &str| text.parse::<Quantity>().map_or(0, |quantity| quantity.value());
        let (volume, claim) = (bytes(&self.volume), bytes(&self.claim));
        (claim > 0 && volume > claim).then_some(volume)
    }

    /// What the claim's status says when it has grown.
    pub(crate) fn grown(&self) -> Value {
        let pending = |condition: &&Value| {
            let kind = condition.get("type").and_then(Value::as_str);
            !matches!(kind, Some("FileSystemResizePending" | "Resizing"))
        };
        let conditions: Vec<&Value> = self.conditions.iter().filter(pending).collect();
        json!({"metadata": {"uid": self.uid}, "status": {
            "capacity": {"storage": self.volume}, "conditions": conditions, "allocatedResourceStatuses": null,
        }})
    }
}

/// `SecretReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SecretReference {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// `CSIPersistentVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Persistent {
    pub(crate) driver: String,
    pub(crate) volume_handle: String,
    pub(crate) read_only: bool,
    pub(crate) fs_type: String,
    pub(crate) volume_attributes: BTreeMap<String, String>,
    pub(crate) node_stage_secret_ref: Option<SecretReference>,
    pub(crate) node_publish_secret_ref: Option<SecretReference>,
    pub(crate) node_expand_secret_ref: Option<SecretReference>,
}

impl Source {
    /// Of a PersistentVolume of this name.
    pub(crate) fn persistent(name: &str, spec: Persistent) -> Self {
        Self {
            name: name.to_owned(),
            driver: spec.driver,
            handle: spec.volume_handle,
            read_only: spec.read_only,
            fs_type: spec.fs_type,
            attributes: spec.volume_attributes,
            stage_secret: spec.node_stage_secret_ref,
            publish_secret: spec.node_publish_secret_ref,
            expand_secret: spec.node_expand_secret_ref,
            ..Self::default()
        }
    }

    /// Of a volume that a pod describes.
    pub(crate) fn ephemeral(pod: &Pod, name: &str, spec: &CsiVolume) -> Self {
        let secret = spec.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
            name: secret.name.clone(),
            namespace: pod.metadata.namespace.to_string(),
        });
        Self {
            name: name.to_owned(),
            driver: spec.driver.clone(),
            handle: place::ephemeral_handle(&pod.metadata.uid, name),
            read_only: spec.read_only,
            fs_type: spec.fs_type.clone(),
            attributes: spec.volume_attributes.clone(),
            publish_secret: secret,
            access_modes: vec!["ReadWriteOnce".to_owned()],
            ephemeral: true,
            ..Self::default()
        }
    }

    /// As records and drivers have it.
    pub(crate) fn lifecycle_mode(&self) -> &'static str {
        match self.ephemeral {
            true => "Ephemeral",
            false => "Persistent",
        }
    }
}

/// What the cluster knows of a driver, as its object `CSIDriver` says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct DriverObject {
    pub(crate) metadata: Marks,
    pub(crate) spec: DriverSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Marks {
    pub(crate) annotations: BTreeMap<String, String>,
}

/// `CSIDriverSpec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DriverSpec {
    pub(crate) attach_required: Option<bool>,
    pub(crate) pod_info_on_mount: bool,
    pub(crate) fs_group_policy: String,
    pub(crate) volume_lifecycle_modes: Vec<String>,
    pub(crate) requires_republish: bool,
    pub(crate) token_requests: Vec<TokenRequest>,
    pub(crate) service_account_token_in_secrets: bool,
}

/// A token of the pod's service account that the driver is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TokenRequest {
    pub(crate) audience: String,
    pub(crate) expiration_seconds: Option<i64>,
}

/// Whether a volume has to be attached to the node first. A driver that the cluster knows nothing of needs it.
pub(crate) fn needs_attachment(source: &Source, driver: Option<&DriverObject>) -> bool {
    !source.ephemeral && driver.is_none_or(|driver| driver.spec.attach_required.unwrap_or(true))
}

/// Why a driver may not serve a volume of this kind.
pub(crate) fn lifecycle_refusal(source: &Source, driver: Option<&DriverObject>) -> Option<String> {
    let (mode, name) = (source.lifecycle_mode(), &source.driver);
    let Some(driver) = driver else {
        return source
            .ephemeral
            .then(|| format!("volume mode \"{mode}\" not supported by driver {name} (no CSIDriver object)"));
    };
    let modes = &driver.spec.volume_lifecycle_modes;
    let supported = match modes.is_empty() {
        true => !source.ephemeral,
        false => modes.iter().any(|m| m == mode),
    };
    let only = match modes.is_empty() {
        true => "\"Persistent\"".to_owned(),
        false => modes.iter().map(|m| format!("\"{m}\"")).collect::<Vec<_>>().join(" "),
    };
    (!supported).then(|| format!("volume mode \"{mode}\" not supported by driver {name} (only supports [{only}])"))
}

/// Whether the kubelet gives the volume to the pod's group, if the pod has one.
pub(crate) fn is_shared(source: &Source, driver: Option<&DriverObject>) -> bool {
    let policy = driver.map(|driver| &*driver.spec.fs_group_policy).unwrap_or_default();
    let once = source
        .access_modes
        .iter()
        .any(|m| matches!(&**m, "ReadWriteOnce" | "ReadWriteOncePod"));
    match policy {
        _ if source.read_only => false,
        "None" => false,
        "File" => true,
        _ => !source.fs_type.is_empty() && once,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(spec: Value) -> DriverObject {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).expect("driver")
    }

    fn volume(ephemeral: bool, fs_type: &str, modes: &[&str]) -> Source {
        Source {
            driver: "d".into(),
            fs_type: fs_type.into(),
            access_modes: modes.iter().map(|m| (*m).to_owned()).collect(),
            ephemeral,
            ..Source::default()
        }
    }

    #[test]
    fn a_driver_serves_the_kinds_of_volumes_that_it_names() {
        let (inline, persistent) = (volume(true, "", &[]), volume(false, "", &[]));
        let both = driver(json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"]}));
        let silent = driver(json!({}));
        let inline_only = driver(json!({"volumeLifecycleModes": ["Ephemeral"]}));
        let refused = |source, driver| lifecycle_refusal(source, driver);
        assert_eq!(refused(&inline, Some(&both)), None);
        assert_eq!(refused(&persistent, Some(&both)), None);
        assert_eq!(refused(&persistent, Some(&silent)), None);
        assert_eq!(refused(&persistent, None), None);
        let only = |mode: &str, only: &str| {
            Some(format!(
                "volume mode \"{mode}\" not supported by driver d (only supports [\"{only}\"])"
            ))
        };
        assert_eq!(refused(&inline, Some(&silent)), only("Ephemeral", "Persistent"));
        assert_eq!(
            refused(&persistent, Some(&inline_only)),
            only("Persistent", "Ephemeral")
        );
        assert!(refused(&inline, None).is_some_and(|why| why.ends_with("(no CSIDriver object)")));
    }

    #[test]
    fn attachment_is_the_rule() {
        let (inline, persistent) = (volume(true, "", &[]), volume(false, "", &[]));
        assert!(needs_attachment(&persistent, None));
        assert!(needs_attachment(&persistent, Some(&driver(json!({})))));
        assert!(!needs_attachment(
            &persistent,
            Some(&driver(json!({"attachRequired": false})))
        ));
        assert!(!needs_attachment(&inline, None));
    }

    #[test]
    fn a_volume_grows_to_its_size_and_the_claim_says_so() {
        let sizes = |volume: &str, claim: &str| Sizes {
            volume: volume.into(),
            claim: claim.into(),
            conditions: vec![json!({"type": "FileSystemResizePending"}), json!({"type": "Other"})],
            ..Sizes::default()
        };
        assert_eq!(sizes("1Gi", "1024Mi").growth(), None);
        assert_eq!(sizes("2Gi", "1Gi").growth(), Some(2 << 30));
        assert_eq!(sizes("2Gi", "").growth(), None, "nothing is known of the claim");
        let status = sizes("2Gi", "1Gi").grown()["status"].clone();
        assert_eq!(status["capacity"]["storage"], "2Gi");
        assert_eq!(status["conditions"], json!([{"type": "Other"}]));
    }

    #[test]
    fn the_groups_volume_follows_the_drivers_policy() {
        let cases = [
            ("", "ext4", "ReadWriteOnce", true),
            ("ReadWriteOnceWithFSType", "ext4", "ReadWriteOncePod", true),
            ("ReadWriteOnceWithFSType", "", "ReadWriteOnce", false),
            ("ReadWriteOnceWithFSType", "ext4", "ReadWriteMany", false),
            ("File", "", "ReadWriteMany", true),
            ("None", "ext4", "ReadWriteOnce", false),
        ];
        for (policy, fs_type, mode, want) in cases {
            let driver = driver(json!({"fsGroupPolicy": policy}));
            let mut source = volume(false, fs_type, &[mode]);
            assert_eq!(is_shared(&source, Some(&driver)), want, "{policy} {fs_type} {mode}");
            source.read_only = true;
            assert!(!is_shared(&source, Some(&driver)));
        }
    }
}
