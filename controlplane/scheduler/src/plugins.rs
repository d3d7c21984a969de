//! The catalogue of plugins, with the weights of Kubernetes' default profile.
//!
//! Deliberately absent: limits of attached volumes, image locality, preferred pod affinity, preemption.

mod balanced;
mod fit;
mod inter_pod;
mod node_affinity;
mod node_name;
mod node_ports;
mod spread;
mod taints;
mod unschedulable;
mod volume_binding;

use crate::framework::{FilterPlugin, ScorePlugin};

/// All filters, the cheap ones first.
pub(crate) fn filters() -> Vec<Box<dyn FilterPlugin>> {
    vec![
        Box::new(unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taints::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(fit::Fit),
        Box::new(volume_binding::VolumeBinding),
        Box::new(spread::PodTopologySpread),
        Box::new(inter_pod::InterPodAffinity),
    ]
}

/// All scores.
pub(crate) fn scores() -> Vec<Box<dyn ScorePlugin>> {
    vec![
        Box::new(taints::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(fit::Fit),
        Box::new(balanced::BalancedAllocation),
    ]
}

#[cfg(test)]
mod tests;
