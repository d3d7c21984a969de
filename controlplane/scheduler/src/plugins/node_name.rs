//! A pod that names its node never comes here; the check stands for the pods whose name is set while they wait.

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter},
    view::{Node, Pod},
};

pub(crate) struct NodeName;

impl FilterPlugin for NodeName {
    fn prepare<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        if pod.node_name.is_empty() {
            return None;
        }
        Some(Box::new(|node: &Node, _: &NodeInfo| {
            if node.metadata.name == pod.node_name {
                vec![]
            } else {
                vec!["node(s) didn't match the requested node name".into()]
            }
        }))
    }
}
