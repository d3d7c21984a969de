//! Required pod affinity and anti-affinity, the pod's own and that of pods already placed.

use std::collections::HashSet;

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter, Reason},
    view::{Node, Pod, PodTerm},
};

pub(crate) struct InterPodAffinity;

/// A topology key and value.
type Domain<'a> = (&'a str, &'a str);

struct Check<'a> {
    /// Domains that placed pods refuse this pod.
    closed: HashSet<Domain<'a>>,
    /// Per required term of the pod, the domains that have a match.
    wanted: Vec<(&'a PodTerm, HashSet<&'a str>)>,
    /// Per refused term of the pod, the domains that have a match.
    refused: Vec<(&'a PodTerm, HashSet<&'a str>)>,
    /// The first of a group that wants its own like: nothing matches anywhere, but the pod itself would.
    first_of_its_kind: bool,
}

impl FilterPlugin for InterPodAffinity {
    fn prepare<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        let closed = closed_domains(pod, cluster);
        let (wanted, refused) = match &pod.affinity {
            Some(affinity) => (
                domains(&affinity.required_pods, cluster),
                domains(&affinity.refused_pods, cluster),
            ),
            None => (vec![], vec![]),
        };
        if closed.is_empty() && wanted.is_empty() && refused.is_empty() {
            return None;
        }
        let first_of_its_kind = wanted.iter().all(|(_, domains)| domains.is_empty())
            && wanted.iter().all(|(term, _)| term.matches(&pod.namespace, &pod.labels));
        Some(Box::new(Check {
            closed,
            wanted,
            refused,
            first_of_its_kind,
        }))
    }
}

fn closed_domains<'a>(pod: &Pod, cluster: &'a Cluster) -> HashSet<Domain<'a>> {
    let mut closed = HashSet::new();
    for (node, info) in cluster.nodes() {
        for affinity in info.pods.values().filter_map(|other| other.affinity.as_deref()) {
            for term in affinity
                .refused_pods
                .iter()
                .filter(|term| term.matches(&pod.namespace, &pod.labels))
            {
                if let Some(value) = node.metadata.labels.get(&term.topology_key) {
                    closed.insert((&*term.topology_key, value));
                }
            }
        }
    }
    closed
}

fn domains<'a>(terms: &'a [PodTerm], cluster: &'a Cluster) -> Vec<(&'a PodTerm, HashSet<&'a str>)> {
    let found = |term: &PodTerm, info: &NodeInfo| {
        info.pods
            .values()
            .any(|other| !other.deleting && term.matches(&other.namespace, &other.labels))
    };
    let of = |term: &'a PodTerm| {
        let nodes = cluster.nodes().filter(|(_, info)| found(term, info));
        nodes
            .filter_map(|(node, _)| node.metadata.labels.get(&term.topology_key))
            .collect()
    };
    terms.iter().map(|term| (term, of(term))).collect()
}

impl NodeFilter for Check<'_> {
    fn reasons(&self, node: &Node, _: &NodeInfo) -> Vec<Reason> {
        let labels = &node.metadata.labels;
        let has_keys = self
            .wanted
            .iter()
            .all(|(term, _)| labels.get(&term.topology_key).is_some());
        let near = |(term, domains): &(&PodTerm, HashSet<&str>)| {
            labels
                .get(&term.topology_key)
                .is_some_and(|value| domains.contains(value))
        };
        if !(self.wanted.iter().all(near) || (self.first_of_its_kind && has_keys)) {
            return vec!["node(s) didn't match pod affinity rules".into()];
        }
        if self.refused.iter().any(near) {
            return vec!["node(s) didn't match pod anti-affinity rules".into()];
        }
        if self.closed.iter().any(|(key, value)| labels.get(key) == Some(*value)) {
            return vec!["node(s) didn't satisfy existing pods anti-affinity rules".into()];
        }
        vec![]
    }
}
