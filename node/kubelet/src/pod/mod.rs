//! The pod as the API describes it, cut down to the fields a kubelet uses.
//!
//! The informer decodes into these types, so that thousands of pods stay small; nothing here is ever written back.
//! Field names and meanings are those of `core/v1` Pod.

mod amounts;
mod container;
mod security;
mod volume;

use std::sync::Arc;

use client::Labels;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

pub(crate) use amounts::{Amounts, QuantityText};
pub(crate) use container::*;
pub(crate) use security::*;
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
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
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
    pub(crate) ephemeral_containers: Vec<Container>,
    #[serde(deserialize_with = "exact")]
    pub(crate) volumes: Vec<Volume>,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) termination_grace_period_seconds: Option<i64>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) service_account_name: String,
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: bool,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: bool,
    pub(crate) host_users: Option<bool>,
    pub(crate) share_process_namespace: bool,
    pub(crate) hostname: String,
    pub(crate) hostname_override: Option<String>,
    pub(crate) subdomain: String,
    #[serde(rename = "setHostnameAsFQDN")]
    pub(crate) set_hostname_as_fqdn: bool,
    #[serde(deserialize_with = "exact")]
    pub(crate) host_aliases: Vec<HostAlias>,
    pub(crate) priority: i32,
    /// All that the kubelet asks of the tolerations, which are large and the same in most pods.
    #[serde(rename = "tolerations", deserialize_with = "tolerates_memory_pressure")]
    pub(crate) tolerates_memory_pressure: bool,
    pub(crate) overhead: Amounts,
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

/// Whether a node that keeps new pods away for want of memory still gets this one.
fn tolerates_memory_pressure<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    const TAINT: &str = "node.kubernetes.io/memory-pressure";
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Toleration {
        key: String,
        operator: String,
        value: String,
        effect: String,
    }
    let tolerates = |toleration: &Toleration| {
        let exists = toleration.operator == "Exists";
        let of_key = toleration.key == TAINT || (toleration.key.is_empty() && exists);
        let of_effect = toleration.effect.is_empty() || toleration.effect == "NoSchedule";
        of_key && of_effect && (exists || toleration.value.is_empty())
    };
    Ok(Vec::deserialize(from)?.iter().any(tolerates))
}

/// From here on a pod is critical to the cluster (`system-cluster-critical`).
const CRITICAL: i32 = 2_000_000_000;

impl Pod {
    /// A node that runs short neither refuses nor ends it.
    pub(crate) fn is_critical(&self) -> bool {
        self.spec.priority >= CRITICAL
    }
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

/// `HostAlias`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct HostAlias {
    pub(crate) ip: String,
    #[serde(deserialize_with = "exact")]
    pub(crate) hostnames: Vec<String>,
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

    /// The service account that the pod runs as.
    pub(crate) fn service_account(&self) -> &str {
        match &*self.spec.service_account_name {
            "" => "default",
            name => name,
        }
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

    /// Init containers, app containers, ephemeral containers, each with the role it plays.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let ephemeral = self.spec.ephemeral_containers.iter().map(|c| (Role::Ephemeral, c));
        self.lasting_containers().chain(ephemeral)
    }

    /// The same without ephemeral containers: what the pod was made of.
    pub(crate) fn lasting_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
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
            (Role::Ephemeral, _, _) => RestartPolicy::Never,
            (Role::Init, own, of_pod) => match own.unwrap_or(of_pod) {
                RestartPolicy::Never => RestartPolicy::Never,
                RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            },
            (Role::App, own, of_pod) => own.unwrap_or(of_pod),
        }
    }

    /// The host name inside the pod: `spec.hostnameOverride`, `spec.hostname` or the pod's name, cut to what a host name
    /// may be long.
    pub(crate) fn host_name(&self) -> String {
        if let Some(name) = &self.spec.hostname_override {
            return name.clone();
        }
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

    /// The pod's full domain name, where its Service (`spec.subdomain`) gives it one.
    pub(crate) fn domain_name(&self, cluster_domain: &str) -> Option<String> {
        let (subdomain, namespace) = (&self.spec.subdomain, &self.metadata.namespace);
        (!subdomain.is_empty() && self.spec.hostname_override.is_none())
            .then(|| format!("{}.{subdomain}.{namespace}.svc.{cluster_domain}", self.host_name()))
    }

    /// What the kernel calls the pod's host.
    ///
    /// # Errors
    /// The full domain name was asked for and is longer than the kernel takes.
    pub(crate) fn kernel_host_name(&self, cluster_domain: &str) -> Result<String, String> {
        let full = self
            .domain_name(cluster_domain)
            .filter(|_| self.spec.set_hostname_as_fqdn);
        let name = full.unwrap_or_else(|| self.host_name());
        if name.len() > LONGEST_HOST_NAME {
            return Err(format!(
                "Failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
                 ({LONGEST_HOST_NAME} characters is the max, {} characters requested)",
                name.len()
            ));
        }
        Ok(name)
    }
}

/// Linux' limit for a host name.
const LONGEST_HOST_NAME: usize = 64;

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to completion before the next starts.
    Init,
    /// An init container with `restartPolicy: Always`: keeps running beside the app containers.
    Sidecar,
    App,
    /// Added to a running pod for debugging; runs once.
    Ephemeral,
}
