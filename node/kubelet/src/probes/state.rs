//! When a probe runs and what its results add up to. Pure.
//!
//! The rules are the kubelet's: a result counts when it repeats as often as its threshold says; a liveness or startup
//! probe that fails for good ends the container. One liberty that Kubernetes documents (a container that is not ready
//! may be probed at other times than `periodSeconds`): right after the initial delay, readiness and startup probes run
//! in quick succession for a second, and failures among these extra runs do not count. So a container that serves
//! within milliseconds is ready within milliseconds.

use jiff::{SignedDuration, Timestamp};

use super::Outcome;
use crate::pod::Probe;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As events begin: `Readiness probe failed: …`.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// As `Container x failed liveness probe, will be restarted` spells it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// What a result means for the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing changes.
    Unchanged,
    Passed,
    Failed,
}

/// What to tell and to do after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Result {
    pub(crate) verdict: Verdict,
    /// The reason of a failure that counts.
    pub(crate) failure: Option<String>,
}

/// How long extra runs go on, and the first pause between them, which doubles.
const EAGER: SignedDuration = SignedDuration::from_secs(1);
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(1);

/// The state of one probe of one container.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    kind: Kind,
    period: SignedDuration,
    success_threshold: u32,
    failure_threshold: u32,
    /// Start of the regular rhythm: when the container started, plus the initial delay.
    begins: Timestamp,
    eager: bool,
    pause: SignedDuration,
    next: Timestamp,
    /// The last result and how often in a row it came.
    last: Option<(bool, u32)>,
    over: bool,
}

impl Prober {
    /// A probe of a container that started at `started`. `jitter` below one delays the first run by that part of a
    /// period, for a container that was already running when the agent came: else all probes of a node would run at once.
    pub(crate) fn new(kind: Kind, probe: &Probe, started: Timestamp, now: Timestamp, jitter: Option<f64>) -> Self {
        let or = |value: i64, default: i64| if value > 0 { value } else { default };
        let period = SignedDuration::from_secs(or(probe.period_seconds, 10));
        let delay = SignedDuration::from_secs(probe.initial_delay_seconds.max(0));
        let begins = started.saturating_add(delay).unwrap_or(Timestamp::MAX);
        let adopted = jitter.map(|part| now.saturating_add(period.mul_f64(part)).unwrap_or(now));
        Self {
            kind,
            period,
            success_threshold: probe.success_threshold.max(1),
            failure_threshold: if probe.failure_threshold == 0 {
                3
            } else {
                probe.failure_threshold
            },
            begins,
            // A command costs a process, so it keeps to its rhythm.
            eager: kind != Kind::Liveness && adopted.is_none() && probe.handler.exec.is_none(),
            pause: FIRST_PAUSE,
            next: adopted.unwrap_or(begins).max(begins),
            last: None,
            over: false,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// When it is to run next; `None`: never again.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        (!self.over).then_some(self.next)
    }

    /// Takes the result of a run that ended at `now`.
    pub(crate) fn record(&mut self, outcome: Outcome, now: Timestamp) -> Result {
        let extra = self.eager && now.duration_since(self.begins) < EAGER;
        match outcome {
            Outcome::Failure(_) if extra => {
                self.next = now.saturating_add(self.pause).unwrap_or(Timestamp::MAX);
                self.pause *= 2;
                Result {
                    verdict: Verdict::Unchanged,
                    failure: None,
                }
            }
            Outcome::Error(_) => {
                self.eager = false;
                self.rest(now);
                Result {
                    verdict: Verdict::Unchanged,
                    failure: None,
                }
            }
            Outcome::Failure(why) => {
                self.eager = false;
                self.rest(now);
                Result {
                    verdict: self.count(false),
                    failure: Some(why),
                }
            }
            Outcome::Success => {
                let verdict = self.count(true);
                self.eager &= verdict == Verdict::Unchanged;
                if self.eager {
                    self.next = now.saturating_add(self.pause).unwrap_or(Timestamp::MAX);
                } else {
                    self.rest(now);
                }
                Result { verdict, failure: None }
            }
        }
    }

    /// The next run, on the regular rhythm.
    fn rest(&mut self, now: Timestamp) {
        self.next = now.saturating_add(self.period).unwrap_or(Timestamp::MAX);
    }

    fn count(&mut self, success: bool) -> Verdict {
        let run = match self.last {
            Some((last, run)) if last == success => run.saturating_add(1),
            _ => 1,
        };
        self.last = Some((success, run));
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if run < threshold {
            return Verdict::Unchanged;
        }
        // A startup probe has said all once it passed; after a fatal failure the container goes.
        self.over = match self.kind {
            Kind::Startup => true,
            Kind::Liveness => !success,
            Kind::Readiness => false,
        };
        if success { Verdict::Passed } else { Verdict::Failed }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(milli: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000 + milli).expect("in range")
    }

    fn prober(kind: Kind, spec: serde_json::Value) -> Prober {
        let probe: Probe = serde_json::from_value(spec).expect("probe");
        Prober::new(kind, &probe, at(0), at(0), None)
    }

    fn failure() -> Outcome {
        Outcome::Failure("no".into())
    }

    /// Runs a probe on its own schedule; the verdicts that are not `Unchanged`, with their times in ms.
    fn simulate(prober: &mut Prober, until: i64, outcome: impl Fn(i64) -> bool) -> Vec<(i64, Verdict)> {
        let mut out = Vec::new();
        while let Some(due) = prober.due() {
            let now = due.as_millisecond() - at(0).as_millisecond();
            if now > until {
                break;
            }
            let result = if outcome(now) { Outcome::Success } else { failure() };
            let verdict = prober.record(result, due).verdict;
            if verdict != Verdict::Unchanged {
                out.push((now, verdict));
            }
        }
        out
    }

    #[test]
    fn a_container_that_serves_at_once_is_ready_at_once() {
        let mut fast = prober(Kind::Readiness, json!({"periodSeconds": 10}));
        assert_eq!(fast.due(), Some(at(0)));
        assert_eq!(
            simulate(&mut fast, 50, |now| now >= 10).first(),
            Some(&(15, Verdict::Passed))
        );
        assert_eq!(fast.due(), Some(at(10_015)));
    }

    #[test]
    fn extra_runs_that_fail_do_not_count() {
        let mut slow = prober(Kind::Readiness, json!({"periodSeconds": 2, "failureThreshold": 1}));
        let verdicts = simulate(&mut slow, 5_500, |_| false);
        assert_eq!(verdicts.first(), Some(&(1_023, Verdict::Failed)));
        assert_eq!(
            verdicts.iter().map(|(t, _)| *t).collect::<Vec<_>>(),
            [1_023, 3_023, 5_023]
        );
    }

    #[test]
    fn liveness_keeps_its_rhythm_and_fails_at_its_threshold() {
        let mut live = prober(
            Kind::Liveness,
            json!({"initialDelaySeconds": 3, "periodSeconds": 5, "failureThreshold": 3}),
        );
        assert_eq!(live.due(), Some(at(3_000)));
        let verdicts = simulate(&mut live, 60_000, |now| now < 10_000);
        let want = [
            (3_000, Verdict::Passed),
            (8_000, Verdict::Passed),
            (23_000, Verdict::Failed),
        ];
        assert_eq!(verdicts, want);
        assert_eq!(live.due(), None, "the container goes");
    }

    #[test]
    fn a_probe_that_could_not_run_says_nothing() {
        let mut live = prober(Kind::Liveness, json!({"periodSeconds": 1, "failureThreshold": 2}));
        assert_eq!(live.record(failure(), at(0)).verdict, Verdict::Unchanged);
        let unknown = live.record(Outcome::Error("away".into()), at(1_000));
        assert_eq!((unknown.verdict, unknown.failure), (Verdict::Unchanged, None));
        assert_eq!(live.record(failure(), at(2_000)).verdict, Verdict::Failed);
    }

    #[test]
    fn commands_are_not_run_in_haste() {
        let mut ready = prober(
            Kind::Readiness,
            json!({"exec": {"command": ["x"]}, "periodSeconds": 10}),
        );
        assert_eq!(ready.record(failure(), at(0)).failure.as_deref(), Some("no"));
        assert_eq!(ready.due(), Some(at(10_000)));
    }

    #[test]
    fn one_success_clears_the_failures_before_it() {
        let mut live = prober(Kind::Liveness, json!({"periodSeconds": 1, "failureThreshold": 3}));
        let verdicts = simulate(&mut live, 30_000, |now| now % 3_000 == 0);
        assert!(verdicts.iter().all(|(_, v)| *v == Verdict::Passed));
    }

    #[test]
    fn readiness_waits_for_its_success_threshold() {
        let mut ready = prober(Kind::Readiness, json!({"periodSeconds": 1, "successThreshold": 3}));
        let verdicts = simulate(&mut ready, 100, |_| true);
        assert_eq!(verdicts.first(), Some(&(2, Verdict::Passed)));
    }

    #[test]
    fn a_startup_probe_ends_with_its_verdict() {
        let mut start = prober(Kind::Startup, json!({"periodSeconds": 1, "failureThreshold": 2}));
        assert_eq!(simulate(&mut start, 60_000, |_| false).len(), 1);
        assert_eq!(start.due(), None);
        let mut start = prober(Kind::Startup, json!({"periodSeconds": 1}));
        assert_eq!(simulate(&mut start, 60_000, |_| true), [(0, Verdict::Passed)]);
    }

    #[test]
    fn an_adopted_container_is_probed_within_a_period_without_hurry() {
        let probe: Probe = serde_json::from_value(json!({"periodSeconds": 10})).expect("probe");
        let mut adopted = Prober::new(Kind::Readiness, &probe, at(-60_000), at(0), Some(0.25));
        assert_eq!(adopted.due(), Some(at(2_500)));
        assert_eq!(adopted.record(failure(), at(2_500)).failure.as_deref(), Some("no"));
    }
}
