//! What a disruption budget's status should be, from its pods and the scales of their controllers. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::view::{BudgetCondition, BudgetStatus, Pod, PodDisruptionBudget};

/// An evicted pod that is not being deleted after this long will not be; as Kubernetes.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const CONDITION: &str = "DisruptionAllowed";

/// How many pods the controllers of the selected pods want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    /// The sum, each controller counted once.
    pub(super) pods: i64,
    /// Names of pods that no controller owns.
    pub(super) unmanaged: Vec<Box<str>>,
}

/// What there is to do about a budget.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) status: BudgetStatus,
    /// Pods that were to go and did not.
    pub(super) not_deleted: Vec<Box<str>>,
    /// When the next of the disrupted pods is given up.
    pub(super) again: Option<Duration>,
}

/// Plans the status of a budget. `pods` are those it selects; `scale` says what they should be, or why that is unknown.
pub(super) fn plan(budget: &PodDisruptionBudget, pods: &[&Pod], scale: Result<&Scale, &str>, now: Timestamp) -> Plan {
    let (expected, desired) = match counts(budget, pods, scale) {
        Ok(counts) => counts,
        Err(why) => return failed(budget, why, now),
    };
    let disrupted = disrupted(budget, pods, now);
    let healthy = |pod: &&&Pod| {
        !pod.metadata.is_deleting() && !disrupted.waiting.contains_key(&pod.metadata.name) && pod.is_ready()
    };
    let healthy = pods.iter().filter(healthy).count();
    let current = i64::try_from(healthy).unwrap_or(i64::MAX);
    let allowed = if expected <= 0 { 0 } else { (current - desired).max(0) };
    let mut status = BudgetStatus {
        observed_generation: budget.metadata.generation,
        disrupted_pods: disrupted.waiting,
        disruptions_allowed: allowed,
        current_healthy: current,
        desired_healthy: desired,
        expected_pods: expected,
        conditions: budget.status.conditions.clone(),
    };
    let (is_allowed, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    set_condition(&mut status, is_allowed, reason, "", now);
    Plan {
        status,
        not_deleted: disrupted.not_deleted,
        again: disrupted.again,
    }
}

/// How many pods are expected, and how many of them must be healthy.
fn counts(budget: &PodDisruptionBudget, pods: &[&Pod], scale: Result<&Scale, &str>) -> Result<(i64, i64), String> {
    use crate::view::IntOrString::{Int, String};
    let total = || scale.map(|scale| scale.pods).map_err(str::to_owned);
    match (&budget.spec.max_unavailable, &budget.spec.min_available) {
        (Some(unavailable), _) => {
            let expected = total()?;
            Ok((expected, (expected - unavailable.of(expected, true)).max(0)))
        }
        (None, Some(Int(least))) => Ok((i64::try_from(pods.len()).unwrap_or(i64::MAX), *least)),
        (None, Some(share @ String(_))) => {
            let expected = total()?;
            Ok((expected, share.of(expected, true)))
        }
        (None, None) => Ok((0, 0)),
    }
}

/// Nothing may be disrupted while the counts are unknown.
fn failed(budget: &PodDisruptionBudget, why: String, now: Timestamp) -> Plan {
    let mut status = BudgetStatus {
        disruptions_allowed: 0,
        observed_generation: budget.metadata.generation,
        ..budget.status.clone()
    };
    set_condition(&mut status, "False", "SyncFailed", &why, now);
    Plan {
        status,
        not_deleted: Vec::new(),
        again: None,
    }
}

struct Disrupted {
    waiting: BTreeMap<Box<str>, Timestamp>,
    not_deleted: Vec<Box<str>>,
    again: Option<Duration>,
}

/// Sorts the pods that the API server has evicted: those that are about to be deleted, and those that were not.
fn disrupted(budget: &PodDisruptionBudget, pods: &[&Pod], now: Timestamp) -> Disrupted {
    let mut found = Disrupted {
        waiting: BTreeMap::new(),
        not_deleted: Vec::new(),
        again: None,
    };
    for pod in pods.iter().filter(|pod| !pod.metadata.is_deleting()) {
        let name = &pod.metadata.name;
        let Some(since) = budget.status.disrupted_pods.get(name) else {
            continue;
        };
        let left = now.duration_until(since.saturating_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX));
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                found.waiting.insert(name.clone(), *since);
                found.again = Some(found.again.map_or(left, |again| again.min(left)));
            }
            _ => found.not_deleted.push(name.clone()),
        }
    }
    found
}

fn set_condition(status: &mut BudgetStatus, is: &str, reason: &str, message: &str, now: Timestamp) {
    let before = status
        .conditions
        .iter()
        .find(|condition| &*condition.r#type == CONDITION);
    let since = before
        .filter(|before| &*before.status == is)
        .and_then(|before| before.last_transition_time);
    let condition = BudgetCondition {
        r#type: CONDITION.into(),
        status: is.into(),
        observed_generation: status.observed_generation,
        last_transition_time: Some(since.unwrap_or(now)),
        reason: reason.into(),
        message: message.into(),
    };
    status.conditions.retain(|condition| &*condition.r#type != CONDITION);
    status.conditions.push(condition);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let budget = json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status});
        serde_json::from_value(budget).unwrap()
    }

    fn pod(name: &str, ready: &str) -> Pod {
        let pod = json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(pod).unwrap()
    }

    fn planned(spec: Value, status: Value, pods: &[Pod], wanted: i64) -> Plan {
        let scale = Scale {
            pods: wanted,
            unmanaged: Vec::new(),
        };
        plan(
            &budget(spec, status),
            &pods.iter().collect::<Vec<_>>(),
            Ok(&scale),
            now(),
        )
    }

    #[test]
    fn allows_what_the_healthy_pods_can_spare() {
        let three = [pod("a", "True"), pod("b", "True"), pod("c", "False")];
        // spec, wanted by controllers: expected, desired, allowed
        let cases = [
            (json!({"minAvailable": 1}), 5, (3, 1, 1)),
            (json!({"minAvailable": 2}), 5, (3, 2, 0)),
            (json!({"minAvailable": "50%"}), 3, (3, 2, 0)),
            (json!({"minAvailable": "33%"}), 3, (3, 1, 1)),
            (json!({"maxUnavailable": 1}), 3, (3, 2, 0)),
            (json!({"maxUnavailable": 2}), 3, (3, 1, 1)),
            (json!({"maxUnavailable": "50%"}), 3, (3, 1, 1)),
            (json!({"maxUnavailable": 9}), 3, (3, 0, 2)),
            (json!({"maxUnavailable": 1}), 0, (0, 0, 0)),
            (json!({}), 3, (0, 0, 0)),
        ];
        for (spec, wanted, expected) in cases {
            let status = planned(spec.clone(), json!({}), &three, wanted).status;
            let found = (status.expected_pods, status.desired_healthy, status.disruptions_allowed);
            assert_eq!((found, status.current_healthy), (expected, 2), "{spec} of {wanted}");
            assert_eq!(status.observed_generation, 3);
        }
    }

    #[test]
    fn what_was_evicted_is_counted_out_until_it_is_given_up() {
        let pods = [pod("a", "True"), pod("b", "True"), pod("c", "True")];
        let evicted = json!({"disruptedPods": {"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:57:00Z", "gone": NOW}});
        let plan = planned(json!({"minAvailable": 1}), evicted, &pods, 3);
        assert_eq!(plan.status.current_healthy, 2);
        assert_eq!(
            plan.status.disrupted_pods.keys().map(|k| &**k).collect::<Vec<_>>(),
            ["a"]
        );
        assert_eq!(plan.not_deleted, ["b".into()]);
        assert_eq!(plan.again, Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_neither_healthy_nor_waited_for() {
        let mut dying = pod("a", "True");
        dying.metadata.deletion_timestamp = Some(now());
        let evicted = json!({"disruptedPods": {"a": NOW}});
        let plan = planned(json!({"minAvailable": 1}), evicted, &[dying, pod("b", "True")], 2);
        assert_eq!((plan.status.current_healthy, plan.status.disruptions_allowed), (1, 0));
        assert!(plan.status.disrupted_pods.is_empty() && plan.again.is_none());
    }

    #[test]
    fn unknown_counts_allow_nothing_and_say_why() {
        let pods = [pod("a", "True")];
        let refs: Vec<&Pod> = pods.iter().collect();
        let before = json!({"disruptionsAllowed": 1, "currentHealthy": 1});
        let found = plan(
            &budget(json!({"maxUnavailable": 1}), before.clone()),
            &refs,
            Err("why"),
            now(),
        );
        let condition = &found.status.conditions[0];
        assert_eq!(
            (&*condition.status, &*condition.reason, &*condition.message),
            ("False", "SyncFailed", "why")
        );
        assert_eq!((found.status.disruptions_allowed, found.status.current_healthy), (0, 1));
        let counted = plan(&budget(json!({"minAvailable": 0}), before), &refs, Err("why"), now());
        assert_eq!(counted.status.disruptions_allowed, 1, "a number needs no controllers");
    }

    #[test]
    fn planning_on_what_was_planned_changes_nothing() {
        let pods = [pod("a", "True"), pod("b", "True")];
        let first = planned(
            json!({"minAvailable": 1}),
            json!({"disruptedPods": {"a": NOW}}),
            &pods,
            2,
        )
        .status;
        let stored = serde_json::to_value(&first).unwrap();
        let later = now() + SignedDuration::from_secs(5);
        let scale = Scale::default();
        let refs: Vec<&Pod> = pods.iter().collect();
        let again = plan(&budget(json!({"minAvailable": 1}), stored), &refs, Ok(&scale), later).status;
        assert_eq!(again, first);
    }
}
