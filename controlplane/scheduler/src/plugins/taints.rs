//! Taints: NoSchedule and NoExecute refuse a pod that does not tolerate them, PreferNoSchedule makes a node worse. Which
//! taint it was is not said, since taints may be confidential.

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter, NodeScore, ScorePlugin, scale_to_highest},
    view::{Node, Pod},
};

pub(crate) struct TaintToleration;

impl FilterPlugin for TaintToleration {
    fn prepare<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        Some(Box::new(|node: &Node, _: &NodeInfo| {
            if pod.tolerates(&node.spec.taints, |taint| {
                matches!(&*taint.effect, "NoSchedule" | "NoExecute")
            }) {
                vec![]
            } else {
                vec!["node(s) had untolerated taint(s)".into()]
            }
        }))
    }
}

impl ScorePlugin for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }

    fn prepare<'a>(&self, pod: &'a Pod) -> Option<Box<dyn NodeScore + 'a>> {
        Some(Box::new(Score { pod }))
    }
}

struct Score<'a> {
    pod: &'a Pod,
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &Node, _: &NodeInfo) -> i64 {
        let soft = node
            .spec
            .taints
            .iter()
            .filter(|taint| &*taint.effect == "PreferNoSchedule");
        let untolerated = soft.filter(|taint| {
            let applies = |effect: &str| effect.is_empty() || effect == "PreferNoSchedule";
            !self
                .pod
                .tolerations
                .iter()
                .any(|t| applies(&t.effect) && t.tolerates(taint))
        });
        i64::try_from(untolerated.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale_to_highest(scores, true);
    }
}
