//! The pod conditions a kubelet sets, with upstream's reasons and messages. Pure.

use super::{Condition, ContainerStatus, Phase, PodStatus};
use crate::{
    plan::{self, Input, Key},
    pod::{ReadinessGate, Role},
};

/// All conditions of a pod with this status; times are set by the caller.
pub(super) fn make(input: &Input<'_>, status: &PodStatus) -> Vec<Condition> {
    let containers_ready = containers_ready(input, status);
    let ready = ready(input, &containers_ready);
    let generation = input.pod.metadata.generation;
    let mut conditions = vec![
        sandbox_ready(input),
        initialized(input, status),
        ready,
        containers_ready,
    ];
    conditions.extend(resizing(input));
    if let Some(eviction) = &input.memory.evicted {
        conditions.push(Condition {
            reason: "TerminationByKubelet".into(),
            message: eviction.message.clone(),
            ..holds("DisruptionTarget")
        });
    }
    for condition in &mut conditions {
        condition.observed_generation = generation;
    }
    conditions.push(match input.reported.condition("PodScheduled") {
        Some(scheduled) => scheduled.clone(),
        None => Condition {
            observed_generation: generation,
            ..holds("PodScheduled")
        },
    });
    conditions
}

/// A resize that waits, and one that is being done.
fn resizing(input: &Input<'_>) -> Vec<Condition> {
    let mut made = Vec::new();
    if let Some(pending) = &input.memory.resize_pending {
        let (reason, message) = pending.parts();
        made.push(Condition {
            reason: reason.into(),
            message: message.into(),
            ..holds("PodResizePending")
        });
    }
    let failure = |key: &Key| matches!(key, Key::Resize(_));
    let running = input.pod.lasting_containers().filter_map(|(_, spec)| {
        let latest = input.observed.latest(&spec.name)?;
        plan::is_resizing(input, spec, latest).then_some(latest)
    });
    let running: Vec<_> = running.collect();
    if !running.is_empty() || input.memory.ops.any_busy(failure) {
        let failed = running
            .iter()
            .find_map(|c| input.memory.ops.failure(&Key::Resize(c.id.clone())));
        made.push(Condition {
            reason: failed.map_or_else(String::new, |_| "Error".to_owned()),
            message: failed.map_or_else(String::new, |f| f.message.clone()),
            ..holds("PodResizeInProgress")
        });
    }
    made
}

fn holds(kind: &str) -> Condition {
    Condition {
        kind: kind.into(),
        status: "True".into(),
        ..Condition::default()
    }
}

fn fails(kind: &str, reason: &str, message: String) -> Condition {
    Condition {
        kind: kind.into(),
        status: "False".into(),
        reason: reason.into(),
        message,
        ..Condition::default()
    }
}

fn sandbox_ready(input: &Input<'_>) -> Condition {
    let kind = "PodReadyToStartContainers";
    let latest = input
        .observed
        .latest_sandbox()
        .filter(|s| s.ready && !input.memory.stopped.contains(&s.id));
    let ready = latest.is_some_and(|s| input.pod.spec.host_network || !s.ips.is_empty());
    if ready {
        holds(kind)
    } else {
        fails(kind, "", String::new())
    }
}

fn initialized(input: &Input<'_>, status: &PodStatus) -> Condition {
    let kind = "Initialized";
    if status.phase == Phase::Succeeded {
        return Condition {
            reason: "PodCompleted".into(),
            ..holds(kind)
        };
    }
    let begun = status
        .container_statuses
        .iter()
        .any(|c| c.state.running.is_some() || c.state.terminated.is_some() || c.last_state.terminated.is_some());
    let incomplete: Vec<&str> = input
        .pod
        .all_containers()
        .zip(&status.init_container_statuses)
        .filter(|((role, _), c)| {
            if *role == Role::Sidecar {
                c.started != Some(true)
            } else {
                !c.ready
            }
        })
        .map(|(_, c)| &*c.name)
        .collect();
    if begun || incomplete.is_empty() {
        return holds(kind);
    }
    fails(
        kind,
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{}]", incomplete.join(" ")),
    )
}

fn containers_ready(input: &Input<'_>, status: &PodStatus) -> Condition {
    let kind = "ContainersReady";
    match status.phase {
        Phase::Succeeded => return fails(kind, "PodCompleted", String::new()),
        Phase::Failed => return fails(kind, "PodFailed", String::new()),
        Phase::Pending | Phase::Running | Phase::Unknown => {}
    }
    let long_running = input
        .pod
        .all_containers()
        .zip(status.all_containers())
        .filter(|((role, _), _)| matches!(role, Role::App | Role::Sidecar));
    let unready: Vec<&str> = long_running
        .filter(|(_, c)| !c.ready)
        .map(|(_, c): (_, &ContainerStatus)| &*c.name)
        .collect();
    if unready.is_empty() {
        return holds(kind);
    }
    fails(
        kind,
        "ContainersNotReady",
        format!("containers with unready status: [{}]", unready.join(" ")),
    )
}

fn ready(input: &Input<'_>, containers_ready: &Condition) -> Condition {
    if containers_ready.status != "True" {
        return Condition {
            kind: "Ready".into(),
            ..containers_ready.clone()
        };
    }
    let closed: Vec<String> = input
        .pod
        .spec
        .readiness_gates
        .iter()
        .filter_map(|gate| closed(input, gate))
        .collect();
    if closed.is_empty() {
        return holds("Ready");
    }
    fails("Ready", "ReadinessGatesNotReady", closed.join(", "))
}

/// Why a readiness gate does not let the pod be ready yet.
fn closed(input: &Input<'_>, gate: &ReadinessGate) -> Option<String> {
    let name = &gate.condition_type;
    match input.pod.status.condition(name) {
        None => Some(format!(
            "corresponding condition of pod readiness gate \"{name}\" does not exist."
        )),
        Some(c) if c.status == "True" => None,
        Some(c) => Some(format!(
            "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
            c.status
        )),
    }
}
