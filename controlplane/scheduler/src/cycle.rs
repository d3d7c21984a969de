//! One pod, one decision: which node, or why none. Pure.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, Reason, ScorePlugin},
    plugins,
    view::{Node, Pod},
};

/// With fewer nodes than this, every one is looked at.
const ALWAYS_ALL: usize = 100;

/// The outcome of a cycle.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    Node(Box<str>),
    Unschedulable(Diagnosis),
}

/// Why no node will do: how many there are, and how many were refused for what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Diagnosis {
    pub(crate) nodes: usize,
    pub(crate) reasons: BTreeMap<Reason, usize>,
}

impl std::fmt::Display for Diagnosis {
    /// `0/3 nodes are available: 1 Insufficient memory, 2 Insufficient cpu.`, worded as kube-scheduler words it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counted: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        counted.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, counted.join(", "))
    }
}

/// The plugins, and where the last cycle stopped looking.
pub(crate) struct Cycle {
    filters: Vec<Box<dyn FilterPlugin>>,
    scores: Vec<Box<dyn ScorePlugin>>,
    /// The node to start with, so that in a large cluster every node gets its turn.
    start: usize,
}

impl Cycle {
    pub(crate) fn new() -> Self {
        Self {
            filters: plugins::filters(),
            scores: plugins::scores(),
            start: 0,
        }
    }

    /// Chooses a node. `random(n)` gives an index below `n`, to choose among equals.
    pub(crate) fn decide(&mut self, pod: &Pod, cluster: &Cluster, random: &mut dyn FnMut(usize) -> usize) -> Decision {
        let nodes: Vec<(&Arc<Node>, &NodeInfo)> = cluster.nodes().collect();
        let (feasible, diagnosis) = self.filter(pod, cluster, &nodes);
        match feasible.as_slice() {
            [] => Decision::Unschedulable(diagnosis),
            [(node, _)] => Decision::Node(node.metadata.name.clone()),
            _ => Decision::Node(self.best(pod, &feasible, random)),
        }
    }

    fn filter<'a>(
        &mut self,
        pod: &Pod,
        cluster: &Cluster,
        nodes: &[(&'a Arc<Node>, &'a NodeInfo)],
    ) -> (Vec<(&'a Arc<Node>, &'a NodeInfo)>, Diagnosis) {
        let checks: Vec<_> = self
            .filters
            .iter()
            .filter_map(|filter| filter.prepare(pod, cluster))
            .collect();
        let enough = enough_feasible(nodes.len());
        let mut diagnosis = Diagnosis {
            nodes: nodes.len(),
            reasons: BTreeMap::new(),
        };
        let mut feasible = Vec::new();
        let mut looked_at = 0;
        let from = self.start.checked_rem(nodes.len()).unwrap_or(0);
        for (node, info) in nodes.iter().cycle().skip(from).take(nodes.len()) {
            if feasible.len() >= enough {
                break;
            }
            looked_at += 1;
            match checks
                .iter()
                .map(|check| check.reasons(node, info))
                .find(|reasons| !reasons.is_empty())
            {
                None => feasible.push((*node, *info)),
                Some(reasons) => {
                    for reason in reasons {
                        *diagnosis.reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
        self.start = from + looked_at;
        (feasible, diagnosis)
    }

    fn best(&self, pod: &Pod, nodes: &[(&Arc<Node>, &NodeInfo)], random: &mut dyn FnMut(usize) -> usize) -> Box<str> {
        let mut totals = vec![0i64; nodes.len()];
        for plugin in &self.scores {
            let Some(score) = plugin.prepare(pod) else { continue };
            let mut scores: Vec<i64> = nodes.iter().map(|(node, info)| score.score(node, info)).collect();
            score.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += score * plugin.weight();
            }
        }
        let highest = totals.iter().copied().max().unwrap_or(0);
        let best: Vec<&Arc<Node>> = nodes
            .iter()
            .zip(&totals)
            .filter(|(_, total)| **total == highest)
            .map(|((node, _), _)| *node)
            .collect();
        let chosen = best.get(random(best.len())).or(best.first());
        chosen.map(|node| node.metadata.name.clone()).unwrap_or_default()
    }
}

/// How many feasible nodes are enough to choose from: of many nodes a share, which shrinks from 50 to 5 per cent.
fn enough_feasible(nodes: usize) -> usize {
    if nodes < ALWAYS_ALL {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALWAYS_ALL)
}

#[cfg(test)]
mod tests;
