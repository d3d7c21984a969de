//! Topology spread constraints that must hold (`whenUnsatisfiable: DoNotSchedule`).
//!
//! Per constraint: the matching pods per domain, and the fewest in any domain. A node passes if its domain would not have
//! more than `maxSkew` above the fewest.

use std::collections::HashMap;

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter, Reason},
    view::{Node, Pod, Spread},
};

pub(crate) struct PodTopologySpread;

impl FilterPlugin for PodTopologySpread {
    fn prepare<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        let hard: Vec<&Spread> = pod.spread.iter().filter(|spread| spread.hard).collect();
        if hard.is_empty() {
            return None;
        }
        let counted = hard
            .iter()
            .map(|spread| Counted::new(spread, &hard, pod, cluster))
            .collect();
        Some(Box::new(Check { constraints: counted }))
    }
}

struct Check<'a> {
    constraints: Vec<Counted<'a>>,
}

struct Counted<'a> {
    spread: &'a Spread,
    domains: HashMap<&'a str, i64>,
    fewest: i64,
    /// 1 if the pod itself will count.
    itself: i64,
}

impl<'a> Counted<'a> {
    fn new(spread: &'a Spread, all: &[&'a Spread], pod: &'a Pod, cluster: &'a Cluster) -> Self {
        let mut domains: HashMap<&str, i64> = HashMap::new();
        for (node, info) in cluster.nodes() {
            let labels = &node.metadata.labels;
            let complete = all.iter().all(|spread| labels.get(&spread.topology_key).is_some());
            let Some(domain) = labels
                .get(&spread.topology_key)
                .filter(|_| complete && eligible(spread, pod, node))
            else {
                continue;
            };
            let matching = info.pods.values().filter(|other| counts(spread, pod, other)).count();
            *domains.entry(domain).or_default() += i64::try_from(matching).unwrap_or(i64::MAX);
        }
        let enough = i64::try_from(domains.len()).unwrap_or(i64::MAX) >= spread.min_domains;
        let fewest = if enough {
            domains.values().copied().min().unwrap_or(0)
        } else {
            0
        };
        let itself = i64::from(spread.selector.matches(|key| pod.labels.get(key)));
        Self {
            spread,
            domains,
            fewest,
            itself,
        }
    }
}

fn eligible(spread: &Spread, pod: &Pod, node: &Node) -> bool {
    let hard = |taint: &crate::view::Taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute");
    (!spread.honor_affinity || pod.accepts_node(node))
        && (!spread.honor_taints || pod.tolerates(&node.spec.taints, hard))
}

fn counts(spread: &Spread, pod: &Pod, other: &Pod) -> bool {
    other.namespace == pod.namespace && !other.deleting && spread.selector.matches(|key| other.labels.get(key))
}

impl NodeFilter for Check<'_> {
    fn reasons(&self, node: &Node, _: &NodeInfo) -> Vec<Reason> {
        for counted in &self.constraints {
            let Some(domain) = node.metadata.labels.get(&counted.spread.topology_key) else {
                return vec!["node(s) didn't match pod topology spread constraints (missing required label)".into()];
            };
            let here = counted.domains.get(domain).copied().unwrap_or(0);
            if here + counted.itself - counted.fewest > counted.spread.max_skew {
                return vec!["node(s) didn't match pod topology spread constraints".into()];
            }
        }
        vec![]
    }
}
