//! What a driver is asked for a volume. Pure.

use std::collections::BTreeMap;

use ::csi::v1::{
    CapacityRange, NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability,
    volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
};

use super::{
    Driver,
    source::{DriverObject, Source},
};
use crate::pod::Pod;

/// Keys of the context by which drivers learn of the pod, and of tokens.
const POD: &str = "csi.storage.k8s.io/pod.name";
const NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const UID: &str = "csi.storage.k8s.io/pod.uid";
const ACCOUNT: &str = "csi.storage.k8s.io/serviceAccount.name";
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
pub(super) const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// What was read for a volume beforehand.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// Of the attachment.
    pub(super) publish_context: BTreeMap<String, String>,
    pub(super) stage_secrets: BTreeMap<String, String>,
    pub(super) publish_secrets: BTreeMap<String, String>,
    /// Tokens of the pod's service account, as the driver reads them.
    pub(super) tokens: Option<String>,
    /// The group that the driver itself is to give the volume to.
    pub(super) group: Option<String>,
}

/// How the volume is used: its first access mode, as drivers name them.
pub(crate) fn access_mode(modes: &[String], tells_writers_apart: bool) -> Mode {
    match modes.first().map(String::as_str) {
        Some("ReadOnlyMany") => Mode::MultiNodeReaderOnly,
        Some("ReadWriteMany") => Mode::MultiNodeMultiWriter,
        Some("ReadWriteOncePod") if tells_writers_apart => Mode::SingleNodeSingleWriter,
        _ if tells_writers_apart => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    }
}

/// The same with how it is mounted.
pub(crate) fn capability(source: &Source, tells_writers_apart: bool, group: Option<&str>) -> VolumeCapability {
    let mode = access_mode(&source.access_modes, tells_writers_apart);
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: source.fs_type.clone(),
            mount_flags: source.mount_options.clone(),
            volume_mount_group: group.unwrap_or_default().to_owned(),
        })),
    }
}

pub(super) fn stage(source: &Source, driver: &Driver, given: &Given, path: &str) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: source.handle.clone(),
        publish_context: given.publish_context.clone(),
        staging_target_path: path.to_owned(),
        volume_capability: Some(capability(source, driver.tells_writers_apart, given.group.as_deref())),
        secrets: given.stage_secrets.clone(),
        volume_context: source.attributes.clone(),
    }
}

/// `staged`: where, if the driver stages.
pub(super) fn publish(
    source: &Source,
    (driver, object): (&Driver, Option<&DriverObject>),
    pod: &Pod,
    given: &Given,
    (staged, target): (Option<&str>, &str),
) -> NodePublishVolumeRequest {
    let mut volume_context = source.attributes.clone();
    if object.is_some_and(|object| object.spec.pod_info_on_mount) {
        let meta = &pod.metadata;
        let facts = [
            (POD, &*meta.name),
            (NAMESPACE, &*meta.namespace),
            (UID, &*meta.uid),
            (ACCOUNT, pod.service_account()),
            (EPHEMERAL, if source.ephemeral { "true" } else { "false" }),
        ];
        volume_context.extend(facts.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let mut secrets = given.publish_secrets.clone();
    if let Some(tokens) = &given.tokens {
        let hidden = object.is_some_and(|object| object.spec.service_account_token_in_secrets);
        let place = if hidden { &mut secrets } else { &mut volume_context };
        place.insert(TOKENS.to_owned(), tokens.clone());
    }
    NodePublishVolumeRequest {
        volume_id: source.handle.clone(),
        publish_context: given.publish_context.clone(),
        staging_target_path: staged.unwrap_or_default().to_owned(),
        target_path: target.to_owned(),
        volume_capability: Some(capability(source, driver.tells_writers_apart, given.group.as_deref())),
        readonly: source.read_only,
        secrets,
        volume_context,
    }
}

/// To make the file system grow to so many bytes.
pub(super) fn expand(
    source: &Source,
    driver: &Driver,
    bytes: i64,
    secrets: BTreeMap<String, String>,
    (staged, target): (Option<&str>, &str),
) -> NodeExpandVolumeRequest {
    NodeExpandVolumeRequest {
        volume_id: source.handle.clone(),
        volume_path: target.to_owned(),
        capacity_range: Some(CapacityRange {
            required_bytes: bytes,
            limit_bytes: 0,
        }),
        staging_target_path: staged.unwrap_or_default().to_owned(),
        volume_capability: Some(capability(source, driver.tells_writers_apart, None)),
        secrets,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).expect("pod")
    }

    fn source() -> Source {
        Source {
            handle: "h".into(),
            fs_type: "ext4".into(),
            attributes: [("size".to_owned(), "1".to_owned())].into(),
            access_modes: vec!["ReadWriteOnce".into()],
            mount_options: vec!["noatime".into()],
            read_only: true,
            ..Source::default()
        }
    }

    fn object(spec: serde_json::Value) -> DriverObject {
        serde_json::from_value(json!({ "spec": spec })).expect("driver")
    }

    #[test]
    fn access_modes_are_told_as_finely_as_the_driver_understands() {
        let mode = |mode: &str, fine| access_mode(&[mode.to_owned()], fine);
        assert_eq!(mode("ReadWriteOnce", false), Mode::SingleNodeWriter);
        assert_eq!(mode("ReadWriteOncePod", false), Mode::SingleNodeWriter);
        assert_eq!(mode("ReadWriteOnce", true), Mode::SingleNodeMultiWriter);
        assert_eq!(mode("ReadWriteOncePod", true), Mode::SingleNodeSingleWriter);
        assert_eq!(mode("ReadOnlyMany", true), Mode::MultiNodeReaderOnly);
        assert_eq!(mode("ReadWriteMany", false), Mode::MultiNodeMultiWriter);
    }

    #[tokio::test]
    async fn a_driver_learns_of_the_pod_and_its_tokens_only_where_it_says_so() {
        let driver = Driver::new(::csi::Link::new(Path::new("/none")), "d");
        let given = Given {
            tokens: Some("{}".into()),
            publish_secrets: [("k".to_owned(), "s".to_owned())].into(),
            ..Given::default()
        };
        let made = |spec| {
            publish(
                &source(),
                (&driver, Some(&object(spec))),
                &pod(),
                &given,
                (Some("/s"), "/t"),
            )
        };
        let silent = made(json!({}));
        assert!(silent.readonly && silent.secrets.len() == 1);
        assert_eq!((&*silent.staging_target_path, &*silent.target_path), ("/s", "/t"));
        let keys: Vec<&str> = silent.volume_context.keys().map(String::as_str).collect();
        assert_eq!(keys, [TOKENS, "size"]);
        let informed = made(json!({"podInfoOnMount": true, "serviceAccountTokenInSecrets": true}));
        assert_eq!(informed.volume_context[POD], "p");
        assert_eq!(informed.volume_context[ACCOUNT], "default");
        assert_eq!(informed.volume_context[EPHEMERAL], "false");
        assert!(informed.secrets.contains_key(TOKENS) && !informed.volume_context.contains_key(TOKENS));
    }

    #[tokio::test]
    async fn staging_takes_the_volumes_own_and_nothing_of_the_pod() {
        let driver = Driver::new(::csi::Link::new(Path::new("/none")), "d");
        let given = Given {
            publish_context: [("device".to_owned(), "sda".to_owned())].into(),
            group: Some("2000".into()),
            ..Given::default()
        };
        let made = stage(&source(), &driver, &given, "/s");
        assert_eq!(made.publish_context["device"], "sda");
        assert_eq!(made.volume_context.len(), 1);
        let Some(AccessType::Mount(mount)) = made.volume_capability.and_then(|c| c.access_type) else {
            panic!("a file system");
        };
        assert_eq!((&*mount.fs_type, &*mount.volume_mount_group), ("ext4", "2000"));
        assert_eq!(mount.mount_flags, ["noatime"]);
    }
}
