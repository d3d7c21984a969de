//! Pods, nodes and namespaces.

use client::Meta;
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Box<str>,
    pub(crate) hostname: Box<str>,
    pub(crate) subdomain: Box<str>,
    pub(crate) tolerations: Box<[Toleration]>,
    pub(crate) containers: Box<[Container]>,
    pub(crate) init_containers: Box<[Container]>,
    /// Of its volumes, those that are claims.
    #[serde(rename = "volumes", deserialize_with = "claims_only")]
    pub(crate) claims: Box<[ClaimVolume]>,
}

/// A volume that is a claim: one that is named, or one that was made for the pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClaimVolume {
    Named(Box<str>),
    /// By the volume's name.
    Own(Box<str>),
}

fn claims_only<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Box<[ClaimVolume]>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Volume {
        name: Box<str>,
        persistent_volume_claim: Option<Source>,
        ephemeral: Option<serde::de::IgnoredAny>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Source {
        claim_name: Box<str>,
    }
    let claim = |volume: Volume| match (volume.persistent_volume_claim, volume.ephemeral) {
        (Some(source), _) => Some(ClaimVolume::Named(source.claim_name)),
        (None, Some(_)) => Some(ClaimVolume::Own(volume.name)),
        (None, None) => None,
    };
    let volumes: Option<Vec<Volume>> = Option::deserialize(from)?;
    Ok(volumes.into_iter().flatten().filter_map(claim).collect())
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) restart_policy: Box<str>,
    pub(crate) ports: Box<[ContainerPort]>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: Box<str>,
    pub(crate) container_port: u16,
    pub(crate) protocol: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Box<str>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Box<str>,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Box<[PodIp]>,
    pub(crate) conditions: Box<[PodCondition]>,
    pub(crate) container_statuses: Box<[ContainerStatus]>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodIp {
    pub(crate) ip: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodCondition {
    pub(crate) r#type: Box<str>,
    pub(crate) status: Box<str>,
    pub(crate) last_transition_time: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) restart_count: i64,
}

impl Pod {
    /// Neither finished nor on its way out.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && !self.metadata.is_deleting()
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(&*self.status.phase, "Succeeded" | "Failed")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_condition()
            .is_some_and(|condition| &*condition.status == "True")
    }

    /// Since when it is ready.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        self.ready_condition()
            .filter(|condition| &*condition.status == "True")?
            .last_transition_time
    }

    /// Ready for at least that long.
    pub(crate) fn is_available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.is_ready()
            && (min_ready_seconds == 0
                || self
                    .ready_since()
                    .is_some_and(|since| since.as_second() + min_ready_seconds <= now.as_second()))
    }

    pub(crate) fn restarts(&self) -> i64 {
        self.status
            .container_statuses
            .iter()
            .map(|status| status.restart_count)
            .max()
            .unwrap_or(0)
    }

    fn ready_condition(&self) -> Option<&PodCondition> {
        self.status
            .conditions
            .iter()
            .find(|condition| &*condition.r#type == "Ready")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Toleration {
    pub(crate) key: Box<str>,
    pub(crate) operator: Box<str>,
    pub(crate) value: Box<str>,
    pub(crate) effect: Box<str>,
    #[serde(rename = "tolerationSeconds")]
    pub(crate) seconds: Option<i64>,
}

impl Toleration {
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        let key = self.key.is_empty() || self.key == taint.key;
        effect && key && (&*self.operator == "Exists" || (!self.key.is_empty() && self.value == taint.value))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) value: Box<str>,
    pub(crate) effect: Box<str>,
    #[serde(rename = "timeAdded", skip_serializing_if = "Option::is_none")]
    pub(crate) time_added: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: Meta,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Box<str>,
    #[serde(rename = "podCIDRs")]
    pub(crate) pod_cidrs: Box<[Box<str>]>,
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeStatus {
    pub(crate) conditions: Box<[NodeCondition]>,
    pub(crate) volumes_attached: Box<[AttachedVolume]>,
    pub(crate) volumes_in_use: Box<[Box<str>]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct AttachedVolume {
    pub(crate) name: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeCondition {
    pub(crate) r#type: Box<str>,
    pub(crate) status: Box<str>,
    pub(crate) last_heartbeat_time: Option<Timestamp>,
}

impl Node {
    /// The status of a condition: `True`, `False`, `Unknown`, or nothing.
    pub(crate) fn condition(&self, name: &str) -> Option<&NodeCondition> {
        self.status
            .conditions
            .iter()
            .find(|condition| &*condition.r#type == name)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) metadata: Meta,
    pub(crate) spec: NamespaceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceSpec {
    pub(crate) finalizers: Box<[Box<str>]>,
}
