//! What is allowed in a pod's spec and yet not what its author wants: texts for `Warning` headers, in Kubernetes' words.

use std::collections::HashMap;

use api::Quantity;

use crate::resources::validation::At;

/// Labels of nodes that have other names by now: since when, and which.
const NODE_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
];

/// Kinds of volumes that are no longer what they were.
const VOLUMES: [(&str, &str); 9] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("gitRepo", "deprecated in v1.11"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
];

/// Warnings about a pod's spec at `spec`, a Pod's own or a template's.
pub(crate) fn warnings(spec: &At<'_>) -> Vec<String> {
    let mut found = Vec::new();
    node_selector(spec, &mut found);
    volumes(spec, &mut found);
    for secret in spec.child("imagePullSecrets").items() {
        let name = secret.child("name");
        if name.is_empty() {
            found.push(format!("{}: invalid empty name \"\"", name.path()));
        }
    }
    for constraint in spec.child("topologySpreadConstraints").items() {
        let selector = constraint.child("labelSelector");
        if !selector.is_set() {
            found.push(format!(
                "{}: a null labelSelector results in matching no pod",
                selector.path()
            ));
        }
    }
    for list in ["initContainers", "containers"] {
        for container in spec.child(list).items() {
            fractions(&container.child("resources"), &mut found);
            environment(&container, &mut found);
            ports(&container, &mut found);
        }
    }
    let grace = spec.child("terminationGracePeriodSeconds");
    if grace.i64().is_some_and(|seconds| seconds < 0) {
        let words = "must be >= 0; negative values are invalid and will be treated as 1";
        found.push(format!("{}: {words}", grace.path()));
    }
    found
}

/// What is said of a node's label that has another name by now.
pub(crate) fn node_label(key: &str) -> Option<String> {
    let (_, since, instead) = NODE_LABELS.iter().find(|(label, ..)| *label == key)?;
    Some(format!("deprecated since {since}; use \"{instead}\" instead"))
}

/// The name that a node's label has by now, if it had another.
pub(crate) fn current_node_label(key: &str) -> Option<&'static str> {
    let (.., instead) = NODE_LABELS.iter().find(|(label, ..)| *label == key)?;
    Some(instead)
}

fn node_selector(spec: &At<'_>, found: &mut Vec<String>) {
    for (key, at) in spec.child("nodeSelector").entries() {
        if let Some(words) = node_label(key) {
            found.push(format!("{}: {words}", at.path()));
        }
    }
}

fn volumes(spec: &At<'_>, found: &mut Vec<String>) {
    for volume in spec.child("volumes").items() {
        for (kind, words) in VOLUMES {
            let source = volume.child(kind);
            if source.is_set() {
                found.push(format!("{}: {words}", source.path()));
            }
        }
    }
}

/// Half a byte cannot be reserved: somebody wrote `m` for mega.
fn fractions(resources: &At<'_>, found: &mut Vec<String>) {
    for list in ["requests", "limits"] {
        for (name, amount) in resources.child(list).entries() {
            let counts_bytes = matches!(name, "memory" | "ephemeral-storage");
            let parsed: Option<Quantity> = amount.str().parse().ok();
            if counts_bytes && parsed.is_some_and(|quantity| !quantity.is_whole()) {
                let (path, text) = (amount.path(), amount.str());
                found.push(format!(
                    "{path}: fractional byte value {text:?} is invalid, must be an integer"
                ));
            }
        }
    }
}

/// A variable may be built upon, not replaced: apply merges variables by their names.
fn environment(container: &At<'_>, found: &mut Vec<String>) {
    let mut seen = Vec::new();
    for variable in container.child("env").items() {
        let name = variable.child("name").str();
        let builds_on = variable.child("value").str().contains(&format!("$({name})"));
        if seen.contains(&name) && !builds_on {
            let words = "which may be dropped when using apply";
            found.push(format!(
                "{}: hides previous definition of {name:?}, {words}",
                variable.path()
            ));
        }
        seen.push(name);
    }
}

fn ports(container: &At<'_>, found: &mut Vec<String>) {
    let mut seen: HashMap<_, String> = HashMap::new();
    for port in container.child("ports").items() {
        let of = |field: &str| port.child(field).str();
        let number = |field: &str| port.child(field).i64().unwrap_or_default();
        let key = (
            of("protocol"),
            of("hostIP"),
            number("hostPort"),
            number("containerPort"),
        );
        match seen.get(&key) {
            Some(first) => found.push(format!("{}: duplicate port definition with {first}", port.path())),
            None => drop(seen.insert(key, port.path().to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resources::testing::object;

    #[test]
    fn what_is_allowed_and_not_meant_is_said() {
        let container = |extra: Value| {
            let mut container = json!({"name": "c", "image": "i"});
            if let (Some(map), Value::Object(extra)) = (container.as_object_mut(), extra) {
                map.extend(extra);
            }
            json!({"containers": [container]})
        };
        let cases = [
            (json!({"containers": [{"name": "c", "image": "i"}]}), vec![]),
            (
                json!({"nodeSelector": {"beta.kubernetes.io/os": "linux", "kubernetes.io/os": "linux"}}),
                vec![
                    "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                ],
            ),
            (
                json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "gitRepo": {"repository": "r"}}]}),
                vec!["spec.volumes[1].gitRepo: deprecated in v1.11"],
            ),
            (
                json!({"imagePullSecrets": [{}], "terminationGracePeriodSeconds": -1}),
                vec![
                    "spec.imagePullSecrets[0].name: invalid empty name \"\"",
                    "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                ],
            ),
            (
                container(json!({"resources": {"limits": {"memory": "100m", "cpu": "100m"}}})),
                vec![
                    "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                ],
            ),
            (
                container(
                    json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A"}]}),
                ),
                vec![
                    "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                ],
            ),
            (
                container(json!({"ports": [{"containerPort": 80}, {"containerPort": 81}, {"containerPort": 80}]})),
                vec!["spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]"],
            ),
            (
                json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]}),
                vec![
                    "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                ],
            ),
        ];
        for (spec, expected) in cases {
            let pod = object(json!({"spec": spec}));
            assert_eq!(warnings(&At::root(&pod, "spec")), expected, "{spec}");
        }
    }
}
