//! Which node may read which Secrets and ConfigMaps: those that the pods bound to it name. Upstream keeps a graph of
//! objects; without volumes and claims between them two levels are left, and a count of pods per edge is all of it.
//!
//! The graph follows the pods when it is asked, and not before: it reads on in their history from where it last stood.

use std::collections::HashMap;
use std::sync::Arc;

use api::{GroupResource, Status};
use parking_lot::Mutex;

use super::references::{References, Source};
use crate::registry::reader::{Happened, Reader, Trail};

/// Who names what, with the number of pods that do.
#[derive(Default)]
struct Edges(HashMap<String, HashMap<(Source, String, String), usize>>);

impl Edges {
    fn add(&mut self, pod: References) {
        let node = self.0.entry(pod.node).or_default();
        for (source, name) in pod.names {
            *node.entry((source, pod.namespace.clone(), name)).or_default() += 1;
        }
    }

    fn remove(&mut self, pod: References) {
        let Some(node) = self.0.get_mut(&pod.node) else { return };
        for (source, name) in pod.names {
            let edge = (source, pod.namespace.clone(), name);
            if let Some(pods) = node.get_mut(&edge) {
                *pods -= 1;
                if *pods == 0 {
                    node.remove(&edge);
                }
            }
        }
        if node.is_empty() {
            self.0.remove(&pod.node);
        }
    }

    fn has(&self, node: &str, edge: &(Source, String, String)) -> bool {
        self.0.get(node).is_some_and(|node| node.contains_key(edge))
    }
}

/// The edges and how far in the pods' history they go.
struct Followed {
    edges: Edges,
    trail: Option<Box<dyn Trail>>,
}

/// The graph over the cluster's pods.
pub(super) struct Graph {
    reader: Arc<dyn Reader>,
    followed: Mutex<Followed>,
}

impl Graph {
    pub(super) fn new(reader: Arc<dyn Reader>) -> Self {
        Graph {
            reader,
            followed: Mutex::new(Followed {
                edges: Edges::default(),
                trail: None,
            }),
        }
    }

    /// Whether a pod bound to the node names the object. Only a no asks the store whether the cache has seen every pod.
    pub(super) async fn relates(
        &self,
        node: &str,
        source: Source,
        namespace: &str,
        name: &str,
    ) -> Result<bool, Status> {
        let edge = (source, namespace.to_owned(), name.to_owned());
        if self.has(node, &edge) {
            return Ok(true);
        }
        self.reader.fresh(&pods()).await?;
        Ok(self.has(node, &edge))
    }

    fn has(&self, node: &str, edge: &(Source, String, String)) -> bool {
        let mut followed = self.followed.lock();
        let Followed { edges, trail } = &mut *followed;
        let trail = trail.get_or_insert_with(|| self.reader.trail(&pods()));
        while let Some(happened) = trail.next() {
            follow(edges, happened);
        }
        edges.has(node, edge)
    }
}

fn follow(edges: &mut Edges, happened: Happened) {
    match happened {
        Happened::Anew(pods) => {
            *edges = Edges::default();
            for pod in pods.iter().filter_map(|pod| References::of(pod)) {
                edges.add(pod);
            }
        }
        Happened::Changed { before, after } => {
            let [before, after] = [before, after].map(|pod| References::of(&pod?));
            if before == after {
                return;
            }
            // In this order, so that an edge that stays is not removed and made again.
            after.into_iter().for_each(|pod| edges.add(pod));
            before.into_iter().for_each(|pod| edges.remove(pod));
        }
    }
}

fn pods() -> GroupResource {
    GroupResource::new("", "pods")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pod(node: Option<&str>, secrets: &[&str]) -> Bytes {
        let pulls: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        json!({"metadata": {"namespace": "a"}, "spec": {"nodeName": node, "imagePullSecrets": pulls}})
            .to_string()
            .into()
    }

    fn reads(edges: &Edges, node: &str, name: &str) -> bool {
        edges.has(node, &(Source::Secret, "a".to_owned(), name.to_owned()))
    }

    fn changed(before: Option<&Bytes>, after: Option<&Bytes>) -> Happened {
        Happened::Changed {
            before: before.cloned(),
            after: after.cloned(),
        }
    }

    #[test]
    fn a_node_reads_from_binding_to_removal() {
        let mut edges = Edges::default();
        let (pending, bound) = (pod(None, &["x"]), pod(Some("n1"), &["x"]));
        follow(&mut edges, changed(None, Some(&pending)));
        assert!(!reads(&edges, "n1", "x"));
        follow(&mut edges, changed(Some(&pending), Some(&bound)));
        assert!(reads(&edges, "n1", "x") && !reads(&edges, "n2", "x") && !reads(&edges, "n1", "y"));
        follow(&mut edges, changed(None, Some(&bound)));
        follow(&mut edges, changed(Some(&bound), None));
        assert!(reads(&edges, "n1", "x"), "another pod still names it");
        follow(&mut edges, changed(Some(&bound), None));
        assert!(!reads(&edges, "n1", "x"));
        assert!(edges.0.is_empty());
    }

    #[test]
    fn beginning_anew_forgets_what_was() {
        let mut edges = Edges::default();
        follow(&mut edges, changed(None, Some(&pod(Some("n1"), &["x"]))));
        follow(&mut edges, Happened::Anew(vec![pod(Some("n2"), &["y"])]));
        assert!(!reads(&edges, "n1", "x") && reads(&edges, "n2", "y"));
    }

    proptest! {
        /// Following every change comes to the same as looking at what is there in the end.
        #[test]
        fn following_is_counting(changes in proptest::collection::vec((0..4usize, proptest::option::of((0..2usize, 0..3usize))), 0..40)) {
            let mut pods: Vec<Option<Bytes>> = vec![None; 4];
            let mut edges = Edges::default();
            for (which, now) in changes {
                let now = now.map(|(node, secret)| pod([None, Some("n1")][node], &[["x", "y", "z"][secret]]));
                let before = std::mem::replace(&mut pods[which], now.clone());
                follow(&mut edges, changed(before.as_ref(), now.as_ref()));
            }
            let mut anew = Edges::default();
            follow(&mut anew, Happened::Anew(pods.into_iter().flatten().collect()));
            prop_assert_eq!(edges.0, anew.0);
        }
    }
}
