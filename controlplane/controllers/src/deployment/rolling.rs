//! A rolling update: the new ReplicaSet grows as far as the surge allows, the old ones shrink as far as availability
//! allows. At most one of the two happens per plan, so that each is decided on what the other really led to.

use super::plan::{Rollout, Set};

/// Plans the next move.
pub(super) fn roll(rollout: &mut Rollout<'_>) {
    if !grow_new(rollout) {
        shrink_old(rollout);
    }
}

fn grow_new(rollout: &mut Rollout<'_>) -> bool {
    let (size, desired, surge) = (new_size(rollout), rollout.desired(), rollout.max_surge);
    match &mut rollout.new {
        Some(new) if new.now.spec.replicas != desired => Rollout::resize(new, size, desired, surge),
        _ => false,
    }
}

/// How large the new ReplicaSet may be now.
pub(super) fn new_size(rollout: &Rollout<'_>) -> i64 {
    let desired = rollout.desired();
    let current = rollout.new.as_ref().map_or(0, |new| new.replicas);
    if current > desired || &*rollout.deployment.spec.strategy.r#type == "Recreate" {
        return desired;
    }
    let pods: i64 = rollout.all().map(|set| set.replicas).sum();
    let room = (desired + rollout.max_surge - pods).max(0);
    current + room.min(desired - current)
}

fn shrink_old(rollout: &mut Rollout<'_>) {
    let old_pods: i64 = rollout.old.iter().map(|set| set.replicas).sum();
    let Some(new) = rollout.new.as_ref().filter(|_| old_pods > 0) else {
        return;
    };
    let min_available = rollout.desired() - rollout.max_unavailable;
    // what the new one lacks may not be taken away from the old ones as well
    let budget = old_pods + new.replicas - min_available - (new.replicas - new.available());
    if budget <= 0 {
        return;
    }
    remove_unhealthy(rollout, budget);
    remove_healthy(rollout, min_available);
}

/// Pods that are not available cost no availability: they go first, or a broken rollout would block its own repair.
fn remove_unhealthy(rollout: &mut Rollout<'_>, mut budget: i64) {
    let (desired, surge) = (rollout.desired(), rollout.max_surge);
    for set in &mut rollout.old {
        let unhealthy = (set.replicas - set.available()).max(0).min(budget);
        if set.replicas > 0 && unhealthy > 0 {
            Rollout::resize(set, set.replicas - unhealthy, desired, surge);
            budget -= unhealthy;
        }
    }
}

fn remove_healthy(rollout: &mut Rollout<'_>, min_available: i64) {
    let (desired, surge) = (rollout.desired(), rollout.max_surge);
    let mut budget = rollout.all().map(Set::available).sum::<i64>() - min_available;
    for set in &mut rollout.old {
        let count = set.replicas.min(budget);
        if count > 0 {
            Rollout::resize(set, set.replicas - count, desired, surge);
            budget -= count;
        }
    }
}
