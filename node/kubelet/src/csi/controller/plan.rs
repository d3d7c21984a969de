//! What a driver's controller service is to be asked next, and for what. Pure; the rules of the sidecars that upstream has
//! for it (external-provisioner, external-attacher).

use std::{collections::BTreeMap, sync::Arc};

use ::csi::v1::{
    CapacityRange, CreateVolumeRequest, Topology, TopologyRequirement, Volume as Made, VolumeCapability,
    volume_capability::{AccessMode, AccessType, MountVolume},
};
use api::Quantity;
use serde_json::{Value, json};

use super::{
    super::{Driver, request},
    view::{Attachment, Claim, Class, Volume},
};

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Parameters of a class that are no driver's.
const RESERVED: &str = "csi.storage.k8s.io/";
const FS_TYPE: &str = "csi.storage.k8s.io/fstype";

/// What there is.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) claims: Vec<Arc<Claim>>,
    pub(super) volumes: Vec<Arc<Volume>>,
    pub(super) classes: Vec<Arc<Class>>,
    pub(super) attachments: Vec<Arc<Attachment>>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create(Arc<Claim>, Arc<Class>),
    Delete(Arc<Volume>),
    /// The claim wants a larger volume.
    Grow(Arc<Claim>, Arc<Volume>),
    /// The claim does not know yet how large its volume is.
    Tell(Arc<Claim>, Arc<Volume>),
    Attach(Arc<Attachment>, Arc<Volume>),
    Detach(Arc<Attachment>, Option<Arc<Volume>>),
}

impl Step {
    /// Names it while it is under way, or has failed.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Create(claim, _) => format!("create {}", claim.metadata.uid),
            Self::Delete(volume) => format!("delete {}", volume.metadata.uid),
            Self::Grow(claim, _) => format!("grow {}", claim.metadata.uid),
            Self::Tell(claim, _) => format!("tell {}", claim.metadata.uid),
            Self::Attach(attachment, _) => format!("attach {}", attachment.metadata.uid),
            Self::Detach(attachment, _) => format!("detach {}", attachment.metadata.uid),
        }
    }
}

/// By which the attachment stays until the driver has let go of the volume; upstream's attacher has the same.
pub(super) fn finalizer(driver: &str) -> String {
    let name: String = driver
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("external-attacher/{name}")
}

/// What a claim's volume is called.
pub(super) fn volume_name(claim: &Claim) -> String {
    format!("pvc-{}", claim.metadata.uid)
}

/// What a driver is to be asked.
pub(super) fn steps(to: &Driver, state: &State) -> Vec<Step> {
    let driver = &*to.name;
    let named = |name: &str| {
        state
            .volumes
            .iter()
            .find(|volume| *volume.metadata.name == *name)
            .cloned()
    };
    let create = state.claims.iter().filter_map(|claim| {
        let asked = claim.metadata.annotations.get(ASKED) == Some(driver);
        let open = claim.spec.volume_name.is_empty() && !claim.metadata.is_deleting();
        let class = state
            .classes
            .iter()
            .find(|class| *class.metadata.name == *claim.spec.storage_class_name);
        let class = class.filter(|class| class.provisioner == driver)?;
        let missing = asked && open && named(&volume_name(claim)).is_none();
        missing.then(|| Step::Create(claim.clone(), class.clone()))
    });
    let delete = state.volumes.iter().filter(|volume| {
        let ours = volume.metadata.annotations.get(PROVISIONED_BY) == Some(driver);
        let left = volume.status.phase == "Released" && volume.spec.persistent_volume_reclaim_policy == "Delete";
        let attached = |a: &Arc<Attachment>| a.spec.source.persistent_volume_name == *volume.metadata.name;
        ours && left && !state.attachments.iter().any(attached)
    });
    let grow = state
        .claims
        .iter()
        .filter(|claim| claim.status.phase == "Bound")
        .filter_map(|claim| {
            let volume = named(&claim.spec.volume_name)?;
            let ours = volume.spec.csi.as_ref().is_some_and(|source| source.driver == driver);
            let (wanted, has, told) = (
                claim.spec.resources.requests.bytes(),
                volume.spec.capacity.bytes(),
                claim.status.capacity.bytes(),
            );
            match (to.grows || to.expands) && ours && !claim.metadata.is_deleting() {
                true if wanted > has => Some(Step::Grow(claim.clone(), volume)),
                // A driver that has to make file systems grow tells when it has.
                true if has > told && told > 0 && !to.expands => Some(Step::Tell(claim.clone(), volume)),
                _ => None,
            }
        });
    let own = state
        .attachments
        .iter()
        .filter(|attachment| attachment.spec.attacher == driver);
    let attach = own.filter_map(|attachment| {
        let volume = named(&attachment.spec.source.persistent_volume_name);
        let held = attachment.metadata.finalizers.iter().any(|f| **f == *finalizer(driver));
        match attachment.metadata.is_deleting() {
            true => held.then(|| Step::Detach(attachment.clone(), volume)),
            false if attachment.status.attached => None,
            false => volume.map(|volume| Step::Attach(attachment.clone(), volume)),
        }
    });
    let delete = delete.cloned().map(Step::Delete);
    create.chain(delete).chain(grow).chain(attach).collect()
}

/// Why no volume can be made for a claim, whatever the driver says.
pub(super) fn refusal(claim: &Claim, class: &Class) -> Option<String> {
    if claim.spec.volume_mode == "Block" {
        return Some("volumeMode Block is not supported".to_owned());
    }
    if claim.spec.data_source.is_some() || claim.spec.data_source_ref.is_some() {
        return Some("volumes from snapshots, or from other volumes, are not supported".to_owned());
    }
    let secret = ["provisioner", "controller-publish", "controller-expand"]
        .map(|of| format!("{RESERVED}{of}-secret-name"))
        .into_iter()
        .find(|parameter| class.parameters.contains_key(parameter));
    secret.map(|parameter| {
        format!("parameter {parameter} is not supported: a node may not read the controller's secrets")
    })
}

/// The node that a claim's first pod runs on.
pub(super) fn selected_node(claim: &Claim) -> Option<&str> {
    claim.metadata.annotations.get(SELECTED_NODE)
}

/// The request for a claim's volume, to be reachable from these places if the driver knows of places.
pub(super) fn request(
    claim: &Claim,
    class: &Class,
    driver: &Driver,
    reachable: Option<Topology>,
) -> CreateVolumeRequest {
    let capability = |mode: &String| VolumeCapability {
        access_mode: Some(AccessMode {
            mode: request::access_mode(std::slice::from_ref(mode), driver.tells_writers_apart).into(),
        }),
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: class.parameters.get(FS_TYPE).cloned().unwrap_or_default(),
            mount_flags: class.mount_options.clone(),
            ..MountVolume::default()
        })),
    };
    let bytes = claim.spec.resources.requests.bytes();
    let parameters = class.parameters.iter().filter(|(key, _)| !key.starts_with(RESERVED));
    CreateVolumeRequest {
        name: volume_name(claim),
        capacity_range: Some(CapacityRange {
            required_bytes: bytes,
            limit_bytes: 0,
        }),
        volume_capabilities: claim.spec.access_modes.iter().map(capability).collect(),
        parameters: parameters.map(|(key, value)| (key.clone(), value.clone())).collect(),
        accessibility_requirements: reachable
            .filter(|_| driver.constrained)
            .map(|topology| TopologyRequirement {
                requisite: vec![topology.clone()],
                preferred: vec![topology],
            }),
        ..CreateVolumeRequest::default()
    }
}

/// The object of a volume that was made.
pub(super) fn object(claim: &Claim, class: &Class, driver: &str, made: &Made) -> Value {
    let meta = &claim.metadata;
    let capacity = match made.capacity_bytes {
        0 => claim.spec.resources.requests.storage.clone(),
        bytes => Quantity::from_bytes(bytes).to_string(),
    };
    let secret = |of: &str| {
        let part = |part: &str| {
            let value = class.parameters.get(&format!("{RESERVED}{of}-secret-{part}"))?;
            let filled = value
                .replace("${pv.name}", &volume_name(claim))
                .replace("${pvc.name}", &meta.name)
                .replace("${pvc.namespace}", &meta.namespace);
            Some(filled)
        };
        Some(json!({"name": part("name")?, "namespace": part("namespace")?}))
    };
    let terms: Vec<Value> = made
        .accessible_topology
        .iter()
        .map(|topology| {
            let expressions = topology.segments.iter();
            let expressions = expressions.map(|(key, value)| json!({"key": key, "operator": "In", "values": [value]}));
            json!({"matchExpressions": expressions.collect::<Vec<_>>()})
        })
        .collect();
    let mut spec = json!({
        "capacity": {"storage": capacity},
        "accessModes": claim.spec.access_modes,
        "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
        "storageClassName": class.metadata.name,
        "volumeMode": "Filesystem",
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace, "name": meta.name, "uid": meta.uid,
        },
        "csi": {
            "driver": driver,
            "volumeHandle": made.volume_id,
            "volumeAttributes": made.volume_context,
        },
    });
    let mut set = |path: &str, value: Option<Value>| {
        if let (Some(value), Some(place)) = (value, spec.pointer_mut(path.rsplit_once('/').map_or("", |(at, _)| at))) {
            place[path.rsplit('/').next().unwrap_or_default()] = value;
        }
    };
    let options = Some(json!(class.mount_options)).filter(|_| !class.mount_options.is_empty());
    set("/mountOptions", options);
    set(
        "/csi/fsType",
        class.parameters.get(FS_TYPE).map(|fs_type| json!(fs_type)),
    );
    set("/csi/nodeStageSecretRef", secret("node-stage"));
    set("/csi/nodePublishSecretRef", secret("node-publish"));
    let affinity = (!terms.is_empty()).then(|| json!({"required": {"nodeSelectorTerms": terms}}));
    set("/nodeAffinity", affinity);
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: driver}},
        "spec": spec,
    })
}

/// What of a node's labels says where it is, to this driver.
pub(super) fn place(keys: &[String], labels: &BTreeMap<String, String>) -> Option<Topology> {
    let segments: BTreeMap<String, String> = keys
        .iter()
        .filter_map(|key| Some((key.clone(), labels.get(key)?.clone())))
        .collect();
    (!segments.is_empty()).then_some(Topology { segments })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).expect("decodes"))
    }

    fn claim(annotations: Value, spec: Value) -> Arc<Claim> {
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "s",
            "resources": {"requests": {"storage": "1Gi"}}});
        for (key, value) in spec.as_object().expect("map") {
            whole[key] = value.clone();
        }
        of(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u", "annotations": annotations}, "spec": whole}))
    }

    fn class() -> Arc<Class> {
        of(
            json!({"metadata": {"name": "s"}, "provisioner": "d", "mountOptions": ["noatime"], "parameters": {
            "kind": "fast", "csi.storage.k8s.io/fstype": "ext4", "csi.storage.k8s.io/node-stage-secret-name": "${pvc.name}-key",
            "csi.storage.k8s.io/node-stage-secret-namespace": "${pvc.namespace}"}}),
        )
    }

    fn volume(phase: &str, policy: &str, by: &str) -> Arc<Volume> {
        of(
            json!({"metadata": {"name": "pvc-u", "uid": "v", "annotations": {PROVISIONED_BY: by}},
            "spec": {"persistentVolumeReclaimPolicy": policy, "csi": {"driver": "d", "volumeHandle": "h"}},
            "status": {"phase": phase}}),
        )
    }

    fn attachment(deleting: bool, held: bool, attached: bool) -> Arc<Attachment> {
        let finalizers = if held { vec![finalizer("d")] } else { vec![] };
        of(json!({"metadata": {"name": "a", "uid": "a", "finalizers": finalizers,
                "deletionTimestamp": deleting.then_some("2026-01-01T00:00:00Z")},
            "spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "pvc-u"}},
            "status": {"attached": attached}}))
    }

    fn driver() -> Driver {
        Driver::new(::csi::Link::new(Path::new("/none")), "d")
    }

    fn keys(state: &State) -> Vec<String> {
        steps(&driver(), state).iter().map(Step::key).collect()
    }

    #[tokio::test]
    async fn a_bound_volume_grows_when_its_claim_does() {
        let state = |wanted: &str, has: &str, told: &str| {
            let bound = of(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"},
                "spec": {"volumeName": "pvc-u", "resources": {"requests": {"storage": wanted}}},
                "status": {"phase": "Bound", "capacity": {"storage": told}}}));
            let mut volume = (*volume("Bound", "Delete", "d")).clone();
            volume.spec.capacity.storage = has.to_owned();
            State {
                claims: vec![bound],
                volumes: vec![Arc::new(volume)],
                ..State::default()
            }
        };
        let planned = |driver: &Driver, state: &State| steps(driver, state).iter().map(Step::key).collect::<Vec<_>>();
        let grows = Driver {
            grows: true,
            ..driver()
        };
        let both = Driver {
            expands: true,
            ..grows.clone()
        };
        assert!(
            planned(&driver(), &state("2Gi", "1Gi", "1Gi")).is_empty(),
            "the driver cannot"
        );
        assert_eq!(planned(&grows, &state("2Gi", "1Gi", "1Gi")), ["grow u"]);
        assert_eq!(planned(&grows, &state("2Gi", "2Gi", "1Gi")), ["tell u"]);
        assert!(planned(&both, &state("2Gi", "2Gi", "1Gi")).is_empty(), "the node tells");
        assert!(planned(&grows, &state("1Gi", "2Gi", "2Gi")).is_empty());
    }

    #[tokio::test]
    async fn a_volume_is_made_when_it_is_asked_for_and_removed_when_nobody_has_it() {
        let asked = claim(json!({ASKED: "d"}), json!({}));
        let mut state = State {
            claims: vec![
                asked.clone(),
                claim(json!({}), json!({})),
                claim(json!({ASKED: "other"}), json!({})),
            ],
            classes: vec![class()],
            ..State::default()
        };
        assert_eq!(keys(&state), ["create u"]);
        state.volumes = vec![volume("Bound", "Delete", "d")];
        assert!(keys(&state).is_empty(), "it is there");
        state.claims.clear();
        state.volumes = vec![volume("Released", "Delete", "d")];
        assert_eq!(keys(&state), ["delete v"]);
        state.attachments = vec![attachment(true, false, true)];
        assert!(keys(&state).is_empty(), "a node still has it");
        state.attachments.clear();
        for (phase, policy, by) in [
            ("Bound", "Delete", "d"),
            ("Released", "Retain", "d"),
            ("Released", "Delete", "e"),
        ] {
            state.volumes = vec![volume(phase, policy, by)];
            assert!(keys(&state).is_empty(), "{phase} {policy} {by}");
        }
    }

    #[tokio::test]
    async fn attachments_are_heeded_both_ways() {
        let state = |attachment| State {
            volumes: vec![volume("Bound", "Delete", "d")],
            attachments: vec![attachment],
            ..State::default()
        };
        assert_eq!(keys(&state(attachment(false, false, false))), ["attach a"]);
        assert!(keys(&state(attachment(false, true, true))).is_empty());
        assert_eq!(keys(&state(attachment(true, true, true))), ["detach a"]);
        assert!(keys(&state(attachment(true, false, true))).is_empty());
        assert_eq!(
            finalizer("hostpath.csi.k8s.io"),
            "external-attacher/hostpath-csi-k8s-io"
        );
    }

    #[tokio::test]
    async fn the_class_says_what_the_driver_hears_and_what_the_volume_becomes() {
        let (claim, class) = (claim(json!({}), json!({})), class());
        let mut driver = driver();
        let here = place(&["zone".into()], &[("zone".to_owned(), "z".to_owned())].into());
        let asked = request(&claim, &class, &driver, here.clone());
        assert_eq!(asked.name, "pvc-u");
        assert_eq!(asked.capacity_range.map(|range| range.required_bytes), Some(1 << 30));
        assert_eq!(asked.parameters.keys().collect::<Vec<_>>(), ["kind"]);
        assert!(
            asked.accessibility_requirements.is_none(),
            "the driver knows of no places"
        );
        driver.constrained = true;
        assert!(
            request(&claim, &class, &driver, here.clone())
                .accessibility_requirements
                .is_some()
        );
        let made = Made {
            volume_id: "h".into(),
            capacity_bytes: 2 << 30,
            accessible_topology: here.into_iter().collect(),
            ..Made::default()
        };
        let object = object(&claim, &class, "d", &made);
        let spec = &object["spec"];
        assert_eq!(
            (&spec["capacity"]["storage"], &spec["csi"]["fsType"]),
            (&json!("2Gi"), &json!("ext4"))
        );
        assert_eq!(
            spec["csi"]["nodeStageSecretRef"],
            json!({"name": "c-key", "namespace": "ns"})
        );
        assert_eq!(spec["mountOptions"], json!(["noatime"]));
        let terms = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]);
        assert_eq!(spec["nodeAffinity"]["required"]["nodeSelectorTerms"], terms);
        assert!(spec["csi"].get("nodePublishSecretRef").is_none());
    }

    #[test]
    fn what_cannot_be_made_is_refused_before_the_driver_is_asked() {
        let plain = claim(json!({}), json!({}));
        assert_eq!(refusal(&plain, &class()), None);
        let block = claim(json!({}), json!({"volumeMode": "Block"}));
        assert!(refusal(&block, &class()).is_some());
        let copy = claim(
            json!({}),
            json!({"dataSource": {"kind": "VolumeSnapshot", "name": "x"}}),
        );
        assert!(refusal(&copy, &class()).is_some());
        let mut secret = (*class()).clone();
        secret
            .parameters
            .insert("csi.storage.k8s.io/provisioner-secret-name".into(), "x".into());
        assert!(refusal(&plain, &secret).is_some_and(|why| why.contains("provisioner-secret-name")));
    }
}
