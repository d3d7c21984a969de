//! CrashLoopBackOff: 10 s doubling to 5 minutes, forgotten by a container that ran for 10 minutes. Pure.
//!
//! Kubernetes documentation, "Pod Lifecycle": restarts after the first are delayed exponentially; upstream's flow-control
//! `Backoff` keyed by container, asked with the time the container ended.

use std::time::Duration;

use jiff::Timestamp;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The state of one container's back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    /// How long the next restart waits after the container's end.
    pub(crate) delay: Duration,
    /// When it was last restarted.
    pub(crate) restarted: Timestamp,
}

/// What to do with a container that ended and is to be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Restart now; the state to keep if it is done.
    Restart(Crash),
    /// Wait, in `CrashLoopBackOff`.
    Wait { until: Timestamp, delay: Duration },
}

/// Decides on a container that ended at `ended`.
pub(crate) fn judge(crash: Option<Crash>, ended: Timestamp, now: Timestamp) -> Verdict {
    let current = crash.filter(|c| between(c.restarted, ended) <= FORGOTTEN_AFTER);
    let Some(Crash { delay, .. }) = current else {
        return Verdict::Restart(Crash {
            delay: FIRST,
            restarted: now,
        });
    };
    let until = ended.saturating_add(delay).unwrap_or(Timestamp::MAX);
    if until > now {
        return Verdict::Wait { until, delay };
    }
    Verdict::Restart(Crash {
        delay: delay.saturating_mul(2).min(LONGEST),
        restarted: now,
    })
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn restarts_at_once_then_doubles_to_five_minutes() {
        let (mut crash, mut now, mut waits) = (None, 1_000, Vec::new());
        for _ in 0..8 {
            match judge(crash, at(now), at(now)) {
                Verdict::Restart(next) => {
                    waits.push(0);
                    crash = Some(next);
                }
                Verdict::Wait { until, delay } => {
                    waits.push(delay.as_secs());
                    let ended = now;
                    now = until.as_second();
                    let Verdict::Restart(next) = judge(crash, at(ended), at(now)) else {
                        panic!("time is up")
                    };
                    crash = Some(next);
                }
            }
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_container_that_ran_ten_minutes_starts_afresh() {
        let crash = Crash {
            delay: Duration::from_secs(160),
            restarted: at(1_000),
        };
        assert!(matches!(judge(Some(crash), at(1_600), at(1_600)), Verdict::Wait { .. }));
        let fresh = Verdict::Restart(Crash {
            delay: FIRST,
            restarted: at(1_601),
        });
        assert_eq!(judge(Some(crash), at(1_601), at(1_601)), fresh);
    }
}
