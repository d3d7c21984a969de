//! The seam between the cycle and the plugins. A plugin looks at a pod once (`prepare`: PreFilter and PreScore) and says
//! `None` if it does not care; else it gives a check or a score per node.
//!
//! To add a plugin: one file in `plugins/` and one line in [`crate::plugins`].

use std::borrow::Cow;

use crate::{
    cluster::{Cluster, NodeInfo},
    view::{Node, Pod},
};

/// Why a node was refused, as users read it: `Insufficient cpu`.
pub(crate) type Reason = Cow<'static, str>;

/// Refuses nodes.
pub(crate) trait FilterPlugin: Send + Sync {
    /// The check for one pod, `None` if every node passes.
    fn prepare<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>>;
}

/// One pod's check.
pub(crate) trait NodeFilter {
    /// All reasons against the node; none if it passes.
    fn reasons(&self, node: &Node, info: &NodeInfo) -> Vec<Reason>;
}

impl<F: Fn(&Node, &NodeInfo) -> Vec<Reason>> NodeFilter for F {
    fn reasons(&self, node: &Node, info: &NodeInfo) -> Vec<Reason> {
        self(node, info)
    }
}

/// Prefers nodes.
pub(crate) trait ScorePlugin: Send + Sync {
    /// The plugin's weight among the others.
    fn weight(&self) -> i64;

    /// The score for one pod, `None` if all nodes are alike.
    fn prepare<'a>(&self, pod: &'a Pod) -> Option<Box<dyn NodeScore + 'a>>;
}

/// One pod's preference.
pub(crate) trait NodeScore {
    /// A node's score; after [`NodeScore::normalize`], between 0 and [`MAX_SCORE`].
    fn score(&self, node: &Node, info: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into range.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// The best score of one plugin.
pub(crate) const MAX_SCORE: i64 = 100;

/// Scales the scores so that the highest is [`MAX_SCORE`]; `reverse` makes the highest the worst.
pub(crate) fn scale_to_highest(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        if highest > 0 {
            *score = *score * MAX_SCORE / highest;
        }
        if reverse {
            *score = MAX_SCORE - *score;
        }
    }
}
