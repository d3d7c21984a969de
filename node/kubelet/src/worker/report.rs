//! When a status goes to the API. Pure.
//!
//! At once, with one exception: while a pod is starting for the first time and all goes well, what changes is held back
//! for a moment, so that a pod that is ready within milliseconds costs one write instead of three.

use jiff::{SignedDuration, Timestamp};

use crate::status::{Phase, PodStatus};

/// How long the first report of a starting pod waits for the pod to become ready.
const STARTING: SignedDuration = SignedDuration::from_millis(100);

/// When to report `status`; a time at or before `now` means now.
pub(super) fn due(reported: &PodStatus, status: &PodStatus, begun: Timestamp, now: Timestamp) -> Timestamp {
    let starting = reported.start_time.is_none()
        && !status.is_ready()
        && matches!(status.phase, Phase::Pending | Phase::Running)
        && !status.all_containers().any(|c| is_trouble(&c.state));
    if starting { begun.saturating_add(STARTING).unwrap_or(now) } else { now }
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
    use crate::status::{Condition, ContainerStatus, State};

    fn at(milli: i64) -> Timestamp {
        Timestamp::from_millisecond(milli).expect("in range")
    }

    fn status(state: State, ready: &str) -> PodStatus {
        PodStatus {
            phase: Phase::Running,
            container_statuses: vec![ContainerStatus { state, ..ContainerStatus::default() }],
            conditions: vec![Condition { kind: "Ready".into(), status: ready.into(), ..Condition::default() }],
            ..PodStatus::default()
        }
    }

    #[test]
    fn only_a_pod_that_is_starting_well_is_held_back() {
        let fresh = PodStatus::default();
        let known = PodStatus { start_time: Some(at(0)), ..PodStatus::default() };
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
