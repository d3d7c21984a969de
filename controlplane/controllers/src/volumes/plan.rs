//! What a claim or a volume needs next. Pure; the rules of Kubernetes' PersistentVolume controller.

use std::sync::Arc;

use client::Meta;

use crate::view::{ClaimRef, Node, PersistentVolume, PersistentVolumeClaim, StorageClass};

/// The provisioner that is part of the cluster: directories of the node that the first pod runs on.
pub(crate) const PROVISIONER: &str = "wherry.dev/local-path";
/// Where a node keeps such directories, as its kubelet says.
pub(crate) const STORAGE: &str = "wherry.dev/storage";
/// The node that the scheduler chose for a claim's first pod.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub(super) const BOUND_BY_US: &str = "pv.kubernetes.io/bound-by-controller";
pub(super) const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim: who is to make its volume, by the older name and the newer.
pub(super) const ASKED: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The next step of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClaimStep {
    Nothing,
    /// Tell why nothing happens: reason and message.
    Wait(&'static str, String),
    /// Bring what is lacking of a bond with this volume.
    Bind(String),
    /// Make a directory's volume on this node.
    Provision(String),
    /// Ask somebody else, of this name, for a volume; and tell that the claim waits for it.
    Ask(String, String),
    /// The volume is gone or another's: the data is not to be had any more.
    Lose(&'static str, String),
}

/// The next step of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeStep {
    Nothing,
    /// To be in this phase, for this reason.
    Phase(&'static str, String),
    /// Its claim chose another: it is free again.
    Unbind,
    /// Its claim is gone, and so is its data to be.
    Delete,
}

pub(super) fn is_for(reference: &ClaimRef, claim: &Meta) -> bool {
    let uid = reference.uid.is_empty() || reference.uid == claim.uid;
    reference.namespace == claim.namespace && reference.name == claim.name && uid
}

/// What a claim needs. `node`: the one that was selected, if any and if it is known.
pub(super) fn claim(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&StorageClass>,
    node: Option<&Node>,
) -> ClaimStep {
    if claim.metadata.is_deleting() {
        return ClaimStep::Nothing;
    }
    match &*claim.spec.volume_name {
        "" => unbound(claim, volumes, class, node),
        name => named(claim, volumes.iter().find(|v| &*v.metadata.name == name)),
    }
}

/// A claim that names its volume.
fn named(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> ClaimStep {
    let completed = claim.metadata.annotations.get(COMPLETED).is_some();
    let lost = &*claim.status.phase == "Lost";
    match volume {
        None if completed && !lost => ClaimStep::Lose(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!".to_owned(),
        ),
        None => ClaimStep::Nothing,
        Some(volume) => match &volume.spec.claim_ref {
            None if completed && !lost => ClaimStep::Lose(
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!".to_owned(),
            ),
            None => match mismatch(claim, volume) {
                None => ClaimStep::Bind(volume.metadata.name.to_string()),
                Some(why) => ClaimStep::Wait(
                    "VolumeMismatch",
                    format!("Cannot bind to requested volume \"{}\": {why}", volume.metadata.name),
                ),
            },
            Some(reference) if is_for(reference, &claim.metadata) => {
                let whole = reference.uid == claim.metadata.uid
                    && completed
                    && &*claim.status.phase == "Bound"
                    && &*volume.status.phase == "Bound";
                match whole {
                    true => ClaimStep::Nothing,
                    false => ClaimStep::Bind(volume.metadata.name.to_string()),
                }
            }
            Some(_) if completed && !lost => ClaimStep::Lose(
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly".to_owned(),
            ),
            Some(_) => ClaimStep::Nothing,
        },
    }
}

/// A claim that has no volume yet.
fn unbound(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&StorageClass>,
    node: Option<&Node>,
) -> ClaimStep {
    let mine = |v: &&Arc<PersistentVolume>| {
        let reference = v.spec.claim_ref.as_ref();
        reference.is_some_and(|reference| is_for(reference, &claim.metadata))
    };
    if let Some(reserved) = volumes.iter().find(mine) {
        return ClaimStep::Bind(reserved.metadata.name.to_string());
    }
    if class.is_some_and(StorageClass::waits_for_consumer) && node.is_none() {
        let why = "waiting for first consumer to be created before binding";
        return ClaimStep::Wait("WaitForFirstConsumer", why.to_owned());
    }
    if let Some(found) = smallest(claim, volumes, node) {
        return ClaimStep::Bind(found.metadata.name.to_string());
    }
    let Some(class) = class else {
        let why = match claim.spec.storage_class_name.as_deref() {
            None | Some("") => "no persistent volumes available for this claim and no storage class is set".to_owned(),
            Some(name) => {
                return ClaimStep::Wait(
                    "ProvisioningFailed",
                    format!("storageclass.storage.k8s.io \"{name}\" not found"),
                );
            }
        };
        return ClaimStep::Wait("FailedBinding", why);
    };
    provision(claim, class, node)
}

fn provision(claim: &PersistentVolumeClaim, class: &StorageClass, node: Option<&Node>) -> ClaimStep {
    let failed = |why: String| {
        let name = &class.metadata.name;
        ClaimStep::Wait(
            "ProvisioningFailed",
            format!("failed to provision volume with StorageClass \"{name}\": {why}"),
        )
    };
    match &*class.provisioner {
        PROVISIONER => {}
        "kubernetes.io/no-provisioner" => {
            return ClaimStep::Wait(
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set".to_owned(),
            );
        }
        other => {
            let why = format!(
                "Waiting for a volume to be created either by the external provisioner '{other}' or manually by the \
                 system administrator. If volume creation is delayed, please verify that the provisioner is running \
                 and correctly registered."
            );
            return ClaimStep::Ask(other.to_owned(), why);
        }
    }
    if &*claim.spec.volume_mode == "Block" {
        return failed("local-path volumes are directories; volumeMode must be Filesystem".to_owned());
    }
    let mut modes = claim.spec.access_modes.iter();
    if let Some(mode) = modes.find(|mode| !matches!(&***mode, "ReadWriteOnce" | "ReadWriteOncePod")) {
        return failed(format!(
            "access mode {mode} is not supported: a directory of one node is ReadWriteOnce or ReadWriteOncePod"
        ));
    }
    if claim.spec.selector.is_some() {
        return failed("claim.spec.selector is not supported".to_owned());
    }
    match node {
        Some(node) if node.metadata.annotations.get(STORAGE).is_some() => {
            ClaimStep::Provision(node.metadata.name.to_string())
        }
        Some(node) => failed(format!("node \"{}\" has no room for volumes", node.metadata.name)),
        None => failed("a node is needed: set volumeBindingMode to WaitForFirstConsumer".to_owned()),
    }
}

/// The smallest free volume that does.
fn smallest<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<&'a Arc<PersistentVolume>> {
    let here = |v: &&Arc<PersistentVolume>| match (&v.spec.node_affinity, node) {
        (Some(affinity), Some(node)) => affinity.accepts(&node.metadata),
        _ => true,
    };
    let free = volumes.iter().filter(|v| {
        v.spec.claim_ref.is_none()
            && !v.metadata.is_deleting()
            && matches!(&*v.status.phase, "" | "Available" | "Pending")
    });
    free.filter(here)
        .filter(|v| mismatch(claim, v).is_none())
        .min_by_key(|v| (v.spec.capacity.bytes(), v.metadata.name.clone()))
}

/// Why a volume does not do for a claim.
fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    let (wanted, has) = (&claim.spec, &volume.spec);
    let mode = |mode: &str| {
        if mode.is_empty() {
            "Filesystem".to_owned()
        } else {
            mode.to_owned()
        }
    };
    if has.capacity.bytes() < wanted.resources.requests.bytes() {
        return Some("requested PV is too small");
    }
    if has.storage_class_name != wanted.storage_class_name.clone().unwrap_or_default() {
        return Some("storageClassName does not match");
    }
    if mode(&has.volume_mode) != mode(&wanted.volume_mode) {
        return Some("incompatible volumeMode");
    }
    if wanted.access_modes.iter().any(|mode| !has.access_modes.contains(mode)) {
        return Some("incompatible accessMode");
    }
    let selected = wanted
        .selector
        .as_ref()
        .is_none_or(|s| s.matches(&volume.metadata.labels));
    (!selected).then_some("labels do not match the claim's selector")
}

/// What a volume needs; `claim` is the one that its reference names, if it exists.
pub(super) fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let phase = |phase: &'static str| match &*volume.status.phase == phase {
        true => VolumeStep::Nothing,
        false => VolumeStep::Phase(phase, String::new()),
    };
    let Some(reference) = &volume.spec.claim_ref else {
        return phase("Available");
    };
    if reference.uid.is_empty() {
        return phase("Available"); // kept for a claim that is to come
    }
    match claim.filter(|claim| is_for(reference, &claim.metadata)) {
        Some(claim) if claim.spec.volume_name == volume.metadata.name => phase("Bound"),
        Some(claim) if claim.spec.volume_name.is_empty() => VolumeStep::Nothing, // the claim's step binds it
        Some(_) if provisioned(volume) => VolumeStep::Delete,
        Some(_) if volume.metadata.annotations.get(BOUND_BY_US).is_some() => VolumeStep::Unbind,
        Some(_) => phase("Available"),
        None => released(volume),
    }
}

fn provisioned(volume: &PersistentVolume) -> bool {
    volume.metadata.annotations.get(PROVISIONED_BY) == Some(PROVISIONER)
}

fn released(volume: &PersistentVolume) -> VolumeStep {
    let failed = |why: &str| match &*volume.status.phase {
        "Failed" => VolumeStep::Nothing,
        _ => VolumeStep::Phase("Failed", why.to_owned()),
    };
    if !matches!(&*volume.status.phase, "Released" | "Failed") {
        return VolumeStep::Phase("Released", String::new());
    }
    match &*volume.spec.persistent_volume_reclaim_policy {
        _ if volume.metadata.is_deleting() => VolumeStep::Nothing,
        "Delete" if provisioned(volume) => VolumeStep::Delete,
        "Recycle" => failed("Recycle is not supported: use the policy Retain or Delete"),
        "Delete" if volume.metadata.annotations.get(PROVISIONED_BY).is_none() => {
            failed("nobody is known who could delete the volume's data: it was not provisioned")
        }
        _ => VolumeStep::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim_of(spec: Value, status: &str) -> PersistentVolumeClaim {
        let metadata = json!({"name": "c", "namespace": "ns", "uid": "c1"});
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "s", "resources": {"requests": {"storage": "1Gi"}}});
        for (key, value) in spec.as_object().expect("map") {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": whole, "status": {"phase": status}}))
            .expect("claim")
    }

    fn volume_of(name: &str, spec: Value, phase: &str) -> Arc<PersistentVolume> {
        let mut whole =
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "s", "capacity": {"storage": "1Gi"}});
        for (key, value) in spec.as_object().expect("map") {
            whole[key] = value.clone();
        }
        let object = json!({"metadata": {"name": name}, "spec": whole, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(object).expect("volume"))
    }

    fn class_of(provisioner: &str, mode: &str) -> StorageClass {
        let class = json!({"metadata": {"name": "s"}, "provisioner": provisioner, "volumeBindingMode": mode});
        serde_json::from_value(class).expect("class")
    }

    fn node_of(annotations: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"zone": "a"}, "annotations": annotations}}))
            .expect("node")
    }

    #[test]
    fn the_smallest_volume_that_does_is_taken() {
        let volumes = [
            volume_of("big", json!({"capacity": {"storage": "5Gi"}}), "Available"),
            volume_of("fits", json!({"capacity": {"storage": "2Gi"}}), "Available"),
            volume_of("small", json!({"capacity": {"storage": "1Mi"}}), "Available"),
            volume_of("other-class", json!({"storageClassName": "t"}), "Available"),
            volume_of("other-mode", json!({"accessModes": ["ReadOnlyMany"]}), "Available"),
            volume_of("block", json!({"volumeMode": "Block"}), "Available"),
            volume_of(
                "taken",
                json!({"claimRef": {"namespace": "ns", "name": "x", "uid": "u"}}),
                "Bound",
            ),
            volume_of("released", json!({}), "Released"),
        ];
        let step = claim(&claim_of(json!({}), "Pending"), &volumes, None, None);
        assert_eq!(step, ClaimStep::Bind("fits".into()));
        let reserved = volume_of(
            "kept",
            json!({"claimRef": {"namespace": "ns", "name": "c"}}),
            "Available",
        );
        let step = claim(
            &claim_of(json!({}), "Pending"),
            &[volumes[1].clone(), reserved],
            None,
            None,
        );
        assert_eq!(step, ClaimStep::Bind("kept".into()));
    }

    #[test]
    fn a_claim_of_a_waiting_class_is_bound_on_the_node_that_was_selected() {
        let class = class_of(PROVISIONER, "WaitForFirstConsumer");
        let pending = claim_of(json!({}), "Pending");
        let ClaimStep::Wait(reason, _) = claim(&pending, &[], Some(&class), None) else {
            panic!("nobody uses it yet")
        };
        assert_eq!(reason, "WaitForFirstConsumer");
        let node = node_of(json!({STORAGE: "/d"}));
        let step = claim(&pending, &[], Some(&class), Some(&node));
        assert_eq!(step, ClaimStep::Provision("n".into()));
        let in_zone = |zone: &str| {
            let terms = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]);
            let affinity = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}});
            volume_of(zone, affinity, "Available")
        };
        let step = claim(&pending, &[in_zone("b"), in_zone("a")], Some(&class), Some(&node));
        assert_eq!(step, ClaimStep::Bind("a".into()));
    }

    #[test]
    fn what_cannot_be_provisioned_is_told() {
        let (own, node) = (class_of(PROVISIONER, "Immediate"), node_of(json!({STORAGE: "/d"})));
        let bare = node_of(json!({}));
        let cases = [
            (json!({}), None, None, "ProvisioningFailed"),
            (json!({"storageClassName": ""}), None, None, "FailedBinding"),
            (json!({}), Some(&own), None, "ProvisioningFailed"),
            (json!({}), Some(&own), Some(&bare), "ProvisioningFailed"),
            (
                json!({"accessModes": ["ReadWriteMany"]}),
                Some(&own),
                Some(&node),
                "ProvisioningFailed",
            ),
            (
                json!({"volumeMode": "Block"}),
                Some(&own),
                Some(&node),
                "ProvisioningFailed",
            ),
        ];
        for (spec, class, node, want) in cases {
            let step = claim(&claim_of(spec.clone(), "Pending"), &[], class, node);
            assert!(
                matches!(step, ClaimStep::Wait(reason, _) if reason == want),
                "{spec}: {step:?}"
            );
        }
    }

    #[test]
    fn another_provisioner_is_asked_once_the_node_is_known() {
        let pending = claim_of(json!({}), "Pending");
        let asked = |step| matches!(step, ClaimStep::Ask(name, why) if name == "example.com/x" && why.contains("'example.com/x'"));
        assert!(asked(claim(
            &pending,
            &[],
            Some(&class_of("example.com/x", "Immediate")),
            None
        )));
        let late = class_of("example.com/x", "WaitForFirstConsumer");
        assert!(!asked(claim(&pending, &[], Some(&late), None)));
        assert!(asked(claim(&pending, &[], Some(&late), Some(&node_of(json!({}))))));
    }

    #[test]
    fn a_bond_is_brought_to_its_end_and_no_further() {
        let reference = json!({"claimRef": {"namespace": "ns", "name": "c", "uid": "c1"}});
        let bound = volume_of("v", reference.clone(), "Bound");
        let named = claim_of(json!({"volumeName": "v"}), "Bound");
        assert_eq!(
            claim(&named, std::slice::from_ref(&bound), None, None),
            ClaimStep::Bind("v".into())
        );
        let mut whole = named.clone();
        let metadata = json!({"name": "c", "namespace": "ns", "uid": "c1", "annotations": {COMPLETED: "yes"}});
        whole.metadata = serde_json::from_value(metadata).expect("metadata");
        assert_eq!(
            claim(&whole, std::slice::from_ref(&bound), None, None),
            ClaimStep::Nothing
        );
        assert!(matches!(
            claim(&whole, &[], None, None),
            ClaimStep::Lose("ClaimLost", _)
        ));
        let foreign = volume_of(
            "v",
            json!({"claimRef": {"namespace": "ns", "name": "x", "uid": "u"}}),
            "Bound",
        );
        assert!(matches!(
            claim(&whole, &[foreign], None, None),
            ClaimStep::Lose("ClaimMisbound", _)
        ));
    }

    #[test]
    fn a_volume_follows_its_claim() {
        let reference = json!({"claimRef": {"namespace": "ns", "name": "c", "uid": "c1"}});
        let free = volume_of("v", json!({}), "");
        assert_eq!(volume(&free, None), VolumeStep::Phase("Available", String::new()));
        let bound = volume_of("v", reference.clone(), "Bound");
        assert_eq!(
            volume(&bound, Some(&claim_of(json!({"volumeName": "v"}), "Bound"))),
            VolumeStep::Nothing
        );
        assert_eq!(volume(&bound, None), VolumeStep::Phase("Released", String::new()));
        let after = |policy: &str, by: Option<&str>| {
            let mut spec = reference.clone();
            spec["persistentVolumeReclaimPolicy"] = policy.into();
            let mut released = (*volume_of("v", spec, "Released")).clone();
            let annotations = by.map_or(json!({}), |by| json!({PROVISIONED_BY: by}));
            let metadata = json!({"name": "v", "annotations": annotations});
            released.metadata = serde_json::from_value(metadata).expect("metadata");
            volume(&released, None)
        };
        assert_eq!(after("Retain", Some(PROVISIONER)), VolumeStep::Nothing);
        assert_eq!(after("Delete", Some(PROVISIONER)), VolumeStep::Delete);
        assert_eq!(after("Delete", Some("example.com/x")), VolumeStep::Nothing);
        assert!(matches!(after("Recycle", None), VolumeStep::Phase("Failed", _)));
        assert!(matches!(after("Delete", None), VolumeStep::Phase("Failed", _)));
    }
}
