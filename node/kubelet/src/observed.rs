//! What the runtime says of one pod, cut down to what the plan reads. Pure.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use cri::{ContainerId, ContainerState, SandboxId};
use jiff::Timestamp;

/// A pod's sandboxes and containers, each in ascending order of attempts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

/// A sandbox, as the runtime lists it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) ips: Vec<IpAddr>,
    /// Grace for its containers if the pod's object is gone, seconds.
    pub(crate) grace: Option<u64>,
    /// Where the pod's logs lie.
    pub(crate) log_directory: String,
}

/// A container, as the runtime lists it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) sandbox: SandboxId,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// Who its program was started as, where the runtime tells.
    pub(crate) user: Option<Box<cri::ContainerUser>>,
    /// What it was made with.
    pub(crate) limits: cri::Resources,
    pub(crate) state: ContainerState,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) log_path: String,
}

/// The annotation of a sandbox that remembers the pod's grace period when its object is gone.
pub(crate) const GRACE_ANNOTATION: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The annotation of a container that remembers its limits, which not every runtime tells.
const LIMITS_ANNOTATION: &str = "wherry.dev/limits";

/// An annotation with the limits that a container is made with.
pub(crate) fn remember_limits(limits: &cri::Resources) -> (String, String) {
    let text = serde_json::to_string(limits).unwrap_or_default(); // numbers alone
    (LIMITS_ANNOTATION.to_owned(), text)
}

/// The limits that a container was made with.
fn limits(config: &cri::ContainerConfig) -> cri::Resources {
    let remembered = config.annotations.get(LIMITS_ANNOTATION);
    remembered
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(config.resources)
}

impl Observed {
    /// The sandbox of the highest attempt.
    pub(crate) fn latest_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.last()
    }

    /// The container of this name with the highest attempt, in any sandbox.
    pub(crate) fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().rev().find(|c| c.name == name)
    }

    /// The same, among the containers of one sandbox.
    pub(crate) fn latest_in(&self, sandbox: &SandboxId, name: &str) -> Option<&Container> {
        self.containers
            .iter()
            .rev()
            .find(|c| c.name == name && c.sandbox == *sandbox)
    }

    /// The one before the latest, for the container's last state.
    pub(crate) fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().rev().filter(|c| c.name == name).nth(1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}

impl Container {
    pub(crate) fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }

    /// The container has run and will not run again.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, ContainerState::Exited | ContainerState::Unknown)
    }

    /// Its exit code; one whose end nobody saw has failed.
    pub(crate) fn exit_code(&self) -> i32 {
        match self.state {
            ContainerState::Unknown if self.exit_code == 0 => crate::plan::LOST_EXIT_CODE,
            _ => self.exit_code,
        }
    }

    /// It ended by itself with exit code 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.has_ended() && self.exit_code() == 0
    }

    /// When it ended, as near as is known.
    pub(crate) fn ended_at(&self) -> Timestamp {
        self.finished_at.or(self.started_at).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Sorts the runtime's lists by pod UID.
pub(crate) fn group(sandboxes: Vec<cri::Sandbox>, containers: Vec<cri::Container>) -> HashMap<Arc<str>, Observed> {
    let mut pods: HashMap<Arc<str>, Observed> = HashMap::with_capacity(sandboxes.len());
    for sandbox in sandboxes {
        pods.entry(Arc::from(&*sandbox.config.uid))
            .or_default()
            .sandboxes
            .push(Sandbox::from(sandbox));
    }
    for container in containers {
        pods.entry(Arc::from(&*container.pod_uid))
            .or_default()
            .containers
            .push(Container::from(container));
    }
    for pod in pods.values_mut() {
        pod.sandboxes.sort_by_key(|s| s.attempt);
        pod.containers.sort_by_key(|c| c.attempt);
        // Most pods have one of each, and a vector that grows has room for four.
        pod.sandboxes.shrink_to_fit();
        pod.containers.shrink_to_fit();
    }
    pods
}

impl From<cri::Sandbox> for Sandbox {
    fn from(from: cri::Sandbox) -> Self {
        Self {
            id: from.id,
            attempt: from.config.attempt,
            ready: from.state == cri::SandboxState::Ready,
            ips: from.ips,
            grace: from
                .config
                .annotations
                .get(GRACE_ANNOTATION)
                .and_then(|text| text.parse().ok()),
            log_directory: from.config.log_directory,
        }
    }
}

impl From<cri::Container> for Container {
    fn from(from: cri::Container) -> Self {
        let limits = limits(&from.config);
        Self {
            id: from.id,
            sandbox: from.sandbox,
            name: from.config.name,
            attempt: from.config.attempt,
            image: from.config.image,
            image_id: from.config.image_id,
            user: from.user,
            limits,
            state: from.state,
            started_at: time(from.started_at),
            finished_at: time(from.finished_at),
            exit_code: from.exit_code,
            reason: from.reason,
            message: from.message,
            log_path: from.log_path,
        }
    }
}

/// A CRI time; 0 means not yet.
fn time(nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(nanoseconds))
        .ok()
        .filter(|_| nanoseconds != 0)
}
