//! Who owns whom, as far as the informers show. Pure; every change says whom it may concern.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use api::NamespacedName;
use client::{Kind, Meta, OwnerRef};

use super::decide::{Dependent, FOREGROUND, ORPHAN, OwnerState};

pub(super) type Uid = Arc<str>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Arc<Kind>,
    pub(super) key: NamespacedName,
    owners: Vec<(Uid, bool)>,
    waits_for_dependents: bool,
    orphans_dependents: bool,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node, foldhash::fast::RandomState>,
    /// By owner, known or not.
    dependents: HashMap<Uid, BTreeSet<Uid>, foldhash::fast::RandomState>,
}

/// Being deleted in the foreground: it goes when its dependents are gone.
pub(super) fn waits_for_dependents(meta: &Meta) -> bool {
    meta.is_deleting() && meta.finalizers.iter().any(|finalizer| &**finalizer == FOREGROUND)
}

fn orphans_dependents(meta: &Meta) -> bool {
    meta.is_deleting() && meta.finalizers.iter().any(|finalizer| &**finalizer == ORPHAN)
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// An object as it is now; gives those to look at.
    pub(super) fn put(&mut self, kind: &Arc<Kind>, meta: &Meta) -> Vec<Uid> {
        let uid: Uid = meta.uid.as_ref().into();
        let node = Node {
            kind: kind.clone(),
            key: meta.key(),
            owners: meta
                .owner_references
                .iter()
                .map(|o| (Uid::from(&*o.uid), o.block_owner_deletion))
                .collect(),
            waits_for_dependents: waits_for_dependents(meta),
            orphans_dependents: orphans_dependents(meta),
        };
        let mut concerned = self.disconnect(&uid); // owners that may wait for this one
        concerned.retain(|owner| !node.owners.contains(&(owner.clone(), true)));
        for (owner, _) in &node.owners {
            self.dependents.entry(owner.clone()).or_default().insert(uid.clone());
        }
        let asks = node.waits_for_dependents || node.orphans_dependents;
        let suspicious = |owner: &Uid| self.nodes.get(owner).is_none_or(|owner| owner.waits_for_dependents);
        if asks || node.owners.iter().any(|(owner, _)| suspicious(owner)) {
            concerned.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        concerned
    }

    /// An object that is gone; gives those to look at: its dependents, and owners that waited for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let uid: Uid = uid.into();
        let mut concerned = self.disconnect(&uid);
        self.nodes.remove(&uid);
        concerned.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        concerned
    }

    /// A kind that is no longer served.
    pub(super) fn remove_kind(&mut self, kind: &Kind) -> Vec<Uid> {
        let gone: Vec<Uid> = self
            .nodes
            .iter()
            .filter(|(_, node)| *node.kind == *kind)
            .map(|(uid, _)| uid.clone())
            .collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// Takes an object off its owners' lists; gives the owners that wait for their dependents.
    fn disconnect(&mut self, uid: &Uid) -> Vec<Uid> {
        let owners = self.nodes.get(uid).map(|node| node.owners.clone()).unwrap_or_default();
        let mut waiting = Vec::new();
        for (owner, _) in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
            if self.nodes.get(&owner).is_some_and(|owner| owner.waits_for_dependents) {
                waiting.push(owner);
            }
        }
        waiting
    }

    /// Those that name `uid` as an owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Dependent> {
        let all = self.dependents.get(uid).into_iter().flatten();
        let describe = |dependent: &Uid| {
            let node = self.nodes.get(dependent)?;
            Some(Dependent {
                uid: dependent.clone(),
                blocks: node.owners.iter().any(|(owner, blocks)| **owner == *uid && *blocks),
                waits: node.waits_for_dependents,
            })
        };
        all.filter_map(describe).collect()
    }

    /// What is known of an owner of an object in `namespace`; `None` if nothing is, or if it is in a namespace where it
    /// cannot be meant.
    pub(super) fn owner_state(&self, namespace: &str, owner: &OwnerRef) -> Option<OwnerState> {
        let node = self.nodes.get(&*owner.uid)?;
        let reachable = node.key.namespace.as_deref().is_none_or(|own| own == namespace);
        let meant = *node.key.name == *owner.name && *node.kind.kind == *owner.kind;
        if !reachable || !meant {
            return None;
        }
        Some(if node.waits_for_dependents {
            OwnerState::Waiting
        } else {
            OwnerState::Present
        })
    }
}

#[cfg(test)]
mod tests {
    use client::kinds;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn meta(uid: &str, owners: &[&str], finalizers: &[&str]) -> Meta {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"uid": uid, "name": uid, "kind": "Pod", "blockOwnerDeletion": true}))
            .collect();
        let mut value =
            json!({"name": uid, "namespace": "ns", "uid": uid, "ownerReferences": owners, "finalizers": finalizers});
        if !finalizers.is_empty() {
            value["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(value).unwrap()
    }

    fn names(uids: Vec<Uid>) -> Vec<String> {
        uids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn changes_concern_those_they_should() {
        let (mut graph, kind) = (Graph::default(), Arc::new(kinds::POD.clone()));
        let put = |graph: &mut Graph, meta: Meta| names(graph.put(&kind, &meta));
        assert_eq!(
            put(&mut graph, meta("child", &["owner"], &[])),
            ["child"],
            "its owner is not known"
        );
        assert!(put(&mut graph, meta("owner", &[], &[])).is_empty());
        assert!(put(&mut graph, meta("child", &["owner"], &[])).is_empty());
        assert_eq!(put(&mut graph, meta("owner", &[], &[FOREGROUND])), ["owner"]);
        assert_eq!(names(graph.remove("child")), ["owner"], "it waited for that");
        assert!(put(&mut graph, meta("late", &["owner"], &[])).contains(&"late".to_owned()));
        assert_eq!(names(graph.remove("owner")), ["late"]);
    }

    #[test]
    fn an_owner_in_another_namespace_is_not_meant() {
        let (mut graph, kind) = (Graph::default(), Arc::new(kinds::POD.clone()));
        graph.put(&kind, &meta("owner", &[], &[]));
        let owner = meta("x", &["owner"], &[]).owner_references[0].clone();
        assert_eq!(graph.owner_state("ns", &owner), Some(OwnerState::Present));
        assert_eq!(graph.owner_state("other", &owner), None);
    }

    proptest! {
        /// Nothing is left behind by objects that are gone.
        #[test]
        fn an_emptied_graph_is_empty(steps in prop::collection::vec((0u8..6, prop::collection::vec(0u8..6, 0..3)), 0..40)) {
            let (mut graph, kind) = (Graph::default(), Arc::new(kinds::POD.clone()));
            for (uid, owners) in &steps {
                let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
                let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
                graph.put(&kind, &meta(&uid.to_string(), &owners, &[]));
            }
            for (uid, _) in &steps { graph.remove(&uid.to_string()); }
            prop_assert!(graph.nodes.is_empty() && graph.dependents.is_empty());
        }
    }
}
