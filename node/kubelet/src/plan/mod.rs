//! What to do next for one pod: desired state, observed state, memory and time in; actions, status and a wake-up out.
//!
//! Pure, and the only place where a pod's life is decided. The worker obeys the plan and reports back through
//! [`Memory`]; it never decides. The plan does not know which event woke the worker: it is asked again after anything
//! changed, and says the same twice. An action that is under way, or failed and waits, is not planned again.

pub(crate) mod backoff;
mod ending;
mod memory;
mod running;
#[cfg(test)]
mod tests;

use cri::{ContainerId, SandboxId};
use jiff::Timestamp;

pub(crate) use backoff::Crash;
pub(crate) use memory::{Failure, Memory, Reason, Unhealthy, Volumes};

use crate::{
    observed::Observed,
    pod::{Container, Pod, RestartPolicy, Role},
    status::{self, NodeFacts, PodStatus},
};

/// Everything a plan depends on.
pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) memory: &'a Memory,
    /// The status that the API holds, as far as is known.
    pub(crate) reported: &'a PodStatus,
    pub(crate) node: &'a NodeFacts,
    /// The node's pod network stands.
    pub(crate) network: bool,
    pub(crate) now: Timestamp,
}

/// What to do, what to report, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) status: PodStatus,
    pub(crate) wake: Option<Timestamp>,
    /// The pod is on its way out: what is being prepared for it should stop.
    pub(crate) ending: bool,
    /// Nothing is left to do for this pod, now or later.
    pub(crate) done: bool,
}

/// One thing to do. Actions of one plan may run at the same time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Prepare the pod's volumes.
    MountVolumes,
    RunSandbox {
        attempt: u32,
    },
    /// Bring the image, create the container if it is not there, start it, run its postStart hook.
    Start {
        name: String,
        attempt: u32,
        sandbox: SandboxId,
        crash: Option<Crash>,
    },
    /// Run the preStop hook, ask the container to end, end it by force when `grace` seconds are over.
    /// `period` is the grace period it stems from: a shorter one overtakes a longer one that is under way.
    Stop {
        name: String,
        id: ContainerId,
        grace: i64,
        period: i64,
        why: String,
    },
    StopSandbox {
        id: SandboxId,
    },
    /// Forget a container that a newer one replaced.
    RemoveContainer {
        id: ContainerId,
        name: String,
        attempt: u32,
    },
    RemoveSandbox {
        id: SandboxId,
    },
    UnmountVolumes,
    /// Tell the API that the pod has ended, which removes the object.
    Finish,
    /// Remove the pod's directories, logs included.
    Purge,
}

/// Identifies an action while it is under way; the same key is never under way twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Volumes,
    Sandbox,
    Start(String),
    /// A container and the grace period it was given.
    Stop(ContainerId, i64),
    StopSandbox(SandboxId),
    RemoveContainer(ContainerId),
    RemoveSandbox(SandboxId),
    Finish,
    Purge,
    /// Not an action of a plan: the status report.
    Report,
}

impl Action {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::MountVolumes | Self::UnmountVolumes => Key::Volumes,
            Self::RunSandbox { .. } => Key::Sandbox,
            Self::Start { name, .. } => Key::Start(name.clone()),
            Self::Stop { id, period, .. } => Key::Stop(id.clone(), *period),
            Self::StopSandbox { id } => Key::StopSandbox(id.clone()),
            Self::RemoveContainer { id, .. } => Key::RemoveContainer(id.clone()),
            Self::RemoveSandbox { id } => Key::RemoveSandbox(id.clone()),
            Self::Finish => Key::Finish,
            Self::Purge => Key::Purge,
        }
    }
}

/// Plans the next steps of a pod.
pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan {
        status: status::make(input),
        ..Plan::default()
    };
    if is_over(input) {
        ending::plan(input, &mut plan);
    } else {
        running::plan(input, &mut plan);
    }
    if let Some(deadline) = deadline(input.pod, input.start_time()) {
        plan.wake_at(deadline, input.now);
    }
    plan
}

/// Whether the pod is on its way out: deleted, past its deadline, or done for good. It never comes back from there.
pub(crate) fn is_over(input: &Input<'_>) -> bool {
    let (pod, reported) = (input.pod, input.reported);
    input.memory.removed
        || pod.is_deleting()
        || reported.phase.is_terminal()
        || deadline(pod, input.start_time()).is_some_and(|deadline| deadline <= input.now)
        || init_failed(input)
        || is_complete(input)
}

/// Every app container has ended and none is started again.
fn is_complete(input: &Input<'_>) -> bool {
    let containers = &input.pod.spec.containers;
    !containers.is_empty() && containers.iter().all(|c| is_done(input, Role::App, c))
}

/// An init container failed and is not tried again.
fn init_failed(input: &Input<'_>) -> bool {
    let mut regular = input
        .pod
        .spec
        .init_containers
        .iter()
        .filter(|c| c.init_role() == Role::Init);
    regular.any(|c| is_done(input, Role::Init, c) && exit_code(input, c).is_some_and(|code| code != 0))
}

/// The container has ended and its policy does not start it again.
pub(crate) fn is_done(input: &Input<'_>, role: Role, container: &Container) -> bool {
    let Some(code) = exit_code(input, container) else {
        return false;
    };
    match input.pod.restart_policy(role, container) {
        RestartPolicy::Always => false,
        RestartPolicy::OnFailure => code == 0,
        RestartPolicy::Never => true,
    }
}

/// How the container ended, if it has: as the runtime says, or, when the runtime has lost its record, as was reported.
fn exit_code(input: &Input<'_>, container: &Container) -> Option<i32> {
    if let Some(latest) = input.observed.latest(&container.name) {
        return latest.has_ended().then(|| latest.exit_code());
    }
    let lost = &input.reported.container(&container.name)?;
    match (&lost.state.terminated, &lost.state.running) {
        (Some(terminated), _) => Some(terminated.exit_code),
        (None, Some(_)) => Some(LOST_EXIT_CODE),
        (None, None) => None,
    }
}

/// What is reported of a container whose end nobody saw.
pub(crate) const LOST_EXIT_CODE: i32 = 137;

/// When `activeDeadlineSeconds` ends the pod.
pub(crate) fn deadline(pod: &Pod, start: Timestamp) -> Option<Timestamp> {
    start
        .checked_add(jiff::SignedDuration::from_secs(pod.spec.active_deadline_seconds?))
        .ok()
}

impl Input<'_> {
    /// When the kubelet first acknowledged the pod.
    pub(crate) fn start_time(&self) -> Timestamp {
        self.reported
            .start_time
            .unwrap_or_else(|| status::seconds(self.memory.first_seen))
    }
}

impl Plan {
    /// Adds an action unless it is under way; one that failed waits for its time.
    fn act(&mut self, input: &Input<'_>, action: Action) {
        let key = action.key();
        if input.memory.ops.is_busy(&key) {
            return;
        }
        match input.memory.ops.failure(&key) {
            Some(failure) if failure.until > input.now => self.wake_at(failure.until, input.now),
            _ => self.actions.push(action),
        }
    }

    /// Asks to be planned again at `at`, if that lies ahead.
    pub(crate) fn wake_at(&mut self, at: Timestamp, now: Timestamp) {
        if at > now {
            self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
        }
    }
}
