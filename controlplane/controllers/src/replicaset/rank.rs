//! Which pods go first when there are too many, as Kubernetes documents it for ReplicaSets: those that serve least, then
//! those the user values least (`controller.kubernetes.io/pod-deletion-cost`), then those that crowd a node, then the
//! younger, by orders of magnitude, so that a scale-down does not always hit the newest node.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use jiff::Timestamp;

use crate::view::Pod;

/// `pods` in the order in which they should be deleted. `neighbours` are the pods of all ReplicaSets of the same owner.
pub(super) fn first_to_go(pods: &[Arc<Pod>], neighbours: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for pod in neighbours.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
        *crowd.entry(&pod.spec.node_name).or_default() += 1;
    }
    let mut ordered = pods.to_vec();
    ordered.sort_by(|a, b| compare(a, b, &crowd, now));
    ordered
}

fn compare(a: &Pod, b: &Pod, crowd: &HashMap<&str, usize>, now: Timestamp) -> Ordering {
    let crowding = |pod: &Pod| crowd.get(&*pod.spec.node_name).copied().unwrap_or(0);
    let created = |pod: &Pod| age_magnitude(pod.metadata.creation_timestamp, now);
    (!a.spec.node_name.is_empty())
        .cmp(&!b.spec.node_name.is_empty())
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.is_ready().cmp(&b.is_ready()))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowding(b).cmp(&crowding(a)))
        .then_with(|| age_magnitude(a.ready_since(), now).cmp(&age_magnitude(b.ready_since(), now)))
        .then_with(|| b.restarts().cmp(&a.restarts()))
        .then_with(|| created(a).cmp(&created(b)))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn phase(pod: &Pod) -> u8 {
    match &*pod.status.phase {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn cost(pod: &Pod) -> i32 {
    let cost = pod
        .metadata
        .annotations
        .get("controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The binary logarithm of the time since then; what has not happened is youngest.
fn age_magnitude(since: Option<Timestamp>, now: Timestamp) -> i32 {
    let Some(since) = since else { return -1 };
    let nanos = now.as_nanosecond() - since.as_nanosecond();
    u128::try_from(nanos)
        .ok()
        .and_then(u128::checked_ilog2)
        .and_then(|log| i32::try_from(log).ok())
        .unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: &str, ready_since: Option<i64>, more: Value) -> Arc<Pod> {
        let stamp = |second: i64| api::time::rfc3339(Timestamp::from_second(second).unwrap());
        let condition =
            ready_since.map(|at| json!({"type": "Ready", "status": "True", "lastTransitionTime": stamp(at)}));
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": stamp(ready_since.unwrap_or(0))},
            "spec": {"nodeName": node},
            "status": {"phase": "Running", "conditions": condition.into_iter().collect::<Vec<_>>()},
        });
        for (key, part) in more.as_object().unwrap() {
            for (field, part) in part.as_object().unwrap() {
                value[key][field] = part.clone();
            }
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn order(pods: &[Arc<Pod>]) -> Vec<String> {
        let now = Timestamp::from_second(1_000_000).unwrap();
        first_to_go(pods, pods, now)
            .iter()
            .map(|pod| pod.metadata.name.to_string())
            .collect()
    }

    #[test]
    fn those_that_serve_least_go_first() {
        let pods = [
            pod("ready", "n", Some(0), json!({})),
            pod("running", "n", None, json!({})),
            pod("pending", "n", None, json!({"status": {"phase": "Pending"}})),
            pod("unscheduled", "", None, json!({"status": {"phase": "Pending"}})),
            pod(
                "cheap",
                "n",
                Some(0),
                json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}}),
            ),
        ];
        assert_eq!(order(&pods), ["unscheduled", "pending", "running", "cheap", "ready"]);
    }

    #[test]
    fn a_crowded_node_gives_first_then_the_younger_by_magnitude() {
        let pods = [
            pod("a", "n1", Some(0), json!({})),
            pod("b", "n2", Some(0), json!({})),
            pod("c", "n2", Some(0), json!({})),
        ];
        assert_eq!(order(&pods), ["b", "c", "a"]);
        let pods = [
            pod("old", "n1", Some(0), json!({})),
            pod("young", "n2", Some(999_990), json!({})),
        ];
        assert_eq!(order(&pods), ["young", "old"]);
    }
}
