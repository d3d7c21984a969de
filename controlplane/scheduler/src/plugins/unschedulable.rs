//! Cordoned nodes take no pods, but those that tolerate the taint that stands for it.

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter},
    view::{Node, Pod, Taint},
};

pub(crate) struct NodeUnschedulable;

impl FilterPlugin for NodeUnschedulable {
    fn prepare<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: "".into(),
            effect: "NoSchedule".into(),
        };
        if pod.tolerates(&[taint], |_| true) {
            return None;
        }
        Some(Box::new(|node: &Node, _: &NodeInfo| {
            if node.spec.unschedulable {
                vec!["node(s) were unschedulable".into()]
            } else {
                vec![]
            }
        }))
    }
}
