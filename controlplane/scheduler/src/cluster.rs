//! The scheduler's picture of the cluster: nodes, and on each the pods that are bound to it or assumed to be.
//!
//! A pod is assumed from the moment a node is chosen until the watch shows it bound, or the binding failed: so that the
//! next pod is scheduled without waiting for the write of this one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api::NamespacedName;

use crate::view::{Claim, HostPort, Node, Pod, ResourceList, StorageClass, Volume};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A node and what is on it.
#[derive(Debug, Default)]
pub(crate) struct NodeInfo {
    /// `None` while there are pods of a node that is not (or no longer) known.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) pods: Map<NamespacedName, Arc<Pod>>,
    pub(crate) requested: ResourceList,
    pub(crate) scored_milli_cpu: i64,
    pub(crate) scored_memory: i64,
}

impl NodeInfo {
    fn add(&mut self, key: NamespacedName, pod: Arc<Pod>) {
        self.requested.add(&pod.requests.exact);
        self.scored_milli_cpu += pod.requests.scored_milli_cpu;
        self.scored_memory += pod.requests.scored_memory;
        self.pods.insert(key, pod);
    }

    fn remove(&mut self, key: &NamespacedName) {
        if let Some(pod) = self.pods.remove(key) {
            self.requested.subtract(&pod.requests.exact);
            self.scored_milli_cpu -= pod.requests.scored_milli_cpu;
            self.scored_memory -= pod.requests.scored_memory;
        }
    }

    /// Host ports in use.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &HostPort> {
        self.pods.values().flat_map(|pod| &pod.ports)
    }
}

/// Where a pod is in the picture.
#[derive(Clone, Debug)]
struct Place {
    node: Box<str>,
    uid: Box<str>,
    assumed: bool,
}

/// All nodes and placed pods.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<Box<str>, NodeInfo>,
    places: Map<NamespacedName, Place>,
    pub(crate) storage: Storage,
}

/// Claims, volumes and storage classes.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(crate) claims: Map<NamespacedName, Arc<Claim>>,
    pub(crate) volumes: Map<NamespacedName, Arc<Volume>>,
    pub(crate) classes: Map<NamespacedName, Arc<StorageClass>>,
}

impl Storage {
    /// Takes in one object's state.
    pub(crate) fn set<T>(list: &mut Map<NamespacedName, Arc<T>>, key: &NamespacedName, object: Option<Arc<T>>) {
        match object {
            Some(object) => list.insert(key.clone(), object),
            None => list.remove(key),
        };
    }

    /// The claims of a pod that are bound where it will run: they have no volume yet.
    pub(crate) fn waiting(&self, pod: &Pod) -> Vec<NamespacedName> {
        let keys = pod.claims.iter().map(|name| NamespacedName::new(&pod.namespace, name));
        keys.filter(|key| self.claims.get(key).is_some_and(|claim| !claim.is_bound()))
            .collect()
    }
}

impl Cluster {
    /// The nodes that exist, in order of their names.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Arc<Node>, &NodeInfo)> {
        self.nodes
            .values()
            .filter_map(|info| info.node.as_ref().map(|node| (node, info)))
    }

    /// Sets or removes a node. Its pods stay: they are removed by their own deletion.
    pub(crate) fn set_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        self.nodes.entry(name.into()).or_default().node = node;
        self.drop_if_empty(name);
    }

    /// A pod that the API shows bound to its node.
    pub(crate) fn set_bound(&mut self, key: &NamespacedName, pod: Arc<Pod>) {
        self.place(key, pod.node_name.clone(), pod, false);
    }

    /// A pod that is being bound to `node`.
    pub(crate) fn assume(&mut self, key: &NamespacedName, node: &str, pod: Arc<Pod>) {
        self.place(key, node.into(), pod, true);
    }

    /// Whether this very pod is being bound.
    pub(crate) fn is_assumed(&self, key: &NamespacedName, uid: &str) -> bool {
        self.places
            .get(key)
            .is_some_and(|place| place.assumed && &*place.uid == uid)
    }

    /// Takes back an assumption, unless it came true meanwhile.
    pub(crate) fn forget(&mut self, key: &NamespacedName, uid: &str) {
        if self.is_assumed(key, uid) {
            self.remove(key);
        }
    }

    /// Removes a pod; whether it held anything.
    pub(crate) fn remove(&mut self, key: &NamespacedName) -> bool {
        let Some(place) = self.places.remove(key) else {
            return false;
        };
        if let Some(info) = self.nodes.get_mut(&place.node) {
            info.remove(key);
        }
        self.drop_if_empty(&place.node);
        true
    }

    fn place(&mut self, key: &NamespacedName, node: Box<str>, pod: Arc<Pod>, assumed: bool) {
        self.remove(key);
        self.places.insert(
            key.clone(),
            Place {
                node: node.clone(),
                uid: pod.uid.clone(),
                assumed,
            },
        );
        self.nodes.entry(node).or_default().add(key.clone(), pod);
    }

    fn drop_if_empty(&mut self, name: &str) {
        if self
            .nodes
            .get(name)
            .is_some_and(|info| info.node.is_none() && info.pods.is_empty())
        {
            self.nodes.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    #[test]
    fn an_assumed_pod_counts_once_through_its_life() {
        let mut cluster = Cluster::default();
        cluster.set_node("n", Some(node("n", "4", "8Gi")));
        let pending = pod("p", "1", "1Gi");
        let key = pending.key();
        let used = |cluster: &Cluster| cluster.nodes().map(|(_, info)| info.requested.milli_cpu).sum::<i64>();
        cluster.assume(&key, "n", pending.clone());
        assert_eq!((used(&cluster), cluster.is_assumed(&key, "uid-p")), (1000, true));
        let bound = Arc::new(Pod {
            node_name: "n".into(),
            ..(*pending).clone()
        });
        cluster.set_bound(&key, bound);
        assert_eq!((used(&cluster), cluster.is_assumed(&key, "uid-p")), (1000, false));
        cluster.forget(&key, "uid-p");
        assert_eq!(used(&cluster), 1000, "a bound pod is not forgotten");
        assert!(cluster.remove(&key));
        assert_eq!((used(&cluster), cluster.remove(&key)), (0, false));
    }

    #[test]
    fn pods_of_a_node_not_yet_seen_count_once_it_is() {
        let mut cluster = Cluster::default();
        let bound = Arc::new(Pod {
            node_name: "n".into(),
            ..(*pod("p", "1", "1Gi")).clone()
        });
        cluster.set_bound(&bound.key(), bound.clone());
        assert_eq!(cluster.nodes().count(), 0);
        cluster.set_node("n", Some(node("n", "4", "8Gi")));
        assert_eq!(cluster.nodes().next().unwrap().1.requested.milli_cpu, 1000);
        cluster.set_node("n", None);
        cluster.remove(&bound.key());
        assert!(cluster.nodes.is_empty());
    }
}
