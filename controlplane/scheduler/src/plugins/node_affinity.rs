//! `nodeSelector` and node affinity.

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter, NodeScore, ScorePlugin, scale_to_highest},
    view::{Affinity, Node, Pod},
};

pub(crate) struct NodeAffinity;

impl FilterPlugin for NodeAffinity {
    fn prepare<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        if pod.node_selector.is_empty() && pod.required_nodes().is_none() {
            return None;
        }
        Some(Box::new(|node: &Node, _: &NodeInfo| {
            if pod.accepts_node(node) {
                vec![]
            } else {
                vec!["node(s) didn't match Pod's node affinity/selector".into()]
            }
        }))
    }
}

impl ScorePlugin for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, pod: &'a Pod) -> Option<Box<dyn NodeScore + 'a>> {
        let affinity = pod
            .affinity
            .as_ref()
            .filter(|affinity| !affinity.preferred_nodes.is_empty())?;
        Some(Box::new(Score { affinity }))
    }
}

struct Score<'a> {
    affinity: &'a Affinity,
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &Node, _: &NodeInfo) -> i64 {
        let matching = self
            .affinity
            .preferred_nodes
            .iter()
            .filter(|preferred| preferred.term.matches(node));
        matching.map(|preferred| preferred.weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale_to_highest(scores, false);
    }
}
