//! Brings claims and volumes together, makes the volumes of the cluster's own storage class, and takes back what its claim
//! has left. What is to be done is decided in [`plan`]; one claim or volume is worked on at a time, so that no volume is
//! given away twice.
//!
//! The data of a provisioned volume is a directory of a node, which its kubelet makes and, once the volume's object is gone,
//! removes. Volumes of other classes are made by others, who are told by an annotation. Deliberately absent: snapshots and
//! expansion.

pub(crate) mod ephemeral;
mod plan;

use std::sync::Arc;

use api::{NamespacedName, Object};
use client::{
    DeleteOptions, Error, Informer, Kind, Meta, OptionalExt, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use self::plan::{
    ASKED, BOUND_BY_US, COMPLETED, ClaimStep, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, STORAGE, VolumeStep,
};
use crate::{
    Context, RESYNC,
    view::{Node, PersistentVolume, PersistentVolumeClaim, StorageClass},
};

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(NamespacedName),
    Volume(NamespacedName),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Claim(at) => write!(f, "claim {at}"),
            Self::Volume(at) => write!(f, "volume {at}"),
        }
    }
}

struct Binder {
    context: Context,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
}

/// Runs the binder.
pub(crate) async fn bind(context: Context) {
    let informers = &context.informers;
    let binder = Binder {
        claims: informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All),
        volumes: informers.get(&kinds::PERSISTENT_VOLUME, Scope::All),
        classes: informers.get(&kinds::STORAGE_CLASS, Scope::All),
        nodes: informers.get(&kinds::NODE, Scope::All),
        context: context.clone(),
    };
    // A volume whose claim is not known yet would count as left by it.
    binder.claims.synced().await;
    binder.volumes.synced().await;
    binder.classes.synced().await;
    binder.nodes.synced().await;
    let (claims, again) = (binder.claims.clone(), binder.claims.clone());
    let pending = move |claims: &Informer<PersistentVolumeClaim>| {
        let all = claims.list().into_iter();
        let waiting = all.filter(|(_, claim)| &*claim.status.phase != "Bound");
        waiting.map(|(at, _)| Key::Claim(at)).collect::<Vec<_>>()
    };
    let triggers = vec![
        reconcile::mapped(&binder.claims, |delta| {
            let states = delta.old.iter().chain(&delta.new);
            let named = states.filter(|claim| !claim.spec.volume_name.is_empty());
            let volumes = named.map(|claim| Key::Volume(NamespacedName::cluster(&claim.spec.volume_name)));
            let mut keys = vec![Key::Claim(delta.key.clone())];
            keys.extend(volumes);
            keys
        }),
        reconcile::mapped(&binder.volumes, move |delta| {
            // Whatever waits may be waiting for this one.
            let mut keys = pending(&claims);
            keys.push(Key::Volume(delta.key.clone()));
            let states = delta.old.iter().chain(&delta.new);
            let references = states.filter_map(|volume| volume.spec.claim_ref.as_ref());
            keys.extend(references.map(|r| Key::Claim(NamespacedName::new(&r.namespace, &r.name))));
            keys
        }),
        reconcile::mapped(&binder.classes, move |_| pending(&again)),
    ];
    match reconcile::keyed("volume-binder", 1, triggers, |key| binder.look(key)).await {}
}

impl Binder {
    async fn look(&self, key: Key) -> Result<Action, Error> {
        match key {
            Key::Claim(at) => self.look_at_claim(&at).await?,
            Key::Volume(at) => self.look_at_volume(&at).await?,
        }
        Ok(Action::After(RESYNC))
    }

    async fn look_at_claim(&self, at: &NamespacedName) -> Result<(), Error> {
        let Some(claim) = self.claims.get(at) else {
            return Ok(());
        };
        let volumes: Vec<_> = self.volumes.list().into_iter().map(|(_, volume)| volume).collect();
        let class = claim.spec.storage_class_name.as_deref().filter(|name| !name.is_empty());
        let class = class.and_then(|name| self.classes.get(&NamespacedName::cluster(name)));
        let node = claim.metadata.annotations.get(SELECTED_NODE);
        let node = node.and_then(|name| self.nodes.get(&NamespacedName::cluster(name)));
        match plan::claim(&claim, &volumes, class.as_deref(), node.as_deref()) {
            ClaimStep::Nothing => Ok(()),
            ClaimStep::Wait(reason, why) => {
                let type_ = match reason {
                    "ProvisioningFailed" | "VolumeMismatch" => Type::Warning,
                    _ => Type::Normal,
                };
                self.tell(&claim.metadata, type_, reason, why);
                self.claim_phase(&claim, "Pending").await
            }
            ClaimStep::Lose(reason, why) => {
                self.tell(&claim.metadata, Type::Warning, reason, why);
                self.claim_phase(&claim, "Lost").await
            }
            ClaimStep::Ask(provisioner, why) => {
                self.tell(&claim.metadata, Type::Normal, "ExternalProvisioning", why);
                self.ask(&claim, &provisioner).await?;
                self.claim_phase(&claim, "Pending").await
            }
            ClaimStep::Bind(name) => match volumes.iter().find(|v| *v.metadata.name == *name) {
                Some(volume) => self.bind(&claim, volume).await,
                None => Ok(()),
            },
            ClaimStep::Provision(_) => match (class, node) {
                (Some(class), Some(node)) => self.provision(&claim, &class, &node).await,
                _ => Ok(()),
            },
        }
    }

    fn tell(&self, claim: &Meta, type_: Type, reason: &str, why: String) {
        let regarding = ObjectRef::of(&kinds::PERSISTENT_VOLUME_CLAIM, claim);
        self.context.recorder.event(&regarding, type_, reason, "", why);
    }

    async fn claim_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<(), Error> {
        if *claim.status.phase == *phase {
            return Ok(());
        }
        let status = json!({"status": {"phase": phase}});
        self.write(&self.claims, &claim.metadata, Some("status"), status).await
    }

    /// Says on the claim who is to make its volume: they look for it.
    async fn ask(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), Error> {
        let asked = |name: &str| claim.metadata.annotations.get(name) == Some(provisioner);
        if ASKED.into_iter().all(asked) {
            return Ok(());
        }
        let [beta, name] = ASKED;
        let change = json!({"metadata": {"annotations": {beta: provisioner, name: provisioner}}});
        self.write(&self.claims, &claim.metadata, None, change).await
    }

    /// Writes a change to the very object that was looked at; a newer one is looked at again.
    async fn write<T: Send + Sync + 'static>(
        &self,
        informer: &Informer<T>,
        metadata: &Meta,
        subresource: Option<&str>,
        mut change: Value,
    ) -> Result<(), Error> {
        if subresource.is_none()
            && let Some(map) = change.as_object_mut()
        {
            let metadata_change = map.entry("metadata").or_insert_with(|| json!({}));
            if let Some(fields) = metadata_change.as_object_mut() {
                fields.insert("resourceVersion".into(), json!(metadata.resource_version));
            }
        }
        let kind: &Kind = informer.kind();
        let written = self
            .context
            .client
            .update(kind, &metadata.key(), subresource, &metadata.uid, &change)
            .await?;
        if let Some(written) = written {
            informer.wait_written(&written).await;
        }
        Ok(())
    }

    /// Volume first, then claim: what was begun is known by the volume's reference, and ended by the next look.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> Result<(), Error> {
        let bound = volume
            .spec
            .claim_ref
            .as_ref()
            .is_some_and(|r| r.uid == claim.metadata.uid);
        if !bound {
            let reference = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace, "name": claim.metadata.name, "uid": claim.metadata.uid,
                "resourceVersion": claim.metadata.resource_version,
            });
            let annotations = match volume.spec.claim_ref {
                None => json!({BOUND_BY_US: "yes"}),
                Some(_) => json!({}),
            };
            let change = json!({"metadata": {"annotations": annotations}, "spec": {"claimRef": reference}});
            self.write(&self.volumes, &volume.metadata, None, change).await?;
        }
        if &*volume.status.phase != "Bound" {
            let status = json!({"status": {"phase": "Bound", "reason": null, "message": null}});
            self.write(&self.volumes, &volume.metadata, Some("status"), status)
                .await?;
        }
        let completed = claim.metadata.annotations.get(COMPLETED).is_some();
        if claim.spec.volume_name != volume.metadata.name || !completed {
            let annotations = match claim.spec.volume_name.is_empty() {
                true => json!({COMPLETED: "yes", BOUND_BY_US: "yes"}),
                false => json!({COMPLETED: "yes"}),
            };
            let change =
                json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume.metadata.name}});
            self.write(&self.claims, &claim.metadata, None, change).await?;
        }
        if &*claim.status.phase != "Bound" {
            let status = json!({"status": {
                "phase": "Bound",
                "accessModes": volume.spec.access_modes,
                "capacity": {"storage": volume.spec.capacity.storage},
            }});
            self.write(&self.claims, &claim.metadata, Some("status"), status)
                .await?;
        }
        Ok(())
    }

    async fn provision(&self, claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node) -> Result<(), Error> {
        let name = format!("pvc-{}", claim.metadata.uid);
        let root = node.metadata.annotations.get(STORAGE).unwrap_or_default();
        let (namespace, own) = (&claim.metadata.namespace, &claim.metadata.name);
        let mut volume = Object::new("v1", "PersistentVolume");
        volume.set_name(&name);
        volume.set_annotation(PROVISIONED_BY, PROVISIONER);
        let host = node
            .metadata
            .labels
            .get("kubernetes.io/hostname")
            .unwrap_or(&node.metadata.name);
        let terms = json!([{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]},
        ]}]);
        volume.set(
            "spec",
            json!({
                "capacity": {"storage": claim.spec.resources.requests.storage},
                "accessModes": claim.spec.access_modes,
                "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
                "storageClassName": class.metadata.name,
                "volumeMode": "Filesystem",
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": namespace, "name": own, "uid": claim.metadata.uid,
                },
                "hostPath": {"path": format!("{root}/{name}"), "type": "DirectoryOrCreate"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            }),
        );
        match self
            .context
            .client
            .create(&kinds::PERSISTENT_VOLUME, None, &volume)
            .await
        {
            Ok(made) => {
                self.tell(
                    &claim.metadata,
                    Type::Normal,
                    "ProvisioningSucceeded",
                    format!("Successfully provisioned volume {name}"),
                );
                self.volumes.wait_written(&made).await;
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn look_at_volume(&self, at: &NamespacedName) -> Result<(), Error> {
        let Some(volume) = self.volumes.get(at) else {
            return Ok(());
        };
        let claim = volume.spec.claim_ref.as_ref();
        let claim = claim.and_then(|r| self.claims.get(&NamespacedName::new(&r.namespace, &r.name)));
        match plan::volume(&volume, claim.as_deref()) {
            VolumeStep::Nothing => Ok(()),
            VolumeStep::Phase(phase, why) => {
                if !why.is_empty() {
                    let regarding = ObjectRef::of(&kinds::PERSISTENT_VOLUME, &volume.metadata);
                    let reason = "VolumeFailedRecycle";
                    self.context
                        .recorder
                        .event(&regarding, Type::Warning, reason, "", why.clone());
                }
                let message = Some(why).filter(|why| !why.is_empty());
                let status = json!({"status": {"phase": phase, "message": message}});
                self.write(&self.volumes, &volume.metadata, Some("status"), status)
                    .await
            }
            VolumeStep::Unbind => {
                let annotations = json!({BOUND_BY_US: null});
                let change = json!({"metadata": {"annotations": annotations}, "spec": {"claimRef": null}});
                self.write(&self.volumes, &volume.metadata, None, change).await
            }
            VolumeStep::Delete => {
                let options = DeleteOptions::of_uid(&volume.metadata.uid);
                let deleted = self
                    .context
                    .client
                    .delete(&kinds::PERSISTENT_VOLUME, at, &options)
                    .await;
                deleted.optional().map(|_| ())
            }
        }
    }
}
