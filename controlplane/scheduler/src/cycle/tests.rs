use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{node, node_with, pod, pod_with};

fn cluster(nodes: &[Arc<Node>]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&node.metadata.name, Some(node.clone()));
    }
    cluster
}

fn decide(pod: &Pod, cluster: &Cluster) -> Decision {
    Cycle::new().decide(pod, cluster, &mut |_| 0)
}

fn message(pod: &Pod, cluster: &Cluster) -> String {
    match decide(pod, cluster) {
        Decision::Unschedulable(diagnosis) => diagnosis.to_string(),
        Decision::Node(node) => panic!("got {node}"),
    }
}

#[test]
fn says_why_there_is_no_node() {
    assert_eq!(
        message(&pod("p", "1", "1Gi"), &cluster(&[])),
        "no nodes available to schedule pods"
    );
    let nodes = cluster(&[
        node("a", "1", "8Gi"),
        node("b", "1", "1Gi"),
        node_with("c", json!({"spec": {"unschedulable": true}})),
        node_with(
            "d",
            json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}),
        ),
    ]);
    assert_eq!(
        message(&pod("p", "2", "4Gi"), &nodes),
        "0/4 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), \
         1 node(s) were unschedulable, 2 Insufficient cpu."
    );
    assert_eq!(
        message(
            &pod_with("p", json!({"spec": {"nodeSelector": {"disk": "ssd"}}})),
            &cluster(&[node("a", "1", "1Gi")])
        ),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    );
}

#[test]
fn prefers_the_emptier_node() {
    let mut nodes = cluster(&[node("a", "4", "8Gi"), node("b", "4", "8Gi")]);
    let other = pod("x", "2", "4Gi");
    nodes.assume(&other.key(), "a", other.clone());
    assert_eq!(decide(&pod("p", "1", "1Gi"), &nodes), Decision::Node("b".into()));
}

#[test]
fn a_large_cluster_is_searched_in_turns() {
    let nodes: Vec<_> = (0..300).map(|n| node(&format!("n{n:03}"), "4", "8Gi")).collect();
    let cluster = cluster(&nodes);
    let mut cycle = Cycle::new();
    cycle.decide(&pod("p", "1", "1Gi"), &cluster, &mut |_| 0);
    let first = cycle.start;
    assert_eq!(first, enough_feasible(300));
    let second = cycle.decide(&pod("q", "1", "1Gi"), &cluster, &mut |_| 0);
    assert_eq!(second, Decision::Node(format!("n{first:03}").as_str().into()));
}

proptest! {
    /// However pods arrive, no node is given more than it has, and no pod is refused that a node has room for.
    #[test]
    fn never_overcommits_and_never_refuses_what_fits(pods in prop::collection::vec((100i64..3000, 1i64..6), 1..40)) {
        let mut cluster = cluster(&[node("a", "4", "8Gi"), node("b", "2", "16Gi"), node("c", "8", "4Gi")]);
        let mut cycle = Cycle::new();
        for (n, (cpu, memory)) in pods.into_iter().enumerate() {
            let pod = pod(&format!("p{n}"), &format!("{cpu}m"), &format!("{memory}Gi"));
            let fits = |info: &NodeInfo, node: &Node| {
                info.requested.milli_cpu + cpu <= node.status.allocatable.milli_cpu
                    && info.requested.memory + (memory << 30) <= node.status.allocatable.memory
            };
            let room = cluster.nodes().any(|(node, info)| fits(info, node));
            match cycle.decide(&pod, &cluster, &mut |n| n - 1) {
                Decision::Node(name) => {
                    prop_assert!(cluster.nodes().any(|(node, info)| node.metadata.name == name && fits(info, node)));
                    cluster.assume(&pod.key(), &name, pod.clone());
                }
                Decision::Unschedulable(_) => prop_assert!(!room),
            }
        }
    }
}
