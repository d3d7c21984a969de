//! Runs the probes of a pod's running containers and takes their verdicts into the worker's memory.

use std::sync::Arc;

use cri::ContainerId;
use futures::{FutureExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;

use super::Done;
use crate::{
    events::PodEvents,
    observed::{self, Observed},
    plan::{Input, Memory, Plan, Unhealthy},
    pod::{Container, Pod, Probe, Role},
    probes::{self, Kind, Outcome, Prober, Target, Verdict},
    shared::Shared,
    status,
};

/// The probes of one pod.
pub(super) struct Probes {
    /// Containers that already ran when the worker began.
    adopted: Vec<ContainerId>,
    active: Vec<Active>,
}

struct Active {
    name: String,
    id: ContainerId,
    prober: Prober,
    busy: bool,
}

/// A probe that has run.
pub(super) struct Run {
    id: ContainerId,
    kind: Kind,
    outcome: Outcome,
}

const KINDS: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

fn probe_of(container: &Container, kind: Kind) -> Option<&Probe> {
    match kind {
        Kind::Startup => container.startup_probe.as_deref(),
        Kind::Liveness => container.liveness_probe.as_deref(),
        Kind::Readiness => container.readiness_probe.as_deref(),
    }
}

impl Probes {
    pub(super) fn new(observed: &Observed) -> Self {
        let running = observed.containers.iter().filter(|c| c.is_running());
        Self {
            adopted: running.map(|c| c.id.clone()).collect(),
            active: Vec::new(),
        }
    }

    /// Follows the running containers and sets off every probe that is due. While a pod ends only readiness is probed.
    pub(super) fn follow(
        &mut self,
        input: &Input<'_>,
        plan: &mut Plan,
        tasks: &FuturesUnordered<BoxFuture<'static, Done>>,
        runtime: &Arc<dyn cri::Runtime>,
        now: Timestamp,
    ) {
        let observed = input.observed;
        self.active
            .retain(|a| observed.containers.iter().any(|c| c.id == a.id && c.is_running()));
        let long_running = input.pod.lasting_containers().filter(|(role, _)| *role != Role::Init);
        for (_, container) in long_running {
            let Some(running) = observed.latest(&container.name).filter(|c| c.is_running()) else {
                continue;
            };
            let started = status::is_started(input, container, running);
            for kind in KINDS.into_iter().filter(|kind| (*kind == Kind::Startup) != started) {
                if plan.ending && kind != Kind::Readiness {
                    continue;
                }
                let Some(probe) = probe_of(container, kind) else {
                    continue;
                };
                let active = self.active(running, kind, probe, now);
                let Some(due) = active.prober.due().filter(|_| !active.busy) else {
                    continue;
                };
                if due > now {
                    plan.wake_at(due, now);
                } else {
                    active.busy = true;
                    tasks.push(once(input, container.clone(), active, runtime.clone()));
                }
            }
        }
    }

    fn active(&mut self, running: &observed::Container, kind: Kind, probe: &Probe, now: Timestamp) -> &mut Active {
        let at = self
            .active
            .iter()
            .position(|a| a.id == running.id && a.prober.kind() == kind);
        let at = at.unwrap_or_else(|| {
            let jitter = self.adopted.contains(&running.id).then(rand::random::<f64>);
            let prober = Prober::new(kind, probe, running.started_at.unwrap_or(now), now, jitter);
            self.active.push(Active {
                name: running.name.clone(),
                id: running.id.clone(),
                prober,
                busy: false,
            });
            self.active.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.active[at]
    }

    /// Takes the result of a run; one of a container that is no longer there is dropped.
    pub(super) fn settle(&mut self, run: Run, memory: &mut Memory, pod: &Pod, shared: &Shared, now: Timestamp) {
        let Some(active) = self
            .active
            .iter_mut()
            .find(|a| a.id == run.id && a.prober.kind() == run.kind)
        else {
            return;
        };
        active.busy = false;
        shared.probes.add(pod, &active.name, run.kind, &run.outcome);
        let (name, title) = (&active.name, run.kind.title());
        let error = match &run.outcome {
            Outcome::Error(why) => Some(why.clone()),
            _ => None,
        };
        let result = active.prober.record(run.outcome, now);
        if let Some(why) = error {
            let events = PodEvents {
                recorder: &shared.recorder,
                pod,
            };
            let note = format!("{title} probe errored and resulted in unknown state: {why}");
            events.warning(Some(name), "Unhealthy", note);
        }
        if let Some(why) = result.failure {
            let events = PodEvents {
                recorder: &shared.recorder,
                pod,
            };
            events.warning(Some(name), "Unhealthy", format!("{title} probe failed: {why}"));
        }
        let health = memory.health_mut(name, &run.id);
        match (run.kind, result.verdict) {
            (_, Verdict::Unchanged) | (Kind::Liveness, Verdict::Passed) => {}
            (Kind::Readiness, verdict) => health.ready = Some(verdict == Verdict::Passed),
            (Kind::Startup, Verdict::Passed) => health.started = Some(true),
            (Kind::Startup | Kind::Liveness, Verdict::Failed) => {
                let probe = pod.container(name).and_then(|(_, c)| probe_of(c, run.kind));
                health.unhealthy = Some(Unhealthy {
                    message: format!("Container {name} failed {} probe, will be restarted", run.kind.word()),
                    grace: probe.and_then(|p| p.termination_grace_period_seconds),
                });
            }
        }
    }
}

fn once(
    input: &Input<'_>,
    container: Container,
    active: &Active,
    runtime: Arc<dyn cri::Runtime>,
) -> BoxFuture<'static, Done> {
    let of_node = input
        .pod
        .spec
        .host_network
        .then(|| input.node.host_ips.first().copied());
    let ip = of_node.unwrap_or_else(|| input.observed.latest_sandbox().and_then(|s| s.ips.first().copied()));
    let (id, kind) = (active.id.clone(), active.prober.kind());
    let target = Target {
        runtime,
        id: id.clone(),
        ip,
    };
    async move {
        let outcome = match probe_of(&container, kind) {
            Some(probe) => probes::run(probe, &container, &target).await,
            None => Outcome::Success,
        };
        Done::Probe(Run { id, kind, outcome })
    }
    .boxed()
}
