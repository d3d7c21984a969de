//! Attaches volumes of storage drivers to the nodes whose pods have them, by objects that the driver's attacher heeds, and
//! detaches them when no pod has them and the node has let go. A node is looked at as a whole; what to do is decided in
//! [`plan`].

mod plan;

use std::{collections::BTreeSet, time::Duration};

use api::NamespacedName;
use client::{
    DeleteOptions, Error, Informer, OptionalExt, Patch, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use serde_json::json;

use self::plan::{Step, Wanted};
use crate::{
    Context, RESYNC,
    view::{ClaimVolume, CsiDriver, Node, PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttachment},
};

/// Before a volume that another node has is looked at again.
const ELSEWHERE: Duration = Duration::from_secs(5);

struct Controller {
    context: Context,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    drivers: Informer<CsiDriver>,
    attachments: Informer<VolumeAttachment>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let informers = &context.informers;
    let controller = Controller {
        pods: informers.get(&kinds::POD, Scope::All),
        nodes: informers.get(&kinds::NODE, Scope::All),
        claims: informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All),
        volumes: informers.get(&kinds::PERSISTENT_VOLUME, Scope::All),
        drivers: informers.get(&kinds::CSI_DRIVER, Scope::All),
        attachments: informers.get(&kinds::VOLUME_ATTACHMENT, Scope::All),
        context: context.clone(),
    };
    // A pod that is not known yet would not hold its volumes.
    controller.pods.synced().await;
    controller.nodes.synced().await;
    controller.claims.synced().await;
    controller.volumes.synced().await;
    controller.drivers.synced().await;
    controller.attachments.synced().await;
    let (pods, nodes) = (controller.pods.clone(), controller.nodes.clone());
    let triggers = vec![
        reconcile::mapped(&controller.pods, |delta| {
            let states = delta.old.iter().chain(&delta.new);
            let placed = states.filter(|pod| !pod.spec.claims.is_empty() && !pod.spec.node_name.is_empty());
            placed
                .map(|pod| NamespacedName::cluster(&pod.spec.node_name))
                .collect::<Vec<_>>()
        }),
        reconcile::mapped(&controller.attachments, |delta| {
            let states = delta.old.iter().chain(&delta.new);
            states
                .map(|attachment| NamespacedName::cluster(&attachment.spec.node_name))
                .collect::<Vec<_>>()
        }),
        reconcile::mapped(&controller.claims, move |delta| {
            let users = pods
                .list()
                .into_iter()
                .filter(|(_, pod)| claims(pod).any(|claim| claim == delta.key));
            let placed = users.filter(|(_, pod)| !pod.spec.node_name.is_empty());
            placed
                .map(|(_, pod)| NamespacedName::cluster(&pod.spec.node_name))
                .collect::<Vec<_>>()
        }),
        reconcile::mapped(&controller.nodes, |delta| {
            // A node's status changes all the time, and rarely in what counts here.
            let counts = |node: Option<&Node>| {
                node.map(|n| {
                    (
                        n.status.volumes_in_use.clone(),
                        n.status.volumes_attached.clone(),
                        n.spec.taints.clone(),
                    )
                })
            };
            let changed = counts(delta.old.as_deref()) != counts(delta.new.as_deref());
            changed.then(|| delta.key.clone())
        }),
        reconcile::mapped(&controller.drivers, move |_| {
            nodes.list().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        }),
    ];
    // One node at a time, or a volume for one node could be given to two.
    match reconcile::keyed("attach-detach", 1, triggers, |key| controller.look(key)).await {}
}

/// The claims of a pod.
fn claims(pod: &Pod) -> impl Iterator<Item = NamespacedName> {
    let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
    pod.spec.claims.iter().map(move |claim| match claim {
        ClaimVolume::Named(claim) => NamespacedName::new(namespace, claim),
        ClaimVolume::Own(volume) => NamespacedName::new(namespace, &format!("{name}-{volume}")),
    })
}

impl Controller {
    async fn look(&self, key: NamespacedName) -> Result<Action, Error> {
        let node = self.nodes.get(&key);
        let (here, elsewhere): (Vec<_>, Vec<_>) = {
            let all = self.attachments.list().into_iter().map(|(_, attachment)| attachment);
            all.partition(|attachment| *attachment.spec.node_name == *key.name)
        };
        let wanted = node.as_ref().map(|_| self.wanted(&key.name)).unwrap_or_default();
        if wanted.is_empty() && here.is_empty() && node.as_ref().is_none_or(|n| n.status.volumes_attached.is_empty()) {
            return Ok(Action::Done);
        }
        let volume = |name: &str| self.volumes.get(&NamespacedName::cluster(name));
        let steps = plan::plan(&key.name, node.as_deref(), &wanted, (&here, &elsewhere), &volume);
        let mut next = Action::After(RESYNC);
        for step in steps {
            if matches!(step, Step::Refuse(..)) {
                next = Action::After(ELSEWHERE);
            }
            self.obey(&key, step).await?;
        }
        Ok(next)
    }

    /// The volumes that pods of the node have and that need to be attached.
    fn wanted(&self, node: &str) -> Vec<Wanted> {
        let pods = self.pods.list().into_iter().map(|(_, pod)| pod);
        let here = pods.filter(|pod| *pod.spec.node_name == *node && !pod.is_finished());
        let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
        for pod in here {
            for claim in claims(&pod).filter_map(|at| self.claims.get(&at)) {
                let bound = &*claim.status.phase == "Bound";
                let volume = self.volumes.get(&NamespacedName::cluster(&claim.spec.volume_name));
                let Some(volume) = volume.filter(|_| bound) else {
                    continue;
                };
                let Some(source) = &volume.spec.csi else { continue };
                let driver = self.drivers.get(&NamespacedName::cluster(&source.driver));
                // A driver that nobody describes needs its volumes attached.
                let attaches = driver.is_none_or(|driver| driver.spec.attach_required.unwrap_or(true));
                if attaches && seen.insert((pod.metadata.uid.clone(), volume.metadata.name.clone())) {
                    wanted.push(Wanted {
                        pod: pod.metadata.clone(),
                        volume,
                    });
                }
            }
        }
        wanted
    }

    async fn obey(&self, node: &NamespacedName, step: Step) -> Result<(), Error> {
        let client = &self.context.client;
        match step {
            Step::Attach { name, driver, volume } => {
                let object = json!({
                    "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
                    "spec": {"attacher": driver, "nodeName": node.name, "source": {"persistentVolumeName": volume}},
                });
                match client.create(&kinds::VOLUME_ATTACHMENT, None, &object).await {
                    Ok(made) => self.attachments.wait_written(&made).await,
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            Step::Report(volumes) => {
                let volumes: Vec<_> = volumes
                    .iter()
                    .map(|name| json!({"name": name, "devicePath": ""}))
                    .collect();
                let patch = Patch::Strategic(json!({"status": {"volumesAttached": volumes}}));
                let written = client
                    .patch(&kinds::NODE, node, Some("status"), patch)
                    .await
                    .optional()?;
                if let Some(written) = written {
                    self.nodes.wait_written(&written).await;
                }
                Ok(())
            }
            Step::Detach { name, uid } => {
                let at = NamespacedName::cluster(&name);
                let deleted = client
                    .delete(&kinds::VOLUME_ATTACHMENT, &at, &DeleteOptions::of_uid(&uid))
                    .await;
                deleted.optional().map(drop)
            }
            Step::Refuse(pod, why) => {
                self.tell(&pod, Type::Warning, "FailedAttachVolume", why);
                Ok(())
            }
            Step::Fail(pod, why) => {
                self.tell(&pod, Type::Warning, "FailedAttachVolume", why);
                Ok(())
            }
            Step::Succeed(pod, said) => {
                self.tell(&pod, Type::Normal, "SuccessfulAttachVolume", said);
                Ok(())
            }
        }
    }

    fn tell(&self, pod: &client::Meta, type_: Type, reason: &str, note: String) {
        let regarding = ObjectRef::of(&kinds::POD, pod);
        self.context.recorder.event(&regarding, type_, reason, "", note);
    }
}
