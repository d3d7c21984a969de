//! The network of pods of containers, as their runtime is told it: a configuration for CNI's plugins. Pure.
//!
//! Each such pod has a namespace and a pair of links of its own (`ptp`), and the node a route to it. There is no bridge, so
//! everything between pods is routed by the node and passes the same rules, whatever the machine's settings for bridged
//! packets are, and a pod reaches itself through a Service. Addresses come from the upper half of the node's range
//! (`host-local`), whose first the node's ends all have; what is given out is kept where a boot forgets it, as the pods are
//! gone then as well. Masquerading is ours, the same for all pods.
//!
//! Host ports are translated by `portmap`, on 127.0.0.1 as well. For that the node takes packets for 127.0.0.1 from the pods'
//! links, but for a rule of ours (`masquerade`) that drops whatever is not an answer.

use ipnet::Ipv4Net;
use serde_json::json;

use crate::{Error, container_range, netns_path};

/// A CNI configuration list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// Says which cluster it belongs to.
    pub name: String,
    /// JSON.
    pub text: String,
}

/// What the network of a cluster's containers is called.
pub fn name(cluster_id: &str) -> String {
    format!("wherry-{cluster_id}")
}

/// The configuration for a node's pod range.
pub fn conflist(cluster_id: &str, pod_range: Ipv4Net) -> Result<Conflist, Error> {
    let name = name(cluster_id);
    let range = json!({"subnet": container_range(pod_range)?.to_string()});
    let config = json!({
        "cniVersion": "0.4.0",
        "name": name,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": netns_path(cluster_id).with_file_name("addresses"),
                    "ranges": [[range]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
        ],
    });
    Ok(Conflist {
        name,
        text: format!("{config:#}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_the_upper_half() {
        let made = conflist("0123abcd", "10.128.0.0/17".parse().unwrap()).unwrap();
        assert_eq!(made.name, "wherry-0123abcd");
        let parsed: serde_json::Value = serde_json::from_str(&made.text).unwrap();
        let ipam = &parsed["plugins"][0]["ipam"];
        assert_eq!(ipam["ranges"][0][0], json!({"subnet": "10.128.64.0/18"}));
        assert_eq!(ipam["dataDir"], "/run/wherry/0123abcd/addresses");
        assert!(conflist("x", "10.0.0.0/30".parse().unwrap()).is_err());
    }
}
