//! Claims of a pod's own: a volume of the kind `ephemeral` has its claim made from the template in the pod, and the claim
//! goes with the pod, which owns it.

use api::{NamespacedName, Object};
use client::{
    Error, Informer, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use crate::{
    Context, RESYNC,
    view::{ClaimVolume, PersistentVolumeClaim, Pod},
};

/// Makes the claims.
pub(crate) async fn run(context: Context) {
    let pods: Informer<Pod> = context.informers.get(&kinds::POD, Scope::All);
    let claims: Informer<PersistentVolumeClaim> = context.informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All);
    claims.synced().await;
    let triggers = vec![reconcile::on_change(&pods), reconcile::every(RESYNC, &pods)];
    let (context, pods, claims) = (&context, &pods, &claims);
    let look = |key: NamespacedName| async move {
        let Some(pod) = pods.get(&key).filter(|pod| pod.is_active()) else {
            return Ok(Action::Done);
        };
        for claim in &pod.spec.claims {
            if let ClaimVolume::Own(volume) = claim {
                make(context, claims, &pod, volume).await?;
            }
        }
        Ok::<_, Error>(Action::Done)
    };
    match reconcile::keyed("ephemeral-volume", 2, triggers, look).await {}
}

async fn make(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    pod: &Pod,
    volume: &str,
) -> Result<(), Error> {
    let (namespace, name) = (&pod.metadata.namespace, format!("{}-{volume}", pod.metadata.name));
    if let Some(claim) = claims.get(&NamespacedName::new(namespace, &name)) {
        if !claim
            .metadata
            .owner_references
            .iter()
            .any(|owner| owner.uid == pod.metadata.uid)
        {
            let why = format!(
                "PVC {namespace}/{name} was not created for pod {namespace}/{}",
                pod.metadata.name
            );
            let regarding = ObjectRef::of(&kinds::POD, &pod.metadata);
            context
                .recorder
                .event(&regarding, Type::Warning, "FailedBinding", "", why);
        }
        return Ok(());
    }
    // The informer's view has no templates; they are needed once per claim.
    let live: Option<Object> = context.client.get_opt(&kinds::POD, &pod.metadata.key()).await?;
    let Some(claim) = live
        .filter(|live| live.uid() == &*pod.metadata.uid)
        .and_then(|live| claim(&live, volume))
    else {
        return Ok(());
    };
    match context
        .client
        .create(&kinds::PERSISTENT_VOLUME_CLAIM, Some(namespace), &claim)
        .await
    {
        Ok(made) => claims.wait_written(&made).await,
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The claim that a volume's template describes. Pure.
fn claim(pod: &Object, volume: &str) -> Option<Object> {
    let volumes = pod.list_at("spec.volumes");
    let volume = volumes
        .iter()
        .find(|v| v.get("name").and_then(Value::as_str) == Some(volume))?;
    let template = volume.pointer("/ephemeral/volumeClaimTemplate")?;
    let mut claim = Object::new("v1", "PersistentVolumeClaim");
    for field in ["labels", "annotations"] {
        if let Some(value) = template.pointer(&format!("/metadata/{field}")) {
            claim.set(&format!("metadata.{field}"), value.clone());
        }
    }
    claim.set_name(&format!("{}-{}", pod.name(), volume.get("name")?.as_str()?));
    let owner = json!([{
        "apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid(),
        "controller": true, "blockOwnerDeletion": true,
    }]);
    claim.set("metadata.ownerReferences", owner);
    claim.set("spec", template.get("spec")?.clone());
    Some(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_becomes_a_claim_that_the_pod_owns() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        let volumes = json!([{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"volumes": volumes}});
        let pod = Object::from_value(pod).expect("pod");
        let made = claim(&pod, "data").expect("a claim");
        assert_eq!(made.name(), "p-data");
        assert_eq!(made.at("metadata.labels"), Some(&json!({"a": "b"})));
        assert_eq!(made.at("spec.accessModes"), Some(&json!(["ReadWriteOnce"])));
        assert_eq!(made.list_at("metadata.ownerReferences")[0]["uid"], "u");
        assert!(claim(&pod, "other").is_none());
    }
}
