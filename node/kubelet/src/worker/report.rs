//! When a status goes to the API. Pure.
//!
//! At once, with two exceptions, both held back for a moment only: while a pod is starting for the first time and all
//! goes well, so that a pod that is ready within milliseconds costs one write instead of three; and when a deleted pod's
//! containers have ended but its sandbox has not, so that its end costs one write instead of two.

use jiff::{SignedDuration, Timestamp};

use crate::status::{Condition, Phase, PodStatus};

/// How long the first report of a starting pod waits for the pod to become ready.
const STARTING: SignedDuration = SignedDuration::from_millis(100);

/// How long the report of a deleted pod's ended containers waits for its sandbox to end.
const ENDING: SignedDuration = SignedDuration::from_secs(2);

/// When to report `status` of a pod that is being deleted; a time at or before `now` means now.
pub(super) fn due_of_deleted(status: &PodStatus, now: Timestamp) -> Timestamp {
    let sandbox = status
        .condition("PodReadyToStartContainers")
        .is_some_and(|c| c.status == "True");
    let ended = status
        .all_containers()
        .filter_map(|c| c.state.terminated.as_ref()?.finished_at)
        .max();
    match ended {
        Some(ended) if sandbox && status.phase.is_terminal() => ended.saturating_add(ENDING).unwrap_or(now),
        _ => now,
    }
}

/// When to report `status`; a time at or before `now` means now.
pub(super) fn due(reported: &PodStatus, status: &PodStatus, begun: Timestamp, now: Timestamp) -> Timestamp {
    let starting = reported.start_time.is_none()
        && !status.is_ready()
        && matches!(status.phase, Phase::Pending | Phase::Running)
        && !status.all_containers().any(|c| is_trouble(&c.state));
    if starting {
        begun.saturating_add(STARTING).unwrap_or(now)
    } else {
        now
    }
}

/// Whether the API holds another status of a condition than was sent. Reports name only what has changed, so one that
/// somebody else wrote meanwhile stands beside ours in the answer, and nothing further would tell of it.
pub(super) fn is_contradicted(sent: &PodStatus, stored: &PodStatus) -> bool {
    let other = |ours: &Condition| stored.condition(&ours.kind).is_none_or(|c| c.status != ours.status);
    sent.conditions.iter().any(other)
}

/// A container that waits for more than its turn, or has ended.
fn is_trouble(state: &crate::status::State) -> bool {
    let waiting = state.waiting.as_ref().map(|w| &*w.reason);
    !matches!(waiting, None | Some("ContainerCreating" | "PodInitializing"))
        || state.terminated.as_ref().is_some_and(|t| t.exit_code != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ContainerStatus, State};

    fn at(milli: i64) -> Timestamp {
        Timestamp::from_millisecond(milli).expect("in range")
    }

    #[test]
    fn the_end_of_a_deleted_pod_waits_for_its_sandbox_but_not_for_long() {
        let ended = crate::status::Terminated {
            finished_at: Some(at(5000)),
            ..Default::default()
        };
        let mut pod = status(State::terminated(ended), "False");
        pod.phase = Phase::Failed;
        let sandbox = |status: &str| Condition {
            kind: "PodReadyToStartContainers".into(),
            status: status.into(),
            ..Condition::default()
        };
        pod.conditions.push(sandbox("True"));
        assert_eq!(due_of_deleted(&pod, at(5001)), at(7000));
        pod.conditions.pop();
        pod.conditions.push(sandbox("False"));
        assert_eq!(due_of_deleted(&pod, at(5001)), at(5001));
    }

    fn status(state: State, ready: &str) -> PodStatus {
        PodStatus {
            phase: Phase::Running,
            container_statuses: vec![ContainerStatus {
                state,
                ..ContainerStatus::default()
            }],
            conditions: vec![Condition {
                kind: "Ready".into(),
                status: ready.into(),
                ..Condition::default()
            }],
            ..PodStatus::default()
        }
    }

    #[test]
    fn a_condition_that_another_wrote_contradicts_ours() {
        let (ready, not_ready) = (
            status(State::running(None), "True"),
            status(State::running(None), "False"),
        );
        assert!(!is_contradicted(&ready, &ready));
        assert!(is_contradicted(&ready, &not_ready));
        assert!(is_contradicted(&ready, &PodStatus::default()));
        assert!(!is_contradicted(&PodStatus::default(), &ready), "it is nothing of ours");
    }

    #[test]
    fn only_a_pod_that_is_starting_well_is_held_back() {
        let fresh = PodStatus::default();
        let known = PodStatus {
            start_time: Some(at(0)),
            ..PodStatus::default()
        };
        let cases = [
            (&fresh, status(State::running(None), "False"), 100),
            (&fresh, status(State::waiting("ContainerCreating", ""), "False"), 100),
            (&fresh, status(State::running(None), "True"), 7),
            (&fresh, status(State::waiting("ErrImagePull", "no"), "False"), 7),
            (&known, status(State::running(None), "False"), 7),
        ];
        for (reported, status, want) in cases {
            assert_eq!(due(reported, &status, at(0), at(7)), at(want), "{status:?}");
        }
    }
}
