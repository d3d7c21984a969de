//! The status of one container. Pure.

use std::time::Duration;

use cri::ContainerState;
use jiff::{SignedDuration, Timestamp};

use super::{ContainerStatus, LinuxUser, MountStatus, State, Terminated, User, seconds};
use crate::{
    observed,
    plan::{
        self, Failure, Input, Key, Reason,
        backoff::{self, Verdict},
    },
    pod::{Container, Role, VolumeMount},
};

/// How long `ErrImagePull` stands before it turns into `ImagePullBackOff`.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);

pub(super) fn make(input: &Input<'_>, role: Role, spec: &Container) -> ContainerStatus {
    let latest = input.observed.latest(&spec.name);
    let mut status = match latest {
        Some(latest) => of_observed(input, role, spec, latest),
        None => of_unobserved(input, role, spec),
    };
    status.name.clone_from(&spec.name);
    if status.image.is_empty() {
        status.image.clone_from(&spec.image);
    }
    if status.state.running.is_none()
        && !plan::is_over(input)
        && let Some(failure) = input.memory.ops.failure(&Key::Start(spec.name.clone()))
    {
        if status.state.terminated.is_some() {
            status.last_state = std::mem::take(&mut status.state);
        }
        status.state = waiting_for(input, spec, failure);
    }
    allocate(input, role, spec, latest, &mut status);
    status.volume_mounts = spec.volume_mounts.iter().map(mount).collect();
    status.stop_signal = spec
        .lifecycle
        .as_ref()
        .map(|l| l.stop_signal.clone())
        .unwrap_or_default();
    status.started = Some(latest.is_some_and(|c| is_started(input, spec, c)));
    status.ready = match role {
        Role::Init => latest.is_some_and(observed::Container::succeeded),
        Role::App | Role::Sidecar => latest.is_some_and(|c| is_ready(input, spec, c)),
        Role::Ephemeral => false,
    };
    status
}

/// What the container is allocated, which a later resize is measured by, and what it has.
fn allocate(
    input: &Input<'_>,
    role: Role,
    spec: &Container,
    latest: Option<&observed::Container>,
    status: &mut ContainerStatus,
) {
    if role == Role::Ephemeral || status.state.running.is_none() {
        return;
    }
    status.allocated_resources.clone_from(&spec.resources.requests);
    let has = latest.is_some_and(|running| !plan::is_resizing(input, spec, running));
    let before = || input.reported.container(&spec.name).and_then(|s| s.resources.clone());
    status.resources = if has { None } else { before() }.or_else(|| Some(Box::new(spec.resources.clone())));
}

fn mount(mount: &VolumeMount) -> MountStatus {
    let only = mount.read_only && !mount.recursive_read_only.is_empty();
    MountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: match &*mount.recursive_read_only {
            _ if !only => String::new(),
            "Enabled" => "Enabled".to_owned(),
            _ => "Disabled".to_owned(),
        },
    }
}

fn of_observed(input: &Input<'_>, role: Role, spec: &Container, latest: &observed::Container) -> ContainerStatus {
    let reported = input.reported.container(&spec.name);
    let mut status = ContainerStatus {
        restart_count: latest.attempt.max(reported.map_or(0, |r| r.restart_count)),
        image: latest.image.clone(),
        image_id: latest.image_id.clone(),
        container_id: container_id(input, &latest.id),
        last_state: last_state(input, spec, latest),
        user: latest.user.as_deref().map(|user| {
            Box::new(User {
                linux: LinuxUser {
                    uid: user.uid,
                    gid: user.gid,
                    supplemental_groups: user.supplemental_groups.clone(),
                },
            })
        }),
        ..ContainerStatus::default()
    };
    match latest.state {
        ContainerState::Running => status.state = State::running(latest.started_at.map(seconds)),
        ContainerState::Created => status.state = not_yet(input),
        ContainerState::Exited | ContainerState::Unknown => {
            status.state = State::terminated(terminated(input, latest));
            if let Some(back_off) = crash_loop(input, role, spec, latest) {
                status.last_state = std::mem::replace(&mut status.state, back_off);
            }
        }
    }
    status
}

/// The end before the latest start: from the runtime's record, else from what was reported.
fn last_state(input: &Input<'_>, spec: &Container, latest: &observed::Container) -> State {
    if let Some(previous) = input.observed.previous(&spec.name).filter(|c| c.has_ended()) {
        return State::terminated(terminated(input, previous));
    }
    let Some(reported) = input.reported.container(&spec.name) else {
        return State::default();
    };
    if reported.restart_count < latest.attempt && reported.state.terminated.is_some() {
        return reported.state.clone();
    }
    reported.last_state.clone()
}

/// A container the runtime does not know: not made yet, or lost.
fn of_unobserved(input: &Input<'_>, role: Role, spec: &Container) -> ContainerStatus {
    let Some(reported) = input.reported.container(&spec.name) else {
        return ContainerStatus {
            state: not_yet(input),
            ..ContainerStatus::default()
        };
    };
    let mut status = reported.clone();
    let lost = status.state.running.take().map(|running| Terminated {
        exit_code: plan::LOST_EXIT_CODE,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was deleted.  The container used to be Running"
            .into(),
        started_at: running.started_at,
        container_id: reported.container_id.clone(),
        ..Terminated::default()
    });
    let ended = lost.or_else(|| status.state.terminated.take());
    match ended {
        Some(ended) if plan::is_over(input) || plan::is_done(input, role, spec) => {
            status.state = State::terminated(ended);
        }
        Some(ended) => {
            status.last_state = State::terminated(ended);
            status.state = not_yet(input);
        }
        None => status.state = not_yet(input),
    }
    status
}

fn not_yet(input: &Input<'_>) -> State {
    let has_init = !input.pod.spec.init_containers.is_empty();
    State::waiting(
        if has_init {
            "PodInitializing"
        } else {
            "ContainerCreating"
        },
        "",
    )
}

fn terminated(input: &Input<'_>, ended: &observed::Container) -> Terminated {
    let reason = match (&*ended.reason, ended.state, ended.exit_code()) {
        ("", ContainerState::Unknown, _) => "ContainerStatusUnknown",
        ("", _, 0) => "Completed",
        ("", _, _) => "Error",
        (known, _, _) => known,
    };
    let words = input.memory.last_words.get(&ended.id).map_or("", String::as_str);
    let message = match (&*ended.message, words, ended.state) {
        ("", "", ContainerState::Unknown) => {
            "The container could not be located when the pod was terminated".to_owned()
        }
        (known, "", _) => known.to_owned(),
        ("", words, _) => words.to_owned(),
        (known, words, _) => format!("{known}: {words}"),
    };
    Terminated {
        exit_code: ended.exit_code(),
        reason: reason.into(),
        message,
        started_at: ended.started_at.map(seconds),
        finished_at: ended.finished_at.map(seconds),
        container_id: container_id(input, &ended.id),
    }
}

/// `<runtime>://<id>`, as the runtime itself knows it: tools look for what `containerd://` names in containerd.
fn container_id(input: &Input<'_>, id: &cri::ContainerId) -> String {
    match id.of_containerd() {
        Some(id) => format!("containerd://{id}"),
        None => format!("{}://{id}", input.node.runtime),
    }
}

fn crash_loop(input: &Input<'_>, role: Role, spec: &Container, ended: &observed::Container) -> Option<State> {
    if plan::is_over(input) || plan::is_done(input, role, spec) || (role == Role::Init && ended.succeeded()) {
        return None;
    }
    let crash = input.memory.containers.get(&spec.name).and_then(|h| h.crash);
    match backoff::judge(crash, ended.ended_at(), input.now) {
        Verdict::Wait { delay, .. } => Some(State::waiting("CrashLoopBackOff", &crash_message(input, spec, delay))),
        Verdict::Restart(_) => None,
    }
}

fn crash_message(input: &Input<'_>, spec: &Container, delay: Duration) -> String {
    let pod = input.pod.full_name();
    format!(
        "back-off {} restarting failed container={} pod={pod}",
        go_duration(delay),
        spec.name
    )
}

/// As Go prints a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

fn waiting_for(input: &Input<'_>, spec: &Container, failure: &Failure) -> State {
    match pull_backoff_from(failure) {
        Some(turn) if turn <= input.now => {
            let message = format!(
                "Back-off pulling image \"{}\": ErrImagePull: {}",
                spec.image, failure.message
            );
            State::waiting("ImagePullBackOff", &message)
        }
        _ => State::waiting(failure.reason.as_str(), &failure.message),
    }
}

/// When a failed pull begins to be shown as a back-off; `None` for other failures.
pub(crate) fn pull_backoff_from(failure: &Failure) -> Option<Timestamp> {
    let pulling = failure.reason == Reason::ErrImagePull;
    pulling.then(|| failure.at.saturating_add(PULL_ERROR_SHOWN).unwrap_or(Timestamp::MAX))
}

/// The container runs, its postStart hook is over, and its startup probe, if it has one, has passed.
///
/// What was reported of this very container counts until a probe says otherwise, so that a restart of the agent changes
/// nobody's readiness.
pub(crate) fn is_started(input: &Input<'_>, spec: &Container, container: &observed::Container) -> bool {
    if !container.is_running() || input.memory.ops.is_busy(&Key::Start(spec.name.clone())) {
        return false;
    }
    let health = input.memory.health(&spec.name, &container.id);
    spec.startup_probe.is_none()
        || health
            .and_then(|h| h.started)
            .unwrap_or_else(|| reported(input, container, |s| s.started == Some(true)))
}

/// The container is started and its readiness probe, if it has one, passes.
fn is_ready(input: &Input<'_>, spec: &Container, container: &observed::Container) -> bool {
    let health = input.memory.health(&spec.name, &container.id);
    is_started(input, spec, container)
        && (spec.readiness_probe.is_none()
            || health
                .and_then(|h| h.ready)
                .unwrap_or_else(|| reported(input, container, |s| s.ready)))
}

fn reported(input: &Input<'_>, container: &observed::Container, was: impl Fn(&ContainerStatus) -> bool) -> bool {
    let id = container_id(input, &container.id);
    input
        .reported
        .container(&container.name)
        .is_some_and(|s| s.container_id == id && was(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_durations_as_go_does() {
        let cases = [(10, "10s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s")];
        for (seconds, text) in cases {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}
