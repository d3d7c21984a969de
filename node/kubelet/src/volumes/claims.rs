//! Volumes that are claims: which PersistentVolume each is bound to, and where that lies on this node.
//!
//! Reads the API; a claim that is not bound yet is tried again with the rest of the mount.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use api::NamespacedName;
use client::{Client, kinds};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    csi,
    pod::{HostPath, Pod, Volume},
};

/// A claim's place on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    /// What has to be at the path, as for a `hostPath` volume.
    pub(crate) kind: String,
    /// The cluster's own provisioner made it: its directory is made when it is first used.
    pub(crate) provisioned: bool,
    /// A pod's `fsGroup` applies to it, as to `local` volumes and not to `hostPath` ones.
    pub(crate) shares: bool,
    /// What its driver is told, where it has one; the path is then made by mounting it.
    pub(crate) csi: Option<Arc<csi::Source>>,
    /// Its driver is to be called again from time to time.
    pub(crate) again: bool,
    /// It may grow: its claim is read again from time to time.
    pub(crate) expands: bool,
}

impl Claimed {
    /// A volume that its driver has still to mount.
    fn of_driver(source: csi::Source) -> Self {
        Self {
            read_only: source.read_only,
            csi: Some(Arc::new(source)),
            ..Self::default()
        }
    }

    /// The same, read-only if the pod says so and not only if the volume does.
    fn read_only(mut self, wanted: bool) -> Self {
        self.read_only |= wanted;
        if let Some(source) = &mut self.csi {
            Arc::make_mut(source).read_only = self.read_only;
        }
        self
    }
}

/// A claim cannot be mounted; the end of the `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("persistentvolumeclaim \"{0}\" not found")]
    NoClaim(String),
    #[error("persistentvolumeclaim \"{0}\" is not bound")]
    Unbound(String),
    #[error("persistentvolumeclaim \"{0}\" was not created for this pod")]
    NotOurs(String),
    #[error("persistentvolume \"{volume}\" is not bound to claim \"{claim}\"")]
    Misbound { volume: String, claim: String },
    #[error("persistentvolume \"{volume}\" is of a type that is not supported: {kind}")]
    Unsupported { volume: String, kind: String },
    #[error("cannot read what the claim is bound to: {0}")]
    Unread(#[from] client::Error),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim {
    metadata: Metadata,
    spec: ClaimSpec,
    status: ClaimStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimSpec {
    volume_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimStatus {
    phase: String,
    capacity: Capacity,
    conditions: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capacity {
    storage: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PersistentVolume {
    metadata: VolumeMetadata,
    spec: VolumeSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VolumeMetadata {
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VolumeSpec {
    claim_ref: Reference,
    capacity: Capacity,
    csi: Option<csi::Persistent>,
    access_modes: Vec<String>,
    mount_options: Vec<String>,
    volume_mode: String,
    host_path: Option<HostPath>,
    local: Option<HostPath>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    uid: String,
}

/// Of a PersistentVolume's fields, those that are no source.
const NO_SOURCES: [&str; 4] = [
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
];

/// Who made a volume, and the name of the cluster's own provisioner.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: &str = "wherry.dev/local-path";

/// The claim that a volume names: its name, whether it is the pod's own, and whether it is mounted read-only.
fn named(pod: &Pod, volume: &Volume) -> Option<(String, bool, bool)> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some((claim.claim_name.clone(), false, claim.read_only));
    }
    let own = format!("{}-{}", pod.metadata.name, volume.name);
    volume.ephemeral.as_ref().map(|_| (own, true, false))
}

/// Where the claims of a pod lie, by the names of its volumes.
///
/// # Errors
/// The first claim that cannot be followed, with its volume's name.
pub(crate) async fn resolve(client: &Client, pod: &Pod) -> Result<BTreeMap<String, Claimed>, (String, Error)> {
    let mut found = BTreeMap::new();
    for volume in &pod.spec.volumes {
        if let Some(inline) = &volume.csi {
            let source = csi::Source::ephemeral(pod, &volume.name, inline);
            found.insert(volume.name.clone(), Claimed::of_driver(source));
            continue;
        }
        let Some((name, own, read_only)) = named(pod, volume) else {
            continue;
        };
        let claimed = one(client, pod, &name, own)
            .await
            .map_err(|error| (volume.name.clone(), error))?;
        found.insert(volume.name.clone(), claimed.read_only(read_only));
    }
    Ok(found)
}

async fn one(client: &Client, pod: &Pod, name: &str, own: bool) -> Result<Claimed, Error> {
    let at = NamespacedName::new(&pod.metadata.namespace, name);
    let claim: Option<Claim> = client.get_opt(&kinds::PERSISTENT_VOLUME_CLAIM, &at).await?;
    let claim = claim.ok_or_else(|| Error::NoClaim(name.to_owned()))?;
    if own
        && !claim
            .metadata
            .owner_references
            .iter()
            .any(|o| *o.uid == *pod.metadata.uid)
    {
        return Err(Error::NotOurs(name.to_owned()));
    }
    if claim.status.phase != "Bound" || claim.spec.volume_name.is_empty() {
        return Err(Error::Unbound(name.to_owned()));
    }
    let at = NamespacedName::cluster(&claim.spec.volume_name);
    let volume: PersistentVolume = client.get(&kinds::PERSISTENT_VOLUME, &at).await?;
    let sizes = csi::Sizes {
        namespace: pod.metadata.namespace.to_string(),
        name: name.to_owned(),
        uid: claim.metadata.uid.clone(),
        volume: volume.spec.capacity.storage.clone(),
        claim: claim.status.capacity.storage,
        conditions: claim.status.conditions,
    };
    let mut placed = place(volume, name, &claim.metadata.uid, claim.spec.volume_name)?;
    if let Some(source) = &mut placed.csi {
        Arc::make_mut(source).claim = Some(sizes);
    }
    Ok(placed)
}

/// Where a PersistentVolume lies.
fn place(volume: PersistentVolume, claim: &str, uid: &str, name: String) -> Result<Claimed, Error> {
    if volume.spec.claim_ref.uid != uid {
        let claim = claim.to_owned();
        return Err(Error::Misbound { volume: name, claim });
    }
    let kind = |spec: &VolumeSpec| {
        let sources = spec.other.keys().find(|key| !NO_SOURCES.contains(&&***key));
        sources.cloned().unwrap_or_default()
    };
    if let Some(spec) = volume.spec.csi {
        let source = csi::Source {
            access_modes: volume.spec.access_modes,
            mount_options: volume.spec.mount_options,
            block: volume.spec.volume_mode == "Block",
            ..csi::Source::persistent(&name, spec)
        };
        return Ok(Claimed::of_driver(source));
    }
    let provisioned = volume
        .metadata
        .annotations
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    let source = match (&volume.spec.host_path, &volume.spec.local) {
        (Some(host), _) => host.clone(),
        (None, Some(local)) => HostPath {
            path: local.path.clone(),
            kind: "Directory".to_owned(),
        },
        (None, None) => {
            let kind = kind(&volume.spec);
            return Err(Error::Unsupported { volume: name, kind });
        }
    };
    Ok(Claimed {
        path: PathBuf::from(source.path),
        read_only: false,
        kind: source.kind,
        provisioned,
        shares: provisioned || volume.spec.local.is_some(),
        ..Claimed::default()
    })
}

#[cfg(test)]
mod tests {
    use client::fake::Fake;
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}]);
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"volumes": volumes}})).expect("pod")
    }

    #[tokio::test]
    async fn a_claim_is_followed_to_its_volume_and_no_other() {
        let api = Fake::new();
        let resolved = async || resolve(&api.client(), &pod()).await.map_err(|(_, e)| e.to_string());
        assert_eq!(
            resolved().await,
            Err("persistentvolumeclaim \"c\" not found".to_owned())
        );
        let claim = |phase: &str, volume: &str| {
            let metadata = json!({"name": "c", "namespace": "ns", "uid": "claim"});
            json!({"metadata": metadata, "spec": {"volumeName": volume}, "status": {"phase": phase}})
        };
        api.put(&kinds::PERSISTENT_VOLUME_CLAIM, claim("Pending", ""));
        assert_eq!(
            resolved().await,
            Err("persistentvolumeclaim \"c\" is not bound".to_owned())
        );
        let volume = |name: &str, uid: &str, source: Value| {
            let mut spec = source;
            spec["claimRef"] = json!({"uid": uid});
            spec["capacity"] = json!({"storage": "1Gi"});
            json!({"metadata": {"name": name}, "spec": spec})
        };
        api.put(
            &kinds::PERSISTENT_VOLUME,
            volume(
                "v1",
                "claim",
                json!({"hostPath": {"path": "/d", "type": "DirectoryOrCreate"}}),
            ),
        );
        api.put(
            &kinds::PERSISTENT_VOLUME,
            volume("v2", "other", json!({"local": {"path": "/l"}})),
        );
        api.put(
            &kinds::PERSISTENT_VOLUME,
            volume("v3", "claim", json!({"nfs": {"server": "s"}})),
        );
        let bind = |volume: &str| {
            let change = json!({"spec": {"volumeName": volume}, "status": {"phase": "Bound"}});
            api.change(&kinds::PERSISTENT_VOLUME_CLAIM, "ns", "c", &change);
        };
        bind("v1");
        let found = resolved().await.expect("resolves");
        let want = Claimed {
            path: "/d".into(),
            read_only: true,
            kind: "DirectoryOrCreate".into(),
            ..Claimed::default()
        };
        assert_eq!(found.get("data"), Some(&want));
        bind("v2");
        assert_eq!(
            resolved().await,
            Err("persistentvolume \"v2\" is not bound to claim \"c\"".to_owned())
        );
        bind("v3");
        assert_eq!(
            resolved().await,
            Err("persistentvolume \"v3\" is of a type that is not supported: nfs".to_owned())
        );
    }
}
