//! Which Secrets a PersistentVolume needs to be mounted on a node. Pure; upstream's `VisitPVSecretNames`.

use api::Object;

/// Of a driver's volume, those that the kubelet reads.
const OF_DRIVERS: [&str; 3] = ["nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];

/// Whether mounting the volume takes this Secret.
pub(super) fn opens(volume: &Object, namespace: &str, name: &str) -> bool {
    OF_DRIVERS.iter().any(|reference| {
        let field = |field: &str| volume.str_at(&format!("spec.csi.{reference}.{field}"));
        field("namespace") == Some(namespace) && field("name") == Some(name)
    })
}
