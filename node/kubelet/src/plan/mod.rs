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
pub(crate) use memory::{Failure, Memory, Reason, Resolved, Unhealthy, Volumes};

use crate::{
    admit::{self, Rejection},
    observed::{self, Observed},
    pod::{Container, Pod, RestartPolicy, Role},
    resources,
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
    /// Bring a container's image, to know what the sandbox will have to hold.
    Pull {
        name: String,
    },
    /// Make a sandbox that holds what the pod's images are.
    RunSandbox {
        attempt: u32,
        content: cri::Content,
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
    /// Change the limits of a running container.
    Resize {
        name: String,
        id: ContainerId,
        limits: cri::Resources,
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
    Resize(ContainerId),
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
            // Bringing the image is the first part of a start, and fails like it.
            Self::Pull { name } | Self::Start { name, .. } => Key::Start(name.clone()),
            Self::Stop { id, period, .. } => Key::Stop(id.clone(), *period),
            Self::Resize { id, .. } => Key::Resize(id.clone()),
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
        || input.memory.evicted.is_some()
        || rejected(input).is_some()
        || deadline(pod, input.start_time()).is_some_and(|deadline| deadline <= input.now)
        || init_failed(input)
        || is_complete(input)
}

/// Why this node refuses the pod: judged before anything was begun, and standing since it is Failed.
pub(crate) fn rejected(input: &Input<'_>) -> Option<Rejection> {
    let begun = input.reported.start_time.is_some() || !input.observed.is_empty();
    (!begun)
        .then(|| admit::check(input.pod, &input.node.platform, &input.memory.pressures))
        .flatten()
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
    !restarts(input.pod, role, container, code)
}

/// Whether a container that ended with this code is started again: by the first of its rules that is about the code, else
/// by the policy (KEP-5307).
pub(crate) fn restarts(pod: &Pod, role: Role, container: &Container, code: i32) -> bool {
    let rule = container.restart_policy_rules.iter().find(|rule| rule.matches(code));
    if rule.is_some_and(|rule| rule.action == "Restart") {
        return true;
    }
    match pod.restart_policy(role, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// The limits that a running container is to have and has not.
pub(crate) fn limits_to_set(
    input: &Input<'_>,
    spec: &Container,
    running: &observed::Container,
) -> Option<cri::Resources> {
    let wanted = resources::for_runtime(spec);
    (running.is_running() && has_limits(input, running) != wanted).then_some(wanted)
}

/// What the container has: what was set last, else what it was made with.
fn has_limits(input: &Input<'_>, running: &observed::Container) -> cri::Resources {
    let set = input.memory.health(&running.name, &running.id).and_then(|h| h.limits);
    set.unwrap_or(running.limits)
}

/// A running container has other limits than it is allocated.
pub(crate) fn is_resizing(input: &Input<'_>, spec: &Container, running: &observed::Container) -> bool {
    limits_to_set(input, spec, running).is_some()
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
    /// Seconds that containers get to end.
    pub(crate) fn grace_seconds(&self) -> i64 {
        let own = self.pod.grace_seconds();
        let urgent = self.memory.evicted.as_ref().and_then(|eviction| eviction.grace);
        urgent.map_or(own, |urgent| urgent.min(own))
    }

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
