//! Prefers nodes where CPU and memory would be used up evenly.

use crate::{
    cluster::NodeInfo,
    framework::{MAX_SCORE, NodeScore, ScorePlugin},
    view::{Node, Pod},
};

pub(crate) struct BalancedAllocation;

impl ScorePlugin for BalancedAllocation {
    fn weight(&self) -> i64 {
        1
    }

    /// A pod that asks for nothing is balanced anywhere.
    fn prepare<'a>(&self, pod: &'a Pod) -> Option<Box<dyn NodeScore + 'a>> {
        let asks = pod.requests.exact.milli_cpu > 0 || pod.requests.exact.memory > 0;
        asks.then(|| -> Box<dyn NodeScore + 'a> { Box::new(Score { pod }) })
    }
}

struct Score<'a> {
    pod: &'a Pod,
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &Node, info: &NodeInfo) -> i64 {
        let (have, want) = (&node.status.allocatable, &self.pod.requests.exact);
        let cpu = share(info.requested.milli_cpu + want.milli_cpu, have.milli_cpu);
        let memory = share(info.requested.memory + want.memory, have.memory);
        // the standard deviation of two shares is half their distance
        let deviation = (cpu - memory).abs() / 2.0;
        #[allow(clippy::cast_possible_truncation, reason = "between 0 and 100")]
        let score = ((1.0 - deviation) * MAX_SCORE as f64) as i64;
        score
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share needs no more precision")]
fn share(used: i64, have: i64) -> f64 {
    if have <= 0 {
        1.0
    } else {
        (used as f64 / have as f64).min(1.0)
    }
}
