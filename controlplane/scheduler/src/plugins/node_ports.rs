//! Host ports that are free.

use crate::{
    cluster::{Cluster, NodeInfo},
    framework::{FilterPlugin, NodeFilter},
    view::{Node, Pod},
};

pub(crate) struct NodePorts;

impl FilterPlugin for NodePorts {
    fn prepare<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn NodeFilter + 'a>> {
        if pod.ports.is_empty() {
            return None;
        }
        Some(Box::new(|_: &Node, info: &NodeInfo| {
            if info
                .ports()
                .any(|used| pod.ports.iter().any(|wanted| wanted.conflicts(used)))
            {
                vec!["node(s) didn't have free ports for the requested pod ports".into()]
            } else {
                vec![]
            }
        }))
    }
}
