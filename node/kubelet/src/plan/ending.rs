//! The plan of a pod that is over: deleted, gone from the API, past its deadline, or complete. Pure.
//!
//! App containers end first, together; then sidecars, last started first; then the sandbox, then the volumes. A pod that
//! is complete keeps its records for `kubectl logs` until its object goes; one that is deleted is finished in the API
//! once its final status has been reported.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Input, Key, Plan, Volumes};
use crate::{
    observed::Container,
    pod::Role,
    status::{PodStatus, patch},
};

pub(super) fn plan(input: &Input<'_>, plan: &mut Plan) {
    plan.ending = true;
    if stop_containers(input, plan) || stop_sandboxes(input, plan) {
        return;
    }
    if input.memory.volumes != Volumes::Removed {
        plan.act(input, Action::UnmountVolumes);
        return;
    }
    if input.memory.removed || input.memory.finished {
        return clear(input, plan);
    }
    if input.pod.is_deleting() && is_reported(input, &plan.status) {
        plan.act(input, Action::Finish);
    }
}

/// Stops what runs; `true` while something runs or is being made.
fn stop_containers(input: &Input<'_>, plan: &mut Plan) -> bool {
    let being_made = input
        .memory
        .ops
        .any_busy(|key| matches!(key, Key::Start(_) | Key::Sandbox));
    let running = |role: Role| {
        let containers = input.observed.containers.iter().rev().filter(|c| c.is_running());
        containers
            .filter(move |c| (role_of(input, c) == Role::Sidecar) == (role == Role::Sidecar))
            .collect::<Vec<_>>()
    };
    let apps = running(Role::App);
    for container in &apps {
        stop(input, plan, container);
    }
    if !apps.is_empty() || being_made {
        return true;
    }
    let mut sidecars = running(Role::Sidecar);
    sidecars.sort_by_key(|c| {
        input
            .pod
            .spec
            .init_containers
            .iter()
            .position(|spec| spec.name == c.name)
    });
    if let Some(last) = sidecars.last() {
        stop(input, plan, last);
    }
    !sidecars.is_empty()
}

fn role_of(input: &Input<'_>, container: &Container) -> Role {
    input.pod.container(&container.name).map_or(Role::App, |(role, _)| role)
}

/// Asks a container to end within what is left of the pod's grace; a shorter grace period overtakes a longer one.
fn stop(input: &Input<'_>, plan: &mut Plan, container: &Container) {
    let since = input.memory.ending_since.unwrap_or(input.now);
    let period = input.grace_seconds();
    let until = since
        .saturating_add(SignedDuration::from_secs(period))
        .unwrap_or(Timestamp::MAX);
    let stopping = input
        .memory
        .health(&container.name, &container.id)
        .and_then(|h| h.stopping_until);
    if stopping.is_some_and(|other| other <= until) {
        return;
    }
    let grace = until.duration_since(input.now).as_secs().max(0);
    let why = format!("Stopping container {}", container.name);
    plan.act(
        input,
        Action::Stop {
            name: container.name.clone(),
            id: container.id.clone(),
            grace,
            period,
            why,
        },
    );
}

/// `true` while a sandbox is still to be stopped.
fn stop_sandboxes(input: &Input<'_>, plan: &mut Plan) -> bool {
    let mut left = false;
    for sandbox in input
        .observed
        .sandboxes
        .iter()
        .filter(|s| !input.memory.stopped.contains(&s.id))
    {
        left = true;
        plan.act(input, Action::StopSandbox { id: sandbox.id.clone() });
    }
    left
}

/// The final status is in the API, so the object may go.
fn is_reported(input: &Input<'_>, status: &PodStatus) -> bool {
    patch(&input.pod.metadata.uid, input.reported, status).is_none()
}

/// Removes the runtime's records and, when the object is gone too, the pod's directories.
fn clear(input: &Input<'_>, plan: &mut Plan) {
    for sandbox in &input.observed.sandboxes {
        plan.act(input, Action::RemoveSandbox { id: sandbox.id.clone() });
    }
    if !input.observed.is_empty() || !input.memory.removed {
        return;
    }
    if input.memory.purged {
        plan.done = true;
    } else {
        plan.act(input, Action::Purge);
    }
}
