//! A pod as the scheduler sees it. [`PodWire`] is its JSON, [`Pod`] what is kept.

use api::{LabelSelector, NamespacedName};
use client::{Labels, Meta};
use serde::Deserialize;

use super::{
    Affinity, NodeSelector, Requests, ResourceList, Toleration,
    affinity::AffinityWire,
    resources::{ContainerResources, ResourceRequirements},
};

/// A host port that a container takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) ip: Box<str>,
    pub(crate) protocol: Box<str>,
    pub(crate) port: u16,
}

impl HostPort {
    /// Whether both cannot be had on one node: same port and protocol, and the same address or one of them all.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || &*self.ip == ANY || &*other.ip == ANY)
    }
}

/// One topology spread constraint.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: Box<str>,
    pub(crate) hard: bool,
    pub(crate) min_domains: i64,
    pub(crate) selector: LabelSelector,
    /// Nodes that the pod's node affinity refuses do not count.
    pub(crate) honor_affinity: bool,
    /// Nodes whose taints the pod does not tolerate do not count.
    pub(crate) honor_taints: bool,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "PodWire")]
pub(crate) struct Pod {
    pub(crate) name: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) resource_version: Box<str>,
    pub(crate) labels: Labels,
    pub(crate) deleting: bool,
    /// Succeeded or Failed: it holds nothing any more.
    pub(crate) finished: bool,
    /// Empty until bound.
    pub(crate) node_name: Box<str>,
    pub(crate) scheduler_name: Box<str>,
    pub(crate) gated: bool,
    pub(crate) priority: i32,
    pub(crate) requests: Requests,
    pub(crate) ports: Box<[HostPort]>,
    pub(crate) tolerations: Box<[Toleration]>,
    pub(crate) node_selector: Labels,
    pub(crate) affinity: Option<Box<Affinity>>,
    pub(crate) spread: Box<[Spread]>,
    /// Names of the claims it mounts.
    pub(crate) claims: Box<[Box<str>]>,
    /// Message of the condition PodScheduled=False, if it is set.
    pub(crate) unscheduled_message: Option<Box<str>>,
}

impl Pod {
    pub(crate) fn key(&self) -> NamespacedName {
        NamespacedName::new(&self.namespace, &self.name)
    }

    /// Whether every taint that `matters` has a toleration.
    pub(crate) fn tolerates(&self, taints: &[super::Taint], matters: impl Fn(&super::Taint) -> bool) -> bool {
        taints
            .iter()
            .filter(|taint| matters(taint))
            .all(|taint| self.tolerations.iter().any(|t| t.tolerates(taint)))
    }

    /// Whether `spec.nodeSelector` and the required node affinity accept the node.
    pub(crate) fn accepts_node(&self, node: &super::Node) -> bool {
        self.node_selector
            .iter()
            .all(|(key, value)| node.metadata.labels.get(key) == Some(value))
            && self.required_nodes().is_none_or(|selector| selector.matches(node))
    }

    pub(crate) fn required_nodes(&self) -> Option<&NodeSelector> {
        self.affinity.as_ref()?.required_nodes.as_ref()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodWire {
    metadata: Meta,
    spec: SpecWire,
    status: StatusWire,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecWire {
    node_name: Box<str>,
    scheduler_name: Box<str>,
    node_selector: Labels,
    affinity: Option<AffinityWire>,
    tolerations: Box<[Toleration]>,
    containers: Vec<ContainerWire>,
    init_containers: Vec<ContainerWire>,
    overhead: Option<ResourceList>,
    resources: Option<ResourceRequirements>,
    priority: Option<i32>,
    scheduling_gates: Vec<serde::de::IgnoredAny>,
    topology_spread_constraints: Vec<SpreadWire>,
    host_network: bool,
    volumes: Vec<VolumeWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeWire {
    name: Box<str>,
    persistent_volume_claim: Option<ClaimWire>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimWire {
    claim_name: Box<str>,
}

impl VolumeWire {
    /// The claim that the volume of this pod is.
    fn claim(&self, pod: &str) -> Option<Box<str>> {
        let own = self.ephemeral.as_ref().map(|_| format!("{pod}-{}", self.name).into());
        let named = self.persistent_volume_claim.as_ref();
        named.map(|claim| claim.claim_name.clone()).or(own)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerWire {
    restart_policy: Box<str>,
    resources: ResourceRequirements,
    ports: Vec<PortWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortWire {
    #[serde(rename = "hostIP")]
    host_ip: Box<str>,
    host_port: u16,
    container_port: u16,
    protocol: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpreadWire {
    max_skew: i64,
    topology_key: Box<str>,
    when_unsatisfiable: Box<str>,
    min_domains: Option<i64>,
    label_selector: Option<serde_json::Value>,
    match_label_keys: Vec<Box<str>>,
    node_affinity_policy: Option<Box<str>>,
    node_taints_policy: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatusWire {
    phase: Box<str>,
    conditions: Vec<ConditionWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionWire {
    r#type: Box<str>,
    status: Box<str>,
    message: Box<str>,
}

impl From<PodWire> for Pod {
    fn from(wire: PodWire) -> Self {
        let PodWire {
            metadata: meta,
            spec,
            status,
        } = wire;
        let ports = host_ports(&spec);
        let resources = |containers: Vec<ContainerWire>| -> Vec<ContainerResources> {
            let each = |c: ContainerWire| ContainerResources {
                restart_policy: c.restart_policy,
                resources: c.resources,
            };
            containers.into_iter().map(each).collect()
        };
        let requests = Requests::of_pod(
            &resources(spec.init_containers),
            &resources(spec.containers),
            spec.overhead.as_ref(),
            spec.resources.and_then(|resources| resources.requests).as_ref(),
        );
        let spread = spec
            .topology_spread_constraints
            .into_iter()
            .map(|wire| spread(wire, &meta.labels))
            .collect();
        Self {
            deleting: meta.is_deleting(),
            finished: matches!(&*status.phase, "Succeeded" | "Failed"),
            node_name: spec.node_name,
            scheduler_name: spec.scheduler_name,
            gated: !spec.scheduling_gates.is_empty(),
            claims: spec
                .volumes
                .iter()
                .filter_map(|volume| volume.claim(&meta.name))
                .collect(),
            priority: spec.priority.unwrap_or(0),
            requests,
            ports,
            tolerations: spec.tolerations,
            node_selector: spec.node_selector,
            affinity: spec
                .affinity
                .and_then(|wire| Affinity::from_wire(wire, &meta))
                .map(Box::new),
            spread,
            unscheduled_message: status
                .conditions
                .into_iter()
                .find(|condition| &*condition.r#type == "PodScheduled" && &*condition.status == "False")
                .map(|condition| condition.message),
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            labels: meta.labels,
        }
    }
}

fn host_ports(spec: &SpecWire) -> Box<[HostPort]> {
    let sidecars = spec
        .init_containers
        .iter()
        .filter(|container| &*container.restart_policy == "Always");
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| &container.ports);
    ports
        .map(|port| HostPort {
            ip: if port.host_ip.is_empty() {
                "0.0.0.0".into()
            } else {
                port.host_ip.clone()
            },
            protocol: if port.protocol.is_empty() {
                "TCP".into()
            } else {
                port.protocol.clone()
            },
            port: if port.host_port == 0 && spec.host_network {
                port.container_port
            } else {
                port.host_port
            },
        })
        .filter(|port| port.port != 0)
        .collect()
}

fn spread(wire: SpreadWire, labels: &Labels) -> Spread {
    Spread {
        max_skew: wire.max_skew,
        topology_key: wire.topology_key,
        hard: &*wire.when_unsatisfiable != "ScheduleAnyway",
        min_domains: wire.min_domains.unwrap_or(1),
        selector: super::affinity::selector(wire.label_selector, &wire.match_label_keys, &[], labels),
        honor_affinity: wire.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: wire.node_taints_policy.as_deref() == Some("Honor"),
    }
}
