//! What a Deployment's status says: counts, and the conditions Available, Progressing and ReplicaFailure, with the
//! reasons and messages that `kubectl rollout status` and people know.

use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Rollout, Set};
use crate::view::{Condition, Deployment, DeploymentStatus};

/// Counts and availability; the other conditions as given.
pub(super) fn counted(rollout: &Rollout<'_>, conditions: Vec<Condition>, now: Timestamp) -> DeploymentStatus {
    let sum = |count: fn(&Set) -> i64| rollout.all().map(count).sum::<i64>();
    let available = sum(|set| set.now.status.available_replicas);
    let planned = sum(|set| set.replicas);
    let mut status = DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: sum(|set| set.now.status.replicas),
        updated_replicas: rollout.new.as_ref().map_or(0, |new| new.now.status.replicas),
        ready_replicas: sum(|set| set.now.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (planned - available).max(0),
        terminating_replicas: sum(|set| set.now.status.terminating_replicas),
        collision_count: rollout.deployment.status.collision_count,
        conditions,
    };
    let enough = available >= rollout.desired() - rollout.max_unavailable;
    let available = if enough {
        condition(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.".into();
        condition("Available", "False", "MinimumReplicasUnavailable", message, now)
    };
    set_condition(&mut status.conditions, available);
    status
}

/// As [`counted`], with how the rollout gets on; and when to look again whether it still does.
pub(super) fn progressed(
    rollout: &Rollout<'_>,
    conditions: Vec<Condition>,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let deployment = rollout.deployment;
    let mut status = counted(rollout, conditions, now);
    match deadline(deployment) {
        None => status
            .conditions
            .retain(|condition| &*condition.r#type != "Progressing"),
        Some(deadline) => note_progress(rollout, &mut status, deadline, now),
    }
    note_failures(rollout, &mut status);
    let again = deadline(deployment).and_then(|deadline| next_check(deployment, &status, deadline, now));
    (status, again)
}

fn note_progress(rollout: &Rollout<'_>, status: &mut DeploymentStatus, deadline: i64, now: Timestamp) {
    let deployment = rollout.deployment;
    let current = progressing(&status.conditions).cloned();
    let done_before = current
        .as_ref()
        .is_some_and(|condition| &*condition.reason == "NewReplicaSetAvailable");
    if done_before && status.replicas == status.updated_replicas {
        return; // complete, and scaling or restarts do not count as a rollout
    }
    let subject = match &rollout.new {
        Some(new) => format!("ReplicaSet {:?}", new.now.metadata.name),
        None => format!("Deployment {:?}", deployment.metadata.name),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(
            &mut status.conditions,
            condition("Progressing", "True", "NewReplicaSetAvailable", message, now),
        );
    } else if has_progressed(&deployment.status, status) {
        let mut condition = condition(
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            format!("{subject} is progressing."),
            now,
        );
        if let Some(current) = current.filter(|current| &*current.status == "True") {
            condition.last_transition_time = current.last_transition_time;
        }
        // always replaced: its update time is what the deadline counts from
        status
            .conditions
            .retain(|condition| &*condition.r#type != "Progressing");
        status.conditions.push(condition);
    } else if is_timed_out(&status.conditions, deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(
            &mut status.conditions,
            condition("Progressing", "False", "ProgressDeadlineExceeded", message, now),
        );
    }
}

/// Every replica asked for is of the new template and available, and no old one is left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = deployment.spec.replicas;
    status.updated_replicas == desired
        && status.replicas == desired
        && status.available_replicas == desired
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn is_timed_out(conditions: &[Condition], deadline: i64, now: Timestamp) -> bool {
    let Some(condition) = progressing(conditions) else {
        return false;
    };
    match &*condition.reason {
        "NewReplicaSetAvailable" => false,
        "ProgressDeadlineExceeded" => true,
        _ => condition
            .last_update_time
            .is_some_and(|at| now.as_second() > at.as_second() + deadline),
    }
}

/// The deadline in seconds; the largest number means none.
fn deadline(deployment: &Deployment) -> Option<i64> {
    deployment
        .spec
        .progress_deadline_seconds
        .filter(|seconds| *seconds != i64::from(i32::MAX))
}

fn next_check(deployment: &Deployment, status: &DeploymentStatus, deadline: i64, now: Timestamp) -> Option<Duration> {
    let condition = progressing(&status.conditions)?;
    let over = matches!(
        &*condition.reason,
        "NewReplicaSetAvailable" | "ProgressDeadlineExceeded"
    );
    if over || is_complete(deployment, status) {
        return None;
    }
    let left = condition.last_update_time?.as_second() + deadline - now.as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1))
}

/// Notes that the rollout was paused or resumed, so that the time in between does not count as lack of progress.
pub(super) fn note_pause(deployment: &Deployment, conditions: &mut Vec<Condition>, now: Timestamp) {
    let reason = progressing(conditions)
        .map(|condition| condition.reason.clone())
        .unwrap_or_default();
    if deadline(deployment).is_none() || &*reason == "ProgressDeadlineExceeded" || deployment.metadata.is_deleting() {
        return;
    }
    let was_paused = &*reason == "DeploymentPaused";
    if deployment.spec.paused && !was_paused {
        let message = "Deployment is paused".into();
        set_condition(
            conditions,
            condition("Progressing", "Unknown", "DeploymentPaused", message, now),
        );
    } else if !deployment.spec.paused && was_paused {
        let message = "Deployment is resumed".into();
        set_condition(
            conditions,
            condition("Progressing", "Unknown", "DeploymentResumed", message, now),
        );
    }
}

/// Notes that the new ReplicaSet is being created, or that it was there already.
pub(super) fn note_new_set(rollout: &Rollout<'_>, conditions: &mut Vec<Condition>, now: Timestamp) {
    let Some(new) = rollout.new.as_ref().filter(|_| deadline(rollout.deployment).is_some()) else {
        return;
    };
    let name = &new.now.metadata.name;
    if rollout.creates() {
        let message = format!("Created new replica set {name:?}");
        set_condition(
            conditions,
            condition("Progressing", "True", "NewReplicaSetCreated", message, now),
        );
    } else if progressing(conditions).is_none() {
        let message = format!("Found new replica set {name:?}");
        set_condition(
            conditions,
            condition("Progressing", "True", "FoundNewReplicaSet", message, now),
        );
    }
}

/// The status when the new ReplicaSet was refused.
pub(super) fn create_failed(deployment: &Deployment, why: &str, now: Timestamp) -> DeploymentStatus {
    let mut status = deployment.status.clone();
    let message = format!("Failed to create new replica set: {why}");
    set_condition(
        &mut status.conditions,
        condition("Progressing", "False", "ReplicaSetCreateError", message, now),
    );
    status
}

/// Passes on what keeps ReplicaSets from creating pods, the new one's first.
fn note_failures(rollout: &Rollout<'_>, status: &mut DeploymentStatus) {
    let failure = |set: &Set| {
        set.now
            .status
            .conditions
            .iter()
            .find(|c| &*c.r#type == "ReplicaFailure")
            .cloned()
    };
    match rollout.all().find_map(failure) {
        Some(failure) => {
            let update = Condition {
                last_update_time: failure.last_transition_time,
                ..failure
            };
            set_condition(&mut status.conditions, update);
        }
        None => status
            .conditions
            .retain(|condition| &*condition.r#type != "ReplicaFailure"),
    }
}

fn progressing(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| &*condition.r#type == "Progressing")
}

fn condition(type_: &str, status: &str, reason: &str, message: String, now: Timestamp) -> Condition {
    Condition {
        r#type: type_.into(),
        status: status.into(),
        last_update_time: Some(now),
        last_transition_time: Some(now),
        reason: reason.into(),
        message: message.into(),
    }
}

/// Sets a condition, unless it has that status for that reason already. The transition time moves with the status only.
fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    let Some(old) = conditions.iter().position(|condition| condition.r#type == new.r#type) else {
        conditions.push(new);
        return;
    };
    if conditions
        .get(old)
        .is_some_and(|old| old.status == new.status && old.reason == new.reason)
    {
        return;
    }
    let removed = conditions.remove(old);
    if removed.status == new.status {
        new.last_transition_time = removed.last_transition_time;
    }
    conditions.push(new);
}
