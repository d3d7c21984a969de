//! The pod as the API describes it, cut down to the fields a kubelet uses.
//!
//! The informer decodes into these types, so that thousands of pods stay small; nothing here is ever written back.
//! Field names and meanings are those of `core/v1` Pod.

mod container;
mod volume;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

pub(crate) use container::*;
pub(crate) use volume::*;

use crate::status::PodStatus;

/// A pod bound to this node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
    pub(crate) status: PodStatus,
}

/// The part of `ObjectMeta` that is used.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) uid: Arc<str>,
    pub(crate) resource_version: String,
    pub(crate) generation: i64,
    pub(crate) deletion_timestamp: Option<Timestamp>,
    pub(crate) deletion_grace_period_seconds: Option<i64>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// `PodSpec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) node_name: String,
    #[serde(deserialize_with = "exact")]
    pub(crate) containers: Vec<Container>,
    #[serde(deserialize_with = "exact")]
    pub(crate) init_containers: Vec<Container>,
    #[serde(deserialize_with = "exact")]
    pub(crate) volumes: Vec<Volume>,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) termination_grace_period_seconds: Option<i64>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) service_account_name: String,
    pub(crate) host_network: bool,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) dns_policy: DnsPolicy,
    pub(crate) dns_config: Option<Box<DnsConfig>>,
    pub(crate) enable_service_links: Option<bool>,
    pub(crate) runtime_class_name: Option<String>,
    #[serde(deserialize_with = "exact")]
    pub(crate) readiness_gates: Vec<ReadinessGate>,
    pub(crate) security_context: Option<Box<PodSecurityContext>>,
    #[serde(deserialize_with = "exact")]
    pub(crate) image_pull_secrets: Vec<LocalReference>,
    pub(crate) resources: Option<Box<Resources>>,
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// Where the pod's resolver configuration comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum DnsPolicy {
    #[default]
    ClusterFirst,
    ClusterFirstWithHostNet,
    Default,
    None,
}

/// `PodDNSConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DnsConfig {
    #[serde(deserialize_with = "exact")]
    pub(crate) nameservers: Vec<String>,
    #[serde(deserialize_with = "exact")]
    pub(crate) searches: Vec<String>,
    #[serde(deserialize_with = "exact")]
    pub(crate) options: Vec<DnsOption>,
}

/// One resolver option.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct DnsOption {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// A condition that somebody else sets and readiness waits for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReadinessGate {
    pub(crate) condition_type: String,
}

/// `PodSecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSecurityContext {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    #[serde(deserialize_with = "exact")]
    pub(crate) supplemental_groups: Vec<i64>,
    pub(crate) fs_group: Option<i64>,
}

/// A reference to an object of the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct LocalReference {
    pub(crate) name: String,
}

/// A list without the spare room that growing leaves: a node keeps its pods for long.
pub(crate) fn exact<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(from)?;
    list.shrink_to_fit();
    Ok(list)
}

impl Pod {
    /// The object is at least as new as a write that was answered with this resource version (KEP-5504).
    pub(crate) fn is_as_new_as(&self, version: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        number(version).is_none_or(|wanted| number(&self.metadata.resource_version).is_some_and(|own| own >= wanted))
    }

    /// `namespace/name`, for logs.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// `name_namespace(uid)`, the form of Kubernetes' back-off messages.
    pub(crate) fn full_name(&self) -> String {
        format!(
            "{}_{}({})",
            self.metadata.name, self.metadata.namespace, self.metadata.uid
        )
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Seconds that containers get to end: of the deletion if there is one, else of the spec.
    pub(crate) fn grace_seconds(&self) -> i64 {
        let of_spec = self.spec.termination_grace_period_seconds.unwrap_or(30);
        let wanted = match self.metadata.deletion_timestamp {
            Some(_) => self.metadata.deletion_grace_period_seconds.unwrap_or(of_spec),
            None => of_spec,
        };
        wanted.max(0)
    }

    /// Init containers, then app containers, each with the role it plays.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let init = self.spec.init_containers.iter().map(|c| (c.init_role(), c));
        init.chain(self.spec.containers.iter().map(|c| (Role::App, c)))
    }

    /// The container with this name and its role.
    pub(crate) fn container(&self, name: &str) -> Option<(Role, &Container)> {
        self.all_containers().find(|(_, c)| c.name == name)
    }

    /// The policy that governs one container: sidecars always restart, an init container that failed follows the pod's
    /// policy, where `Always` means until it succeeds.
    pub(crate) fn restart_policy(&self, role: Role, container: &Container) -> RestartPolicy {
        match (role, container.restart_policy, self.spec.restart_policy) {
            (Role::Sidecar, _, _) => RestartPolicy::Always,
            (Role::Init, own, of_pod) => match own.unwrap_or(of_pod) {
                RestartPolicy::Never => RestartPolicy::Never,
                RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            },
            (Role::App, own, of_pod) => own.unwrap_or(of_pod),
        }
    }

    /// The host name inside the pod: `spec.hostname` or the pod's name, cut to what a host name may be long.
    pub(crate) fn host_name(&self) -> String {
        let name = if self.spec.hostname.is_empty() {
            &*self.metadata.name
        } else {
            &self.spec.hostname
        };
        name.chars()
            .take(63)
            .collect::<String>()
            .trim_end_matches(['-', '.'])
            .to_owned()
    }
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to completion before the next starts.
    Init,
    /// An init container with `restartPolicy: Always`: keeps running beside the app containers.
    Sidecar,
    App,
}
