//! Lets volumes, claims and volume attributes classes go that are being deleted and that nobody uses any more. Admission
//! gives each a finalizer when it is made; here it is given again to one that lacks it, and taken away.
//!
//! A claim is used by the pods that have a node and name it, ended ones as well, since their kubelet may not be done. A
//! volume is used while it is bound, a class while a claim or a volume names it.

use api::NamespacedName;
use client::{
    Delta, Error, Informer, Kind, ListOptions, Meta, Scope, kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use crate::{
    Context, RESYNC,
    view::{ClaimVolume, PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttributesClass},
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

pub(crate) async fn claims(context: Context) {
    let claims: Informer<PersistentVolumeClaim> = context.informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All);
    let pods: Informer<Pod> = context.informers.get(&kinds::POD, Scope::All);
    claims.synced().await;
    pods.synced().await;
    let triggers = vec![
        reconcile::on_change(&claims),
        reconcile::mapped(&pods, |delta: &Delta<Pod>| {
            delta.states().flat_map(claimed).collect::<Vec<_>>()
        }),
        reconcile::every(RESYNC, &claims),
    ];
    match reconcile::keyed("pvc-protection", 2, triggers, |key| {
        claim(&context, &claims, &pods, key)
    })
    .await {}
}

/// The claims that a pod has for volumes.
fn claimed(pod: &Pod) -> impl Iterator<Item = NamespacedName> {
    let name = |claim: &ClaimVolume| match claim {
        ClaimVolume::Named(name) => name.to_string(),
        ClaimVolume::Own(volume) => format!("{}-{volume}", pod.metadata.name),
    };
    pod.spec
        .claims
        .iter()
        .map(move |claim| NamespacedName::new(&pod.metadata.namespace, &name(claim)))
}

fn uses(pod: &Pod, claim: &NamespacedName) -> bool {
    !pod.spec.node_name.is_empty() && claimed(pod).any(|own| own == *claim)
}

async fn claim(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    pods: &Informer<Pod>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let Some(claim) = claims.get(&key) else {
        return Ok(Action::Done);
    };
    let namespace = &claim.metadata.namespace;
    let known = pods.snapshot();
    let used = known.in_namespace(namespace).any(|(_, pod)| uses(pod, &key));
    drop(known);
    let mut step = step(&claim.metadata, CLAIM, used);
    if step == Some(Step::Release) {
        // A pod that came meanwhile must not lose its volume.
        let live = context
            .client
            .list::<Pod>(&kinds::POD, Some(namespace), &ListOptions::default())
            .await?;
        step = step.filter(|_| !live.items.iter().any(|pod| uses(pod, &key)));
    }
    take(context, &kinds::PERSISTENT_VOLUME_CLAIM, &claim.metadata, CLAIM, step).await
}

pub(crate) async fn volumes(context: Context) {
    let volumes: Informer<PersistentVolume> = context.informers.get(&kinds::PERSISTENT_VOLUME, Scope::All);
    let triggers = vec![reconcile::on_change(&volumes), reconcile::every(RESYNC, &volumes)];
    match reconcile::keyed("pv-protection", 2, triggers, |key| volume(&context, &volumes, key)).await {}
}

async fn volume(context: &Context, volumes: &Informer<PersistentVolume>, key: NamespacedName) -> Result<Action, Error> {
    let Some(volume) = volumes.get(&key) else {
        return Ok(Action::Done);
    };
    let step = step(&volume.metadata, VOLUME, &*volume.status.phase == "Bound");
    take(context, &kinds::PERSISTENT_VOLUME, &volume.metadata, VOLUME, step).await
}

pub(crate) async fn classes(context: Context) {
    let classes: Informer<VolumeAttributesClass> = context.informers.get(&kinds::VOLUME_ATTRIBUTES_CLASS, Scope::All);
    let claims: Informer<PersistentVolumeClaim> = context.informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All);
    let volumes: Informer<PersistentVolume> = context.informers.get(&kinds::PERSISTENT_VOLUME, Scope::All);
    classes.synced().await;
    claims.synced().await;
    volumes.synced().await;
    let named = |name: &str| (!name.is_empty()).then(|| NamespacedName::cluster(name));
    let triggers = vec![
        reconcile::on_change(&classes),
        reconcile::mapped(&claims, move |delta: &Delta<PersistentVolumeClaim>| {
            let names = delta.states().flat_map(|claim| claim.attributes_classes());
            names.filter_map(named).collect::<Vec<_>>()
        }),
        reconcile::mapped(&volumes, move |delta: &Delta<PersistentVolume>| {
            let names = delta.states().map(|volume| &*volume.spec.volume_attributes_class_name);
            names.filter_map(named).collect::<Vec<_>>()
        }),
        reconcile::every(RESYNC, &classes),
    ];
    let class = |key| class(&context, &classes, &claims, &volumes, key);
    match reconcile::keyed("vac-protection", 1, triggers, class).await {}
}

async fn class(
    context: &Context,
    classes: &Informer<VolumeAttributesClass>,
    claims: &Informer<PersistentVolumeClaim>,
    volumes: &Informer<PersistentVolume>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let Some(class) = classes.get(&key) else {
        return Ok(Action::Done);
    };
    let by_claim = |claim: &PersistentVolumeClaim| claim.attributes_classes().contains(&&*key.name);
    let by_volume = |volume: &PersistentVolume| *volume.spec.volume_attributes_class_name == *key.name;
    let used = claims.snapshot().iter().any(|(_, claim)| by_claim(claim))
        || volumes.snapshot().iter().any(|(_, volume)| by_volume(volume));
    let step = step(&class.metadata, CLASS, used);
    take(context, &kinds::VOLUME_ATTRIBUTES_CLASS, &class.metadata, CLASS, step).await
}

/// What is to be done with a finalizer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Protect,
    Release,
}

/// Pure.
fn step(meta: &Meta, finalizer: &str, used: bool) -> Option<Step> {
    let held = meta.finalizers.iter().any(|own| &**own == finalizer);
    match (meta.is_deleting(), held) {
        (true, true) if !used => Some(Step::Release),
        (false, false) => Some(Step::Protect),
        _ => None,
    }
}

async fn take(
    context: &Context,
    kind: &Kind,
    meta: &Meta,
    finalizer: &str,
    step: Option<Step>,
) -> Result<Action, Error> {
    let Some(step) = step else {
        return Ok(Action::Done);
    };
    let others = meta.finalizers.iter().filter(|own| &***own != finalizer);
    let mut finalizers: Vec<&str> = others.map(|own| &**own).collect();
    if step == Step::Protect {
        finalizers.push(finalizer);
    }
    let change: Value = json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": finalizers}});
    context
        .client
        .update(kind, &meta.key(), None, &meta.uid, &change)
        .await?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_deleted_and_unused_is_released() {
        let meta = |deleting: bool, finalizers: &[&str]| -> Meta {
            let at = deleting.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({"deletionTimestamp": at, "finalizers": finalizers})).unwrap()
        };
        for (deleting, finalizers, used, want) in [
            (false, vec![], false, Some(Step::Protect)),
            (false, vec![CLAIM], false, None),
            (true, vec![CLAIM], true, None),
            (true, vec![CLAIM], false, Some(Step::Release)),
            (true, vec!["example.com/other"], false, None),
        ] {
            assert_eq!(
                step(&meta(deleting, &finalizers), CLAIM, used),
                want,
                "{deleting} {finalizers:?} {used}"
            );
        }
    }

    #[test]
    fn pods_use_their_claims_once_they_have_a_node() {
        let pod = |node: &str| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": node, "volumes": [
                    {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "c", "emptyDir": {}},
                ]}}),
            )
            .unwrap()
        };
        let claim = |name: &str| NamespacedName::new("ns", name);
        assert!(uses(&pod("n"), &claim("data")) && uses(&pod("n"), &claim("p-b")));
        assert!(
            !uses(&pod("n"), &claim("b")),
            "the claim has the pod's name before the volume's"
        );
        assert!(!uses(&pod("n"), &claim("p-c")) && !uses(&pod("n"), &NamespacedName::new("other", "data")));
        assert!(!uses(&pod(""), &claim("data")));
    }
}
