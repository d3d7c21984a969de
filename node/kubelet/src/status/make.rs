//! The status of a pod from what is desired, observed and remembered. Pure.
//!
//! Phases, conditions, reasons and messages are those of Kubernetes' kubelet, since people and controllers read them.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Condition, Ip, Phase, PodStatus, conditions, containers, seconds};
use crate::{
    plan::{self, Input, Key},
    pod::Role,
    resources,
};

/// Facts of the node that a pod's status names.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) host_ips: Vec<IpAddr>,
    /// Prefix of container ids: `<runtime>://<id>`, but for containerd's.
    pub(crate) runtime: String,
    /// What containers are made by.
    pub(crate) platform: crate::make::Platform,
}

/// Makes the status that is true now.
pub(crate) fn make(input: &Input<'_>) -> PodStatus {
    let statuses = |list: List| {
        let containers = input
            .pod
            .all_containers()
            .filter(move |(role, _)| List::of(*role) == list);
        containers
            .map(|(role, spec)| containers::make(input, role, spec))
            .collect()
    };
    let mut status = PodStatus {
        observed_generation: input.pod.metadata.generation,
        start_time: Some(input.start_time()),
        init_container_statuses: statuses(List::Init),
        container_statuses: statuses(List::App),
        ephemeral_container_statuses: statuses(List::Ephemeral),
        qos_class: qos_class(input),
        ..PodStatus::default()
    };
    status.host_ips = input.node.host_ips.iter().map(Ip::from).collect();
    status.host_ip = first(&status.host_ips);
    status.pod_ips = pod_ips(input);
    status.pod_ip = first(&status.pod_ips);
    set_phase(input, &mut status);
    status.conditions = conditions::make(input, &status)
        .into_iter()
        .map(|c| dated(input, c))
        .collect();
    status
}

/// The lists that a pod's status has of its containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Init,
    App,
    Ephemeral,
}

impl List {
    fn of(role: Role) -> Self {
        match role {
            Role::Init | Role::Sidecar => Self::Init,
            Role::App => Self::App,
            Role::Ephemeral => Self::Ephemeral,
        }
    }
}

fn first(ips: &[Ip]) -> String {
    ips.first().map_or_else(String::new, |ip| ip.ip.clone())
}

fn qos_class(input: &Input<'_>) -> String {
    match &*input.reported.qos_class {
        "" => resources::qos_class(input.pod).into(),
        known => known.into(),
    }
}

/// The addresses of the living sandbox; a pod that is over keeps the last it had.
fn pod_ips(input: &Input<'_>) -> Vec<Ip> {
    let ready = input.observed.latest_sandbox().filter(|s| s.ready);
    match ready {
        Some(_) if input.pod.spec.host_network => input.node.host_ips.iter().map(Ip::from).collect(),
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.iter().map(Ip::from).collect(),
        _ if plan::is_over(input) => input.reported.pod_ips.clone(),
        _ => Vec::new(),
    }
}

fn set_phase(input: &Input<'_>, status: &mut PodStatus) {
    let reported = input.reported;
    if reported.phase.is_terminal() {
        status.phase = reported.phase;
        status.reason.clone_from(&reported.reason);
        status.message.clone_from(&reported.message);
        return;
    }
    if let Some(eviction) = &input.memory.evicted {
        status.phase = Phase::Failed;
        status.reason = "Evicted".into();
        status.message.clone_from(&eviction.message);
        return;
    }
    if let Some(rejection) = plan::rejected(input) {
        status.phase = Phase::Failed;
        status.reason = rejection.reason.into();
        status.message = format!("Pod was rejected: {}", rejection.message);
        return;
    }
    let late = plan::deadline(input.pod, input.start_time()).is_some_and(|deadline| deadline <= input.now);
    if late && !input.pod.is_deleting() {
        status.phase = Phase::Failed;
        status.reason = "DeadlineExceeded".into();
        status.message = "Pod was active on the node longer than the specified deadline".into();
        return;
    }
    let ended = (input.memory.removed || input.pod.is_deleting()) && nothing_runs(input);
    status.phase = phase(input, status, ended);
}

/// Nothing of the pod runs or is about to.
fn nothing_runs(input: &Input<'_>) -> bool {
    let being_made = input
        .memory
        .ops
        .any_busy(|key| matches!(key, Key::Start(_) | Key::Sandbox));
    !being_made && !input.observed.containers.iter().any(|c| c.is_running())
}

#[derive(Default)]
struct Count {
    pending: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// The phase by what the container statuses say; `ended`: none of them will change any more.
fn phase(input: &Input<'_>, status: &PodStatus, ended: bool) -> Phase {
    let (mut count, mut init_failed) = (Count::default(), false);
    for ((role, spec), container) in input.pod.all_containers().zip(status.all_containers()) {
        let state = &container.state;
        let exit = state
            .terminated
            .as_ref()
            .or(container.last_state.terminated.as_ref())
            .map(|t| t.exit_code);
        let stopped = state.running.is_none() && exit.is_some();
        match role {
            Role::Init if stopped => {
                let code = exit.unwrap_or_default();
                init_failed |= code != 0 && !plan::restarts(input.pod, role, spec, code);
            }
            Role::Init => count.pending += 1,
            Role::Sidecar if state.running.is_some() => {
                count.running += 1;
                count.pending += usize::from(container.started != Some(true));
            }
            Role::Sidecar if stopped => {}
            Role::Sidecar => count.pending += 1,
            Role::App if state.running.is_some() => count.running += 1,
            Role::App if stopped => {
                count.stopped += 1;
                count.succeeded += usize::from(exit == Some(0));
            }
            Role::App => count.waiting += 1,
            Role::Ephemeral => {}
        }
    }
    let begun = status.container_statuses.iter().any(|c| c.state.waiting.is_none());
    let succeeded = count.stopped > 0 && count.stopped == count.succeeded;
    let by_result = |all_succeeded| if all_succeeded { Phase::Succeeded } else { Phase::Failed };
    match count {
        _ if init_failed => Phase::Failed,
        _ if ended => by_result(succeeded && count.waiting == 0),
        Count { pending: 1.., .. } if !begun => Phase::Pending,
        Count { waiting: 1.., .. } => Phase::Pending,
        Count { running: 1.., .. } => Phase::Running,
        Count { stopped: 1.., .. } if plan::is_over(input) => by_result(succeeded),
        Count { stopped: 1.., .. } => Phase::Running,
        _ => Phase::Pending,
    }
}

/// Keeps the time of a condition whose status is as it was reported.
fn dated(input: &Input<'_>, mut condition: Condition) -> Condition {
    let reported = input.reported.condition(&condition.kind);
    let unchanged = reported
        .filter(|old| old.status == condition.status)
        .and_then(|old| old.last_transition_time);
    let now: Timestamp = seconds(input.now);
    condition.last_transition_time = Some(unchanged.unwrap_or(now));
    condition
}
