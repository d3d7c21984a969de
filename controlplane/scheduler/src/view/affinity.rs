//! Affinities, with their selectors parsed once.
//!
//! Deliberately absent: preferred pod affinities, and a `namespaceSelector` that is not empty (it selects no namespace).

use api::LabelSelector;
use client::{Labels, Meta};
use serde::Deserialize;
use serde_json::Value;

use super::Node;

/// Everything under `spec.affinity`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Affinity {
    pub(crate) required_nodes: Option<NodeSelector>,
    pub(crate) preferred_nodes: Box<[Preferred<NodeTerm>]>,
    pub(crate) required_pods: Box<[PodTerm]>,
    pub(crate) refused_pods: Box<[PodTerm]>,
}

/// A term and its weight, 1 to 100.
#[derive(Clone, Debug)]
pub(crate) struct Preferred<T> {
    pub(crate) weight: i64,
    pub(crate) term: T,
}

/// Terms of which one has to match.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "NodeSelectorWire")]
pub(crate) struct NodeSelector(Box<[NodeTerm]>);

impl From<NodeSelectorWire> for NodeSelector {
    fn from(wire: NodeSelectorWire) -> Self {
        Self(wire.node_selector_terms)
    }
}

impl NodeSelector {
    pub(crate) fn matches(&self, node: &Node) -> bool {
        self.0.iter().any(|term| term.matches(node))
    }
}

/// Expressions over labels and over `metadata.name`, all of which have to match. A term without any matches nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeTerm {
    match_expressions: Box<[Expression]>,
    match_fields: Box<[Expression]>,
}

impl NodeTerm {
    pub(crate) fn matches(&self, node: &Node) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(&*node.metadata.name);
        self.match_expressions
            .iter()
            .all(|expression| expression.matches(node.metadata.labels.get(&expression.key)))
            && self
                .match_fields
                .iter()
                .all(|expression| expression.matches(field(&expression.key)))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Expression {
    key: Box<str>,
    operator: Box<str>,
    values: Box<[Box<str>]>,
}

impl Expression {
    fn matches(&self, found: Option<&str>) -> bool {
        let listed = |found: &str| self.values.iter().any(|value| &**value == found);
        let compared = |by: fn(&i64, &i64) -> bool| {
            let wanted = self.values.first().and_then(|value| value.parse().ok());
            found
                .and_then(|found| found.parse().ok())
                .zip(wanted)
                .is_some_and(|(found, wanted)| by(&found, &wanted))
        };
        match &*self.operator {
            "In" => found.is_some_and(listed),
            "NotIn" => !found.is_some_and(listed),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            "Gt" => compared(i64::gt),
            "Lt" => compared(i64::lt),
            _ => false,
        }
    }
}

/// Pods that a pod wants, or does not want, in its topology domain.
#[derive(Clone, Debug)]
pub(crate) struct PodTerm {
    pub(crate) topology_key: Box<str>,
    selector: LabelSelector,
    namespaces: Box<[Box<str>]>,
    /// Every namespace, by an empty `namespaceSelector`.
    all_namespaces: bool,
}

impl PodTerm {
    pub(crate) fn matches(&self, namespace: &str, labels: &Labels) -> bool {
        (self.all_namespaces || self.namespaces.iter().any(|n| &**n == namespace))
            && self.selector.matches(|key| labels.get(key))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AffinityWire {
    node_affinity: Option<NodeAffinityWire>,
    pod_affinity: Option<PodAffinityWire>,
    pod_anti_affinity: Option<PodAffinityWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinityWire {
    required_during_scheduling_ignored_during_execution: Option<NodeSelectorWire>,
    preferred_during_scheduling_ignored_during_execution: Vec<PreferredWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSelectorWire {
    node_selector_terms: Box<[NodeTerm]>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PreferredWire {
    weight: i64,
    preference: NodeTerm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodAffinityWire {
    required_during_scheduling_ignored_during_execution: Vec<PodTermWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodTermWire {
    topology_key: Box<str>,
    label_selector: Option<Value>,
    namespaces: Box<[Box<str>]>,
    namespace_selector: Option<Value>,
    match_label_keys: Vec<Box<str>>,
    mismatch_label_keys: Vec<Box<str>>,
}

impl Affinity {
    /// `None` if it asks for nothing.
    pub(crate) fn from_wire(wire: AffinityWire, pod: &Meta) -> Option<Self> {
        let nodes = wire.node_affinity.unwrap_or_default();
        let terms = |wire: Option<PodAffinityWire>| -> Box<[PodTerm]> {
            let required = wire
                .unwrap_or_default()
                .required_during_scheduling_ignored_during_execution;
            required.into_iter().map(|term| pod_term(term, pod)).collect()
        };
        let affinity = Self {
            required_nodes: nodes
                .required_during_scheduling_ignored_during_execution
                .map(NodeSelector::from),
            preferred_nodes: nodes
                .preferred_during_scheduling_ignored_during_execution
                .into_iter()
                .map(|preferred| Preferred {
                    weight: preferred.weight,
                    term: preferred.preference,
                })
                .collect(),
            required_pods: terms(wire.pod_affinity),
            refused_pods: terms(wire.pod_anti_affinity),
        };
        let asks = affinity.required_nodes.is_some()
            || !affinity.preferred_nodes.is_empty()
            || !affinity.required_pods.is_empty()
            || !affinity.refused_pods.is_empty();
        asks.then_some(affinity)
    }
}

fn pod_term(wire: PodTermWire, pod: &Meta) -> PodTerm {
    let all_namespaces = wire.namespace_selector.as_ref().is_some_and(is_empty_selector);
    let own = wire.namespaces.is_empty() && wire.namespace_selector.is_none();
    PodTerm {
        topology_key: wire.topology_key,
        selector: selector(
            wire.label_selector,
            &wire.match_label_keys,
            &wire.mismatch_label_keys,
            &pod.labels,
        ),
        namespaces: if own {
            Box::new([pod.namespace.clone()])
        } else {
            wire.namespaces
        },
        all_namespaces,
    }
}

fn is_empty_selector(selector: &Value) -> bool {
    let empty = |field: &str| match selector.get(field) {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        _ => true,
    };
    empty("matchLabels") && empty("matchExpressions")
}

/// A label selector, narrowed by the pod's own values of some keys. None at all, or an invalid one, selects nothing.
pub(super) fn selector(
    selector: Option<Value>,
    match_keys: &[Box<str>],
    mismatch_keys: &[Box<str>],
    labels: &Labels,
) -> LabelSelector {
    let Some(mut selector) = selector else {
        return LabelSelector::nothing();
    };
    let expression = |keys: &[Box<str>], operator: &str| -> Vec<Value> {
        keys.iter()
            .filter_map(|key| labels.get(key).map(|value| (key, value)))
            .map(|(key, value)| serde_json::json!({"key": key, "operator": operator, "values": [value]}))
            .collect()
    };
    let mut more = expression(match_keys, "In");
    more.extend(expression(mismatch_keys, "NotIn"));
    if !more.is_empty()
        && let Some(map) = selector.as_object_mut()
        && let Some(list) = map
            .entry("matchExpressions")
            .or_insert_with(|| Value::Array(Vec::new()))
            .as_array_mut()
    {
        list.extend(more);
    }
    LabelSelector::from_json(&selector).unwrap_or_else(|_| LabelSelector::nothing())
}
