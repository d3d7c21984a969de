//! `PodStatus` as this kubelet reads and writes it, and the patch from one to the next.
//!
//! The fields are those a kubelet owns; what others keep in a pod's status (other conditions, nominated nodes) is never
//! decoded and never touched, because a patch names only what changed.

mod conditions;
mod containers;
mod make;
mod patch;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::pod::{Amounts, Resources};

pub(crate) use containers::{is_started, pull_backoff_from};
pub(crate) use make::{NodeFacts, make};
pub(crate) use patch::patch;

/// The kubelet's part of `PodStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) observed_generation: i64,
    pub(crate) phase: Phase,
    pub(crate) reason: String,
    pub(crate) message: String,
    #[serde(deserialize_with = "crate::pod::exact")]
    pub(crate) conditions: Vec<Condition>,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
    #[serde(rename = "hostIPs")]
    #[serde(deserialize_with = "crate::pod::exact")]
    pub(crate) host_ips: Vec<Ip>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: String,
    #[serde(rename = "podIPs")]
    #[serde(deserialize_with = "crate::pod::exact")]
    pub(crate) pod_ips: Vec<Ip>,
    pub(crate) start_time: Option<Timestamp>,
    #[serde(deserialize_with = "crate::pod::exact")]
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "crate::pod::exact")]
    pub(crate) container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "crate::pod::exact")]
    pub(crate) ephemeral_container_statuses: Vec<ContainerStatus>,
    pub(crate) qos_class: String,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl Phase {
    /// No container of the pod will be started again.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// `PodIP` and `HostIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ip {
    pub(crate) ip: String,
}

impl From<&IpAddr> for Ip {
    fn from(ip: &IpAddr) -> Self {
        Self { ip: ip.to_string() }
    }
}

/// `PodCondition`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) observed_generation: i64,
}

/// Pods of files have no generation; whoever waits for one to be observed would wait for good.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_none(generation: &i64) -> bool {
    *generation == 0
}

/// `ContainerStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) last_state: State,
    pub(crate) ready: bool,
    pub(crate) restart_count: u32,
    pub(crate) image: String,
    #[serde(rename = "imageID")]
    pub(crate) image_id: String,
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub(crate) container_id: String,
    pub(crate) started: Option<bool>,
    /// What the container has, by the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<Box<Resources>>,
    /// What of its requests the node has set aside for it.
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub(crate) allocated_resources: Amounts,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::pod::exact")]
    pub(crate) volume_mounts: Vec<MountStatus>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Box<User>>,
}

/// `ContainerUser`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    pub(crate) linux: LinuxUser,
}

/// `LinuxContainerUser`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LinuxUser {
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) supplemental_groups: Vec<i64>,
}

/// `VolumeMountStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MountStatus {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) recursive_read_only: String,
}

/// `ContainerState`: at most one is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<Running>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terminated: Option<Terminated>,
}

/// `ContainerStateWaiting`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

/// `ContainerStateRunning`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Running {
    pub(crate) started_at: Option<Timestamp>,
}

/// `ContainerStateTerminated`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<Timestamp>,
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub(crate) container_id: String,
}

impl State {
    pub(crate) fn waiting(reason: &str, message: &str) -> Self {
        Self {
            waiting: Some(Waiting {
                reason: reason.into(),
                message: message.into(),
            }),
            ..Self::default()
        }
    }

    pub(crate) fn running(started_at: Option<Timestamp>) -> Self {
        Self {
            running: Some(Running { started_at }),
            ..Self::default()
        }
    }

    pub(crate) fn terminated(terminated: Terminated) -> Self {
        Self {
            terminated: Some(terminated),
            ..Self::default()
        }
    }
}

impl PodStatus {
    /// Statuses of the init containers, the app containers, the ephemeral containers, in the spec's order.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        let lasting = self.init_container_statuses.iter().chain(&self.container_statuses);
        lasting.chain(&self.ephemeral_container_statuses)
    }

    /// The status of one container.
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.all_containers().find(|c| c.name == name)
    }

    /// The condition of this type.
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// The pod serves: its `Ready` condition holds.
    pub(crate) fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }
}

/// Cuts a time to whole seconds, which is what `metav1.Time` carries.
pub(crate) fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
