//! Scaling a Deployment, in the middle of a rollout too: then every active ReplicaSet takes its share, so that a rollout
//! that goes wrong does not get all of the new pods.

use super::{
    annotations::{DESIRED_REPLICAS, MAX_REPLICAS, number},
    plan::{Rollout, Set},
};

/// Whether the size asked for has changed since the ReplicaSets were last scaled.
pub(super) fn is_due(rollout: &Rollout<'_>) -> bool {
    let sized_for = |set: &Set| number(&set.now.metadata.annotations, DESIRED_REPLICAS);
    let mut active = rollout.all().filter(|set| set.replicas > 0);
    active.any(|set| sized_for(set).is_some_and(|desired| desired != rollout.desired()))
}

/// Plans new sizes.
pub(super) fn scale(rollout: &mut Rollout<'_>) {
    let (desired, surge) = (rollout.desired(), rollout.max_surge);
    if let Some(only) = only_active_or_latest(rollout) {
        if only.replicas != desired {
            Rollout::resize(only, desired, desired, surge);
        }
    } else if is_saturated(rollout) {
        for set in rollout.old.iter_mut().filter(|set| set.replicas > 0) {
            Rollout::resize(set, 0, desired, surge);
        }
    } else if &*rollout.deployment.spec.strategy.r#type != "Recreate" {
        scale_in_proportion(rollout);
    }
}

/// The one ReplicaSet that has replicas, or if none has, the newest; `None` if several have.
fn only_active_or_latest<'a>(rollout: &'a mut Rollout<'_>) -> Option<&'a mut Set> {
    match rollout.all().filter(|set| set.replicas > 0).count() {
        0 => match &mut rollout.new {
            Some(new) => Some(new),
            None => rollout.old.last_mut(),
        },
        1 => rollout.all_mut().find(|set| set.replicas > 0),
        _ => None,
    }
}

/// The new ReplicaSet does the whole work already.
fn is_saturated(rollout: &Rollout<'_>) -> bool {
    let desired = rollout.desired();
    rollout.new.as_ref().is_some_and(|new| {
        new.replicas == desired
            && new.available() == desired
            && number(&new.now.metadata.annotations, DESIRED_REPLICAS) == Some(desired)
    })
}

fn scale_in_proportion(rollout: &mut Rollout<'_>) {
    let (desired, surge, recorded) = (rollout.desired(), rollout.max_surge, rollout.deployment.status.replicas);
    let allowed = if desired > 0 { desired + surge } else { 0 };
    let mut active: Vec<&mut Set> = rollout.all_mut().filter(|set| set.replicas > 0).collect();
    let to_add = allowed - active.iter().map(|set| set.replicas).sum::<i64>();
    // the largest first; among equals the newest gains first and the oldest loses first
    active.sort_by(|a, b| {
        let age = a
            .now
            .metadata
            .creation_timestamp
            .cmp(&b.now.metadata.creation_timestamp);
        b.replicas
            .cmp(&a.replicas)
            .then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<i64> = Vec::with_capacity(active.len());
    for set in &active {
        let share = share(set, desired, surge, recorded, to_add - added);
        sizes.push(set.replicas + share);
        added += share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0); // what rounding left over
    }
    for (set, size) in active.into_iter().zip(sizes) {
        Rollout::resize(set, size, desired, surge);
    }
}

/// What one ReplicaSet gains or loses, in proportion to its part of the size the Deployment had before; at most `left`.
fn share(set: &Set, desired: i64, surge: i64, recorded: i64, left: i64) -> i64 {
    if left == 0 {
        return 0;
    }
    if desired == 0 {
        return (-set.replicas).max(left);
    }
    let before = number(&set.now.metadata.annotations, MAX_REPLICAS)
        .filter(|max| *max > 0)
        .unwrap_or(recorded);
    if before <= 0 {
        return 0;
    }
    let grown = set.replicas * (desired + surge);
    let rounded = (2 * grown + before).div_euclid(2 * before); // half away from zero; all are positive
    let share = rounded - set.replicas;
    if left > 0 {
        share.clamp(0, left)
    } else {
        share.clamp(left, 0)
    }
}
