//! Which pods a node's NoExecute taints drive away, and when: at once without a toleration, else after the shortest
//! `tolerationSeconds` that applies, counted from the taint, or from when the pod was first seen under one that does not
//! say since when it is there; never with tolerations that name no time. Pure.

use std::{collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use crate::view::{Node, Pod, Taint};

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) now: Vec<Arc<Pod>>,
    /// When the next pod's time is up.
    pub(super) next: Option<Timestamp>,
}

/// Whether a node drives pods away.
pub(super) fn is_tainted(node: &Node) -> bool {
    evicting(node).next().is_some()
}

fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.taints.iter().filter(|taint| &*taint.effect == "NoExecute")
}

/// When pods were first seen under taints without a time, by uid.
pub(super) type FirstSeen = HashMap<Box<str>, Timestamp>;

pub(super) fn plan(nodes: &[Arc<Node>], pods: &[Arc<Pod>], now: Timestamp, seen: &mut FirstSeen) -> Plan {
    let tainted: HashMap<&str, &Node> = nodes
        .iter()
        .filter(|node| is_tainted(node))
        .map(|node| (&*node.metadata.name, &**node))
        .collect();
    let mut plan = Plan::default();
    let before = std::mem::take(seen);
    if tainted.is_empty() {
        return plan;
    }
    for pod in pods.iter().filter(|pod| pod.is_active()) {
        let Some(node) = tainted.get(&*pod.spec.node_name) else {
            continue;
        };
        let uid = &pod.metadata.uid;
        let since = before.get(uid).copied().unwrap_or(now);
        seen.insert(uid.clone(), since);
        match due(pod, node, now, since) {
            Some(at) if at <= now => plan.now.push(pod.clone()),
            Some(at) => plan.next = Some(plan.next.map_or(at, |next| next.min(at))),
            None => {}
        }
    }
    plan
}

/// When the pod has to go; `None` if it may stay.
fn due(pod: &Pod, node: &Node, now: Timestamp, seen: Timestamp) -> Option<Timestamp> {
    let mut due: Option<Timestamp> = None;
    for taint in evicting(node) {
        let tolerations: Vec<_> = pod.spec.tolerations.iter().filter(|t| t.tolerates(taint)).collect();
        let at = if tolerations.is_empty() {
            now
        } else {
            let Some(seconds) = tolerations.iter().filter_map(|toleration| toleration.seconds).min() else {
                continue;
            };
            let since = taint.time_added.unwrap_or(seen);
            since
                .checked_add(SignedDuration::from_secs(seconds.max(0)))
                .unwrap_or(Timestamp::MAX)
        };
        due = Some(due.map_or(at, |due| due.min(at)));
    }
    due
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(taints: Value) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints}})).unwrap())
    }

    fn pod(tolerations: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"spec": {"nodeName": "n", "tolerations": tolerations}})).unwrap())
    }

    #[test]
    fn tolerations_decide_when() {
        let taint = json!([{"key": "k", "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:40Z"}]);
        let tolerates = |seconds: Value| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        for (tolerations, now, gone, next) in [
            (json!([]), 100, true, None),
            (tolerates(json!(null)), 1_000_000, false, None),
            (tolerates(json!(300)), 399, false, Some(at(400))),
            (tolerates(json!(300)), 400, true, None),
            (tolerates(json!(0)), 100, true, None),
        ] {
            let plan = plan(
                &[node(taint.clone())],
                &[pod(tolerations)],
                at(now),
                &mut FirstSeen::new(),
            );
            assert_eq!((!plan.now.is_empty(), plan.next), (gone, next));
        }
    }

    #[test]
    fn other_effects_and_other_nodes_do_not_count() {
        let soft = node(json!([{"key": "k", "effect": "NoSchedule"}]));
        let seen = &mut FirstSeen::new();
        assert!(plan(&[soft], &[pod(json!([]))], at(0), seen).now.is_empty());
        let mut elsewhere = (*pod(json!([]))).clone();
        elsewhere.spec.node_name = "other".into();
        let hard = node(json!([{"key": "k", "effect": "NoExecute"}]));
        assert!(plan(&[hard], &[Arc::new(elsewhere)], at(0), seen).now.is_empty());
    }

    #[test]
    fn a_taint_without_a_time_counts_from_when_it_was_seen() {
        let nodes = [node(json!([{"key": "k", "effect": "NoExecute"}]))];
        let free = [node(json!([]))];
        let pods = [pod(json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 3}]))];
        let seen = &mut FirstSeen::new();
        for (nodes, now, gone, next) in [
            (&nodes, 10, false, Some(at(13))),
            (&nodes, 12, false, Some(at(13))),
            (&free, 13, false, None),
            (&nodes, 20, false, Some(at(23))),
            (&nodes, 23, true, None),
        ] {
            let plan = plan(nodes, &pods, at(now), seen);
            assert_eq!((!plan.now.is_empty(), plan.next), (gone, next), "{now}");
        }
    }
}
