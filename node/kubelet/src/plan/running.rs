//! The plan of a pod that should run: volumes and sandbox, init containers in order, sidecars, app containers. Pure.

use cri::{ContainerState, Content, SandboxId};

use super::{
    Action, Input, Key, Plan, Volumes,
    backoff::{self, Verdict},
    is_done,
};
use crate::{
    observed,
    pod::{Container, Role},
    resize::{self, Pending},
    status,
};

/// How often a resize that waits for room is looked at again.
const ROOM: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

pub(super) fn plan(input: &Input<'_>, plan: &mut Plan) {
    mount(input, plan);
    if let Some(Pending::Deferred(_)) = input.memory.resize_pending {
        // Room is made by others, who do not tell.
        plan.wake_at(input.now.saturating_add(ROOM).unwrap_or(input.now), input.now);
    }
    let Some(sandbox) = sandbox(input, plan) else { return };
    retire(input, plan);
    if input.memory.volumes == Volumes::Absent {
        return;
    }
    for container in &input.pod.spec.ephemeral_containers {
        keep(input, plan, &sandbox, Role::Ephemeral, container);
    }
    if initialize(input, plan, &sandbox) {
        for container in &input.pod.spec.containers {
            keep(input, plan, &sandbox, Role::App, container);
        }
    }
}

/// Prepares volumes that are not there, and brings up to date those that are.
fn mount(input: &Input<'_>, plan: &mut Plan) {
    let expired = input.memory.renew_at.is_some_and(|at| at <= input.now);
    if input.memory.volumes != Volumes::Ready || expired {
        plan.act(input, Action::MountVolumes);
    } else if let Some(at) = input.memory.renew_at {
        plan.wake_at(at, input.now);
    }
}

/// The sandbox to work in. A lost one is stopped first, so that what it held (addresses, strays) is freed, then a new
/// one is made, as soon as the network that it needs stands.
fn sandbox(input: &Input<'_>, plan: &mut Plan) -> Option<SandboxId> {
    let latest = input.observed.latest_sandbox();
    match latest {
        Some(sandbox) if sandbox.ready && !input.memory.stopped.contains(&sandbox.id) => {
            return Some(sandbox.id.clone());
        }
        Some(lost) if !input.memory.stopped.contains(&lost.id) => {
            plan.act(input, Action::StopSandbox { id: lost.id.clone() });
        }
        _ => {
            let content = content(input, plan);
            if let Some(content) = content.filter(|_| input.network || input.pod.spec.host_network) {
                let attempt = latest.map_or(0, |s| s.attempt.saturating_add(1));
                plan.act(input, Action::RunSandbox { attempt, content });
            }
        }
    }
    None
}

/// What the sandbox has to hold: a single Linux image makes it one of Linux containers, which those of Wasm can join. All
/// images are brought to find out, unless the pod's RuntimeClass decides.
fn content(input: &Input<'_>, plan: &mut Plan) -> Option<Content> {
    if input.pod.spec.runtime_class_name.is_some() {
        return Some(Content::Linux);
    }
    let mut content = Some(Content::Wasm);
    for (_, container) in input.pod.lasting_containers() {
        match input.memory.images.get(&container.name) {
            Some(resolved) if resolved.content == Content::Linux => return Some(Content::Linux),
            Some(_) => {}
            None => {
                content = None;
                pull(input, plan, container);
            }
        }
    }
    content
}

fn pull(input: &Input<'_>, plan: &mut Plan, container: &Container) {
    wake_at_pull_backoff(input, plan, container);
    let name = container.name.clone();
    plan.act(input, Action::Pull { name });
}

/// ErrImagePull turns into ImagePullBackOff while the next try waits.
fn wake_at_pull_backoff(input: &Input<'_>, plan: &mut Plan, container: &Container) {
    let failure = input.memory.ops.failure(&Key::Start(container.name.clone()));
    if let Some(turn) = failure.and_then(status::pull_backoff_from) {
        plan.wake_at(turn, input.now);
    }
}

/// Goes through the init containers; `true` when the app containers may run.
fn initialize(input: &Input<'_>, plan: &mut Plan, sandbox: &SandboxId) -> bool {
    let begun = |c: &Container| input.observed.latest_in(sandbox, &c.name).is_some();
    let past = input.pod.spec.containers.iter().any(begun);
    for container in &input.pod.spec.init_containers {
        let role = container.init_role();
        if past && role == Role::Init {
            continue;
        }
        let current = input.observed.latest_in(sandbox, &container.name);
        if role == Role::Init && current.is_some_and(observed::Container::succeeded) {
            continue;
        }
        keep(input, plan, sandbox, role, container);
        let passed = role == Role::Sidecar && current.is_some_and(|c| status::is_started(input, container, c));
        if !past && !passed {
            return false;
        }
    }
    true
}

/// Brings one container to where it should be: started, restarted after its back-off, or stopped because a probe failed.
fn keep(input: &Input<'_>, plan: &mut Plan, sandbox: &SandboxId, role: Role, container: &Container) {
    let latest = input.observed.latest(&container.name);
    match latest {
        Some(current) if current.sandbox == *sandbox => match current.state {
            ContainerState::Created => start(input, plan, sandbox, container, current.attempt, None),
            ContainerState::Running => {
                stop_if_unhealthy(input, plan, current);
                resize(input, plan, container, current);
            }
            ContainerState::Exited | ContainerState::Unknown => {
                restart(input, plan, sandbox, role, container, current);
            }
        },
        // A stopped sandbox has no business with running containers; never run a second copy beside one.
        Some(stray) if stray.is_running() => stop(input, plan, stray, 0, format!("Stopping container {}", stray.name)),
        // An init container runs again in a new sandbox; an app container that is done stays done.
        _ if role != Role::Init && is_done(input, role, container) => {}
        _ => start(input, plan, sandbox, container, next_attempt(input, container), None),
    }
}

fn restart(
    input: &Input<'_>,
    plan: &mut Plan,
    sandbox: &SandboxId,
    role: Role,
    container: &Container,
    ended: &observed::Container,
) {
    if is_done(input, role, container) {
        return;
    }
    let crash = input.memory.containers.get(&container.name).and_then(|h| h.crash);
    match backoff::judge(crash, ended.ended_at(), input.now) {
        Verdict::Restart(next) => {
            start(
                input,
                plan,
                sandbox,
                container,
                next_attempt(input, container),
                Some(next),
            );
        }
        Verdict::Wait { until, .. } => plan.wake_at(until, input.now),
    }
}

fn start(
    input: &Input<'_>,
    plan: &mut Plan,
    sandbox: &SandboxId,
    container: &Container,
    attempt: u32,
    crash: Option<super::Crash>,
) {
    wake_at_pull_backoff(input, plan, container);
    let (name, sandbox) = (container.name.clone(), sandbox.clone());
    plan.act(
        input,
        Action::Start {
            name,
            attempt,
            sandbox,
            crash,
        },
    );
}

/// One more than any attempt the runtime or the API knows of, so that a restart count never falls.
fn next_attempt(input: &Input<'_>, container: &Container) -> u32 {
    let observed = input
        .observed
        .latest(&container.name)
        .map_or(0, |c| c.attempt.saturating_add(1));
    let reported = input.reported.container(&container.name).map_or(0, |s| {
        let has_run = s.state.running.is_some() || s.state.terminated.is_some() || s.last_state.terminated.is_some();
        s.restart_count.saturating_add(u32::from(has_run))
    });
    observed.max(reported)
}

fn stop_if_unhealthy(input: &Input<'_>, plan: &mut Plan, running: &observed::Container) {
    let health = input.memory.health(&running.name, &running.id);
    let Some(unhealthy) = health.and_then(|h| h.unhealthy.as_ref()) else {
        return;
    };
    if health.is_some_and(|h| h.stopping_until.is_some()) {
        return;
    }
    let grace = unhealthy.grace.unwrap_or_else(|| input.pod.grace_seconds());
    stop(input, plan, running, grace, unhealthy.message.clone());
}

/// Gives a container the limits it is allocated, by a restart where its policy says so.
fn resize(input: &Input<'_>, plan: &mut Plan, spec: &Container, running: &observed::Container) {
    let Some(limits) = super::limits_to_set(input, spec, running) else {
        return;
    };
    let health = input.memory.health(&running.name, &running.id);
    if health.is_some_and(|h| h.stopping_until.is_some()) {
        return;
    }
    if resize::restarts(spec, &super::has_limits(input, running), &limits) {
        let why = format!("Container {} resize requires restart", running.name);
        return stop(input, plan, running, input.pod.grace_seconds(), why);
    }
    let (name, id) = (running.name.clone(), running.id.clone());
    plan.act(input, Action::Resize { name, id, limits });
}

fn stop(input: &Input<'_>, plan: &mut Plan, running: &observed::Container, grace: i64, why: String) {
    let (name, id) = (running.name.clone(), running.id.clone());
    plan.act(
        input,
        Action::Stop {
            name,
            id,
            grace,
            period: grace,
            why,
        },
    );
}

/// Removes what nobody asks for any more: containers before the last but one of their name, and empty old sandboxes.
fn retire(input: &Input<'_>, plan: &mut Plan) {
    let observed = input.observed;
    for container in observed.containers.iter().filter(|c| !c.is_running()) {
        let newer = observed
            .containers
            .iter()
            .filter(|c| c.name == container.name && c.attempt > container.attempt);
        if newer.count() >= 2 {
            let (id, name, attempt) = (container.id.clone(), container.name.clone(), container.attempt);
            plan.act(input, Action::RemoveContainer { id, name, attempt });
        }
    }
    let old = observed.sandboxes.split_last().map_or(&[][..], |(_, old)| old);
    for sandbox in old {
        if !observed.containers.iter().any(|c| c.sandbox == sandbox.id) {
            plan.act(input, Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
}
