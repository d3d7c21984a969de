//! A table of pods against nodes, through all filters together.

use std::sync::Arc;

use serde_json::{Value, json};

use super::filters;
use crate::{
    cluster::Cluster,
    testing::{node_with, pod_with},
    view::{Node, Pod},
};

fn reasons(pod: &Pod, cluster: &Cluster, name: &str) -> Vec<String> {
    let (node, info) = cluster.nodes().find(|(node, _)| &*node.metadata.name == name).unwrap();
    let filters = filters();
    let checks = filters.iter().filter_map(|filter| filter.prepare(pod, cluster));
    checks
        .flat_map(|check| check.reasons(node, info))
        .map(|reason| reason.into_owned())
        .collect()
}

fn one(pod: Value, node: Value) -> Vec<String> {
    let mut cluster = Cluster::default();
    cluster.set_node("n", Some(node_with("n", node)));
    reasons(&pod_with("p", json!({"spec": pod})), &cluster, "n")
}

#[test]
fn taints_and_tolerations() {
    let tainted = |effect: &str| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    for (tolerations, effect, passes) in [
        (json!([]), "NoSchedule", false),
        (json!([]), "NoExecute", false),
        (json!([]), "PreferNoSchedule", true),
        (
            json!([{"key": "k", "operator": "Equal", "value": "v"}]),
            "NoSchedule",
            true,
        ),
        (json!([{"key": "k", "value": "v"}]), "NoSchedule", true),
        (json!([{"key": "k", "value": "other"}]), "NoSchedule", false),
        (
            json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
            "NoSchedule",
            true,
        ),
        (
            json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
            "NoExecute",
            false,
        ),
        (json!([{"operator": "Exists"}]), "NoExecute", true),
    ] {
        assert_eq!(
            one(json!({"tolerations": tolerations}), tainted(effect)).is_empty(),
            passes,
            "{tolerations} {effect}"
        );
    }
}

#[test]
fn node_affinity_operators() {
    let node = || json!({"metadata": {"labels": {"zone": "a", "cores": "8"}}});
    for (key, operator, values, passes) in [
        ("zone", "In", json!(["a", "b"]), true),
        ("zone", "In", json!(["b"]), false),
        ("zone", "NotIn", json!(["b"]), true),
        ("missing", "NotIn", json!(["b"]), true),
        ("zone", "Exists", json!([]), true),
        ("zone", "DoesNotExist", json!([]), false),
        ("cores", "Gt", json!(["7"]), true),
        ("cores", "Lt", json!(["7"]), false),
        ("zone", "Gt", json!(["7"]), false),
    ] {
        let term = json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
        let pod = json!({"affinity": {"nodeAffinity": required}});
        assert_eq!(one(pod, node()).is_empty(), passes, "{key} {operator} {values}");
    }
    let by_name = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
    let required = |term: &Value| {
        json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    };
    assert!(one(required(&by_name), node()).is_empty());
    assert!(
        !one(required(&json!({})), node()).is_empty(),
        "an empty term matches nothing"
    );
}

#[test]
fn resources_by_name() {
    let wants = |name: &str, amount: &str| json!({"containers": [{"resources": {"requests": {name: amount}}}]});
    for (name, amount, reason) in [
        ("cpu", "4", None),
        ("cpu", "4001m", Some("Insufficient cpu")),
        ("memory", "9Gi", Some("Insufficient memory")),
        ("ephemeral-storage", "1", Some("Insufficient ephemeral-storage")),
        ("example.com/gpu", "1", Some("Insufficient example.com/gpu")),
    ] {
        assert_eq!(
            one(wants(name, amount), json!({})),
            reason.into_iter().collect::<Vec<_>>(),
            "{name} {amount}"
        );
    }
    assert_eq!(
        one(json!({}), json!({"status": {"allocatable": {"pods": "0"}}})),
        ["Too many pods"]
    );
}

fn placed(nodes: &[Arc<Node>], pods: &[(&str, Arc<Pod>)]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&node.metadata.name, Some(node.clone()));
    }
    for (node, pod) in pods {
        cluster.assume(&pod.key(), node, pod.clone());
    }
    cluster
}

#[test]
fn host_ports_conflict_by_address_and_protocol() {
    let on = |name: &str, port: Value| pod_with(name, json!({"spec": {"containers": [{"ports": [port]}]}}));
    let cluster = placed(
        &[node_with("n", json!({}))],
        &[("n", on("x", json!({"hostPort": 80, "hostIP": "10.0.0.1"})))],
    );
    for (port, passes) in [
        (json!({"hostPort": 80}), false),
        (json!({"hostPort": 80, "hostIP": "10.0.0.2"}), true),
        (json!({"hostPort": 80, "hostIP": "10.0.0.1"}), false),
        (json!({"hostPort": 80, "protocol": "UDP"}), true),
        (json!({"containerPort": 80}), true),
    ] {
        assert_eq!(
            reasons(&on("p", port.clone()), &cluster, "n").is_empty(),
            passes,
            "{port}"
        );
    }
}

#[test]
fn spread_keeps_domains_within_the_skew() {
    let zone = |name: &str, zone: &str| node_with(name, json!({"metadata": {"labels": {"zone": zone}}}));
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let pod = pod_with("p", json!({"spec": spread}));
    let nodes = [zone("a", "a"), zone("b", "b"), node_with("c", json!({}))];
    let cluster = placed(&nodes, &[("a", pod_with("x", json!({})))]);
    assert_eq!(
        reasons(&pod, &cluster, "a"),
        ["node(s) didn't match pod topology spread constraints"]
    );
    assert!(reasons(&pod, &cluster, "b").is_empty());
    assert_eq!(
        reasons(&pod, &cluster, "c"),
        ["node(s) didn't match pod topology spread constraints (missing required label)"]
    );
}

#[test]
fn pods_attract_and_repel_each_other() {
    let term = |kind: &str| {
        json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}})
    };
    let nodes = [node_with("a", json!({})), node_with("b", json!({}))];
    let plain = pod_with("x", json!({}));
    let cluster = placed(&nodes, &[("a", plain.clone())]);
    let near = pod_with("p", term("podAffinity"));
    assert!(reasons(&near, &cluster, "a").is_empty());
    assert_eq!(
        reasons(&near, &cluster, "b"),
        ["node(s) didn't match pod affinity rules"]
    );
    assert!(
        reasons(&near, &placed(&nodes, &[]), "b").is_empty(),
        "the first of its kind may go anywhere"
    );
    let apart = pod_with("p", term("podAntiAffinity"));
    assert_eq!(
        reasons(&apart, &cluster, "a"),
        ["node(s) didn't match pod anti-affinity rules"]
    );
    let cluster = placed(&nodes, &[("a", apart)]);
    assert_eq!(
        reasons(&plain, &cluster, "a"),
        ["node(s) didn't satisfy existing pods anti-affinity rules"]
    );
    assert!(reasons(&plain, &cluster, "b").is_empty());
}
