//! Whether a node has what a pod asks for, and how much would be left (LeastAllocated).

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, MAX_SCORE, NodeFilter, NodeScore, Reason, ScorePlugin},
    view::{Node, Pod},
};

pub(crate) struct Fit;

impl FilterPlugin for Fit {
    fn prepare<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        Some(Box::new(|node: &Node, info: &NodeInfo| insufficient(pod, node, info)))
    }
}

fn insufficient(pod: &Pod, node: &Node, info: &NodeInfo) -> Vec<Reason> {
    let (have, used, want) = (&node.status.allocatable, &info.requested, &pod.requests.exact);
    let mut reasons = Vec::new();
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= have.pods {
        reasons.push("Too many pods".into());
    }
    let lacks = |want: i64, have: i64, used: i64| want > 0 && want > have.saturating_sub(used);
    for (name, want, have, used) in [
        ("cpu", want.milli_cpu, have.milli_cpu, used.milli_cpu),
        ("memory", want.memory, have.memory, used.memory),
        (
            "ephemeral-storage",
            want.ephemeral_storage,
            have.ephemeral_storage,
            used.ephemeral_storage,
        ),
    ] {
        if lacks(want, have, used) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    for (name, want) in &want.extended {
        let of = |list: &crate::view::ResourceList| list.extended.get(name).copied().unwrap_or(0);
        if lacks(*want, of(have), of(used)) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    reasons
}

impl ScorePlugin for Fit {
    fn weight(&self) -> i64 {
        1
    }

    fn prepare<'a>(&self, pod: &'a Pod) -> Option<Box<dyn NodeScore + 'a>> {
        Some(Box::new(LeastAllocated { pod }))
    }
}

struct LeastAllocated<'a> {
    pod: &'a Pod,
}

impl NodeScore for LeastAllocated<'_> {
    fn score(&self, node: &Node, info: &NodeInfo) -> i64 {
        let have = &node.status.allocatable;
        let cpu = left(
            have.milli_cpu,
            info.scored_milli_cpu + self.pod.requests.scored_milli_cpu,
        );
        let memory = left(have.memory, info.scored_memory + self.pod.requests.scored_memory);
        let known: Vec<i64> = [cpu, memory].into_iter().flatten().collect();
        known.iter().sum::<i64>() / i64::try_from(known.len().max(1)).unwrap_or(1)
    }
}

/// The share of `have` that is left, in 100ths; `None` if the node has none.
fn left(have: i64, used: i64) -> Option<i64> {
    match have {
        ..=0 => None,
        have if used >= have => Some(0),
        have => i64::try_from(i128::from(have - used) * i128::from(MAX_SCORE) / i128::from(have)).ok(),
    }
}
