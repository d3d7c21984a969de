//! Claims: a pod runs where its volumes can be used. A claim whose class waits for its first pod is bound on the node that
//! is chosen, before the pod is; until then any node will do on which a volume could be made.

use std::sync::Arc;

use api::NamespacedName;

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter, Reason},
    view::{Node, Pod, StorageClass, Volume},
};

pub(crate) struct VolumeBinding;

impl FilterPlugin for VolumeBinding {
    fn prepare<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        if pod.claims.is_empty() {
            return None;
        }
        let (mut volumes, mut selected, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for name in &pod.claims {
            match look(pod, name, cluster) {
                Ok(Found::Volume(volume)) => volumes.push(volume),
                Ok(Found::Selected(node)) => selected.push(node),
                Ok(Found::Made(class)) => made.push(class),
                Err(reason) => return Some(Box::new(move |_: &Node, _: &NodeInfo| vec![reason.clone()])),
            }
        }
        Some(Box::new(move |node: &Node, _: &NodeInfo| {
            let reachable = |volume: &&Arc<Volume>| volume.nodes().is_none_or(|nodes| nodes.matches(node));
            let chosen = selected.iter().all(|name| **name == *node.metadata.name);
            if !volumes.iter().all(reachable) || !chosen {
                return vec!["node(s) didn't match PersistentVolume's node affinity".into()];
            }
            match made.iter().all(|class| class.allows(&node.metadata.labels)) {
                true => vec![],
                false => vec!["node(s) didn't find available persistent volumes to bind".into()],
            }
        }))
    }
}

enum Found<'a> {
    Volume(&'a Arc<Volume>),
    /// It is being bound on this node.
    Selected(&'a str),
    /// It is made where the pod will run, as far as its class lets it.
    Made(&'a Arc<StorageClass>),
}

fn look<'a>(pod: &Pod, name: &str, cluster: &'a Cluster) -> Result<Found<'a>, Reason> {
    let storage = &cluster.storage;
    let missing = || Reason::from(format!("persistentvolumeclaim \"{name}\" not found"));
    let claim = storage.claims.get(&NamespacedName::new(&pod.namespace, name));
    let claim = claim.ok_or_else(missing)?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted").into());
    }
    if claim.is_bound() {
        let volume = storage.volumes.get(&NamespacedName::cluster(&claim.spec.volume_name));
        let lost = || Reason::from("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
        return volume.map(Found::Volume).ok_or_else(lost);
    }
    let class = claim.spec.storage_class_name.as_deref().unwrap_or_default();
    let class = storage.classes.get(&NamespacedName::cluster(class));
    let Some(class) = class.filter(|class| class.waits_for_consumer()) else {
        return Err("pod has unbound immediate PersistentVolumeClaims".into());
    };
    Ok(claim.selected_node().map_or(Found::Made(class), Found::Selected))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::node;

    fn cluster(claim: Value) -> Cluster {
        let mut cluster = Cluster::default();
        let decode = |key: &str| NamespacedName::new("ns", key);
        let storage = &mut cluster.storage;
        if !claim.is_null() {
            let claim = serde_json::from_value(claim).expect("claim");
            storage.claims.insert(decode("c"), Arc::new(claim));
        }
        for (name, zone) in [("late", None), ("zoned", Some("a"))] {
            let terms: Vec<_> = zone
                .iter()
                .map(|zone| json!({"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}))
                .collect();
            let class = json!({"volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": terms});
            let class = serde_json::from_value(class).expect("class");
            storage.classes.insert(NamespacedName::cluster(name), Arc::new(class));
        }
        let terms = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]);
        let volume = json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}});
        let volume = serde_json::from_value(volume).expect("volume");
        storage.volumes.insert(NamespacedName::cluster("v"), Arc::new(volume));
        cluster
    }

    fn reasons(claim: Value, node_name: &str) -> Vec<String> {
        let spec = json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]});
        let pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("pod");
        let cluster = cluster(claim);
        let filter = VolumeBinding.prepare(&pod, &cluster).expect("it has a claim");
        let reasons = filter.reasons(&node(node_name, "1", "1Gi"), &NodeInfo::default());
        reasons.into_iter().map(|r| r.into_owned()).collect()
    }

    #[test]
    fn a_pod_runs_where_its_volume_is() {
        let bound = json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
        assert!(reasons(bound.clone(), "n1").is_empty());
        assert_eq!(
            reasons(bound, "n2"),
            ["node(s) didn't match PersistentVolume's node affinity"]
        );
        let lost = json!({"spec": {"volumeName": "w"}, "status": {"phase": "Bound"}});
        assert_eq!(
            reasons(lost, "n1"),
            ["node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"]
        );
    }

    #[test]
    fn a_claim_that_waits_lets_the_node_be_chosen_once() {
        let late = |annotations: Value| json!({"metadata": {"annotations": annotations}, "spec": {"storageClassName": "late"}});
        assert!(reasons(late(json!({})), "n2").is_empty());
        let selected = json!({"volume.kubernetes.io/selected-node": "n1"});
        assert!(reasons(late(selected.clone()), "n1").is_empty());
        assert_eq!(reasons(late(selected), "n2").len(), 1);
        let zoned = json!({"spec": {"storageClassName": "zoned"}});
        let nowhere = ["node(s) didn't find available persistent volumes to bind"];
        assert_eq!(reasons(zoned, "n1"), nowhere, "the node is in no zone");
        let now = json!({"spec": {"storageClassName": "now"}});
        assert_eq!(reasons(now, "n1"), ["pod has unbound immediate PersistentVolumeClaims"]);
        assert_eq!(reasons(Value::Null, "n1"), ["persistentvolumeclaim \"c\" not found"]);
    }
}
