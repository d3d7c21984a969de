//! Gives every node a range of pod addresses out of the cluster's. One node at a time, each after the informer has seen
//! the one before, so that no two ranges overlap.

use std::{collections::HashSet, net::Ipv4Addr};

use api::NamespacedName;
use client::{
    Error, Informer, Patch, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use ipnet::Ipv4Net;
use serde_json::json;

use crate::{Context, RESYNC, view::Node};

pub(crate) async fn run(context: Context) {
    let nodes: Informer<Node> = context.informers.get(&kinds::NODE, Scope::All);
    nodes.synced().await;
    let triggers = vec![reconcile::on_change(&nodes), reconcile::every(RESYNC, &nodes)];
    match reconcile::keyed("node-ipam", 1, triggers, |key| assign(&context, &nodes, key)).await {}
}

async fn assign(context: &Context, nodes: &Informer<Node>, key: NamespacedName) -> Result<Action, Error> {
    let Some(node) = nodes.get(&key) else {
        return Ok(Action::Done);
    };
    if !node.spec.pod_cidr.is_empty() || node.metadata.is_deleting() {
        return Ok(Action::Done);
    }
    let snapshot = nodes.snapshot();
    let used = snapshot.iter().filter_map(|(_, node)| node.spec.pod_cidr.parse().ok());
    let Some(range) = first_free(context.config.cluster_range, context.config.node_prefix, used) else {
        let note = format!("Node {} status is now: CIDRNotAvailable", key.name);
        let reference = ObjectRef::of(&kinds::NODE, &node.metadata);
        context
            .recorder
            .event(&reference, Type::Normal, "CIDRNotAvailable", "", note);
        tracing::warn!(node = %key.name, range = %context.config.cluster_range, "no pod range is left for the node");
        return Ok(Action::After(RESYNC));
    };
    let range = range.to_string();
    let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
        "spec": {"podCIDR": range, "podCIDRs": [range]}});
    match context
        .client
        .patch(&kinds::NODE, &key, None, Patch::Merge(patch))
        .await
    {
        Ok(node) => nodes.wait_written(&node).await,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(Action::Done)
}

/// The lowest part of `cluster` with that prefix length that overlaps none of `used`.
fn first_free(cluster: Ipv4Net, prefix: u8, used: impl Iterator<Item = Ipv4Net>) -> Option<Ipv4Net> {
    let parts = cluster.subnets(prefix).ok()?;
    let mut taken: HashSet<Ipv4Addr> = HashSet::new();
    let mut wide = Vec::new();
    for range in used {
        if range.prefix_len() >= prefix {
            taken.insert(Ipv4Net::new(range.addr(), prefix).ok()?.network());
        } else {
            wide.push(range);
        }
    }
    parts
        .into_iter()
        .find(|part| !taken.contains(&part.network()) && !wide.iter().any(|range| range.contains(part)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_part_is_taken() {
        for (used, free) in [
            (vec![], Some("10.128.0.0/17")),
            (vec!["10.128.0.0/17", "10.129.0.0/17"], Some("10.128.128.0/17")),
            (vec!["10.128.3.0/24"], Some("10.128.128.0/17")),
            (vec!["10.128.0.0/16"], Some("10.129.0.0/17")),
            (vec!["10.128.0.0/9"], None),
            (vec!["192.168.0.0/16"], Some("10.128.0.0/17")),
        ] {
            let used_nets = used.iter().map(|text| net(text));
            assert_eq!(
                first_free(net("10.128.0.0/9"), 17, used_nets),
                free.map(net),
                "{used:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn ranges_never_overlap(count in 1usize..20, drop in prop::collection::vec(0usize..20, 0..10)) {
            let mut used: Vec<Ipv4Net> = Vec::new();
            for n in 0..count {
                if let Some(range) = first_free(net("10.0.0.0/20"), 24, used.iter().copied()) {
                    prop_assert!(!used.iter().any(|other| other.contains(&range) || range.contains(other)));
                    used.push(range);
                }
                if drop.contains(&n) && !used.is_empty() { used.remove(0); }
            }
        }
    }
}
