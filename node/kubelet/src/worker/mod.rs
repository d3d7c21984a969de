//! One task per pod: plan, act, report, probe; wait for anything to change; again.
//!
//! The worker holds what the plan reads and carries out what it says; it takes no decision of its own. It is woken by
//! its pod's object, the runtime, the node's network, the objects its pod names, the end of an action or probe, and the
//! time the plan asked for, and treats them all alike. Everything runs inside this one task, so a pod costs one task when
//! idle.

mod actions;
mod credentials;
mod failed;
mod hooks;
mod image;
mod probing;
mod progress;
mod report;
mod start;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use self::{
    actions::{Context, Effect},
    failed::Failed,
    probing::Probes,
    start::Start,
};
use crate::{
    env, events, lastwords, make,
    objects::{Held, Id},
    observed::{self, Observed},
    plan::{Action, Input, Key, Memory, Plan, Resolved, Volumes, plan},
    pod::{MessagePolicy, Pod},
    resize,
    resources::Capacity,
    shared::Shared,
    status::{self, Phase, PodStatus},
    volumes::{self, Claimed, Tokens},
};

/// How often drivers that want it are told of a volume that stands.
const REPUBLISH: SignedDuration = SignedDuration::from_mins(1);

/// What the pod set wants of a worker.
#[derive(Clone)]
pub(crate) enum Desired {
    Pod(Arc<Pod>),
    /// The object is gone: end the pod and clean up.
    Removed,
}

enum Done {
    Action(Key, Box<Result<Effect, Failed>>),
    Probe(probing::Run),
}

/// The worker of one pod.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    observed: Arc<Observed>,
    memory: Memory,
    reported: Reported,
    last_status: Arc<PodStatus>,
    held: Vec<(Id, Held)>,
    tokens: Tokens,
    claims: Arc<BTreeMap<String, Claimed>>,
    probes: Probes,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    ending: CancellationToken,
    inbox: watch::Receiver<Desired>,
    wake: Arc<Notify>,
}

/// What the API is known to hold: our last write until the pod we see is as new, then what that says.
#[derive(Default)]
struct Reported {
    sent: Arc<PodStatus>,
    stored: Arc<PodStatus>,
    version: String,
}

impl Reported {
    /// Takes in what the API holds. One copy, where it is what was told last.
    fn take(&mut self, stored: &PodStatus, told: &Arc<PodStatus>) {
        if *stored != *self.stored {
            self.stored = Arc::new(stored.clone());
            self.sent = self.stored.clone();
        }
        for status in [&mut self.stored, &mut self.sent] {
            if !Arc::ptr_eq(status, told) && **status == **told {
                *status = told.clone();
            }
        }
    }
}

impl Worker {
    /// A worker for the pod in `inbox`; `wake` makes it look again.
    pub(crate) fn new(shared: Arc<Shared>, pod: Arc<Pod>, inbox: watch::Receiver<Desired>, wake: Arc<Notify>) -> Self {
        let held = needs(&pod)
            .into_iter()
            .map(|id| (id.clone(), Held::new(&shared.informers, &id)))
            .collect();
        let observed = shared.observer.pod(&pod.metadata.uid);
        let memory = Memory {
            first_seen: shared.clock.now(),
            ..Memory::default()
        };
        let status = Arc::new(pod.status.clone());
        Self {
            last_status: status.clone(),
            reported: Reported {
                sent: status.clone(),
                stored: status,
                version: String::new(),
            },
            probes: Probes::new(&observed),
            shared,
            pod,
            observed,
            memory,
            held,
            tokens: Tokens::default(),
            claims: Arc::default(),
            tasks: FuturesUnordered::new(),
            ending: CancellationToken::new(),
            inbox,
            wake,
        }
    }

    /// Works until nothing is left to do for the pod, or `shutdown`, which leaves the pod as it is.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let watched = self
            .held
            .iter()
            .map(|(_, held)| WatchStream::from_changes(held.version()));
        let mut changes = futures::stream::select_all(watched.collect::<Vec<_>>());
        let mut network = self.shared.network.clone();
        loop {
            self.absorb();
            self.hear_last_words().await;
            // Nothing else of the plan is kept while the worker waits.
            let Plan { done, wake, .. } = self.step();
            if done {
                let now = tokio::time::Instant::now();
                return self.shared.warm.keep(self.held, now);
            }
            let pause = wake.map(|at| until(at, self.shared.clock.now()));
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(done) = self.tasks.next() => self.settle(done),
                () = self.wake.notified() => {}
                Ok(()) = self.inbox.changed() => {}
                Ok(()) = network.changed() => {}
                Some(_version) = changes.next() => self.objects_changed(),
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            while let Some(Some(done)) = self.tasks.next().now_or_never() {
                self.settle(done);
            }
        }
    }

    /// Takes in the newest desired and observed state.
    fn absorb(&mut self) {
        match &*self.inbox.borrow_and_update() {
            Desired::Pod(pod) => {
                // Only ephemeral containers come later, and with them what they name.
                let grown = pod.spec.ephemeral_containers.len() > self.pod.spec.ephemeral_containers.len();
                self.pod = pod.clone();
                if grown {
                    let more = needs(&self.pod).into_iter();
                    let more = more.filter(|id| !self.held.iter().any(|(held, _)| held == id));
                    let informers = &self.shared.informers;
                    let more: Vec<_> = more.map(|id| (id.clone(), Held::new(informers, &id))).collect();
                    self.held.extend(more);
                }
            }
            Desired::Removed => self.memory.removed = true,
        }
        self.observed = self.shared.observer.pod(&self.pod.metadata.uid);
        self.allocate();
        self.memory.evicted = self.shared.evictions.of(&self.pod.metadata.uid);
        self.memory.pressures = self.shared.strain.pressures(self.shared.clock.now());
        if self.pod.is_as_new_as(&self.reported.version) {
            self.reported.take(&self.pod.status, &self.last_status);
        }
    }

    /// Sees to it that the pod is what it is allocated, where its spec asks for something else than before.
    fn allocate(&mut self) {
        let wanted = resize::is_wanted(&self.pod, &self.reported.sent);
        if !wanted || self.memory.removed || self.pod.is_deleting() {
            self.memory.resize_pending = None;
            return;
        }
        let mut used = Capacity::default();
        for (_, other) in self.shared.pods.list() {
            if other.metadata.uid != self.pod.metadata.uid && !other.status.phase.is_terminal() {
                let requested = resize::requested(&other);
                used.cpu_milli = used.cpu_milli.saturating_add(requested.cpu_milli);
                used.memory_bytes = used.memory_bytes.saturating_add(requested.memory_bytes);
            }
        }
        let (allocated, pending) = resize::allocate(&self.pod, &self.reported.sent, self.shared.capacity, used);
        self.pod = Arc::new(allocated);
        self.memory.resize_pending = pending;
    }

    /// Reads what containers that have ended left to be told, before it is planned what to tell of them.
    async fn hear_last_words(&mut self) {
        let observed = &self.observed;
        let words = &mut self.memory.last_words;
        words.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
        let ended = observed.containers.iter().filter(|c| c.has_ended());
        let unheard: Vec<_> = ended.filter(|c| !words.contains_key(&c.id)).cloned().collect();
        if unheard.is_empty() {
            return;
        }
        let (pod, data_dir) = (self.pod.clone(), self.shared.data_dir.clone());
        let heard = crate::blocking::run(move || {
            let heard = unheard.into_iter().map(|ended| {
                let words = last_words(&pod, &data_dir, &ended);
                (ended.id, words)
            });
            heard.collect::<Vec<_>>()
        });
        self.memory.last_words.extend(heard.await.unwrap_or_default());
    }

    /// Plans once and sets everything off that the plan asks for.
    fn step(&mut self) -> Plan {
        let now = self.shared.clock.now();
        let input = Input {
            pod: &self.pod,
            observed: &self.observed,
            memory: &self.memory,
            reported: &self.reported.sent,
            node: &self.shared.node,
            network: *self.shared.network.borrow(),
            now,
        };
        let mut plan = plan(&input);
        self.probes
            .follow(&input, &mut plan, &self.tasks, &self.shared.runtime, now);
        self.tell(&plan.status);
        if plan.ending && self.memory.ending_since.is_none() {
            self.memory.ending_since = Some(now);
            self.ending.cancel();
        }
        for action in std::mem::take(&mut plan.actions) {
            self.begin(action, now);
        }
        self.report(&mut plan, now);
        plan
    }

    /// Events that a change of status calls for.
    fn tell(&mut self, status: &PodStatus) {
        if *status == *self.last_status {
            return;
        }
        let events = events::PodEvents {
            recorder: &self.shared.recorder,
            pod: &self.pod,
        };
        if status.phase == Phase::Failed && self.last_status.phase != Phase::Failed && !status.reason.is_empty() {
            events.warning(None, &status.reason, status.message.clone());
        }
        for (container, (type_, reason, note)) in events::of_change(&self.pod, &self.last_status, status) {
            events.record(Some(&container), type_, reason, note);
        }
        self.last_status = Arc::new(status.clone());
    }

    fn report(&mut self, plan: &mut Plan, now: Timestamp) {
        if self.memory.removed || self.memory.finished || self.memory.ops.is_busy(&Key::Report) {
            return;
        }
        let sent = &self.reported.sent;
        let Some(patch) = status::patch(&self.pod.metadata.uid, sent, &plan.status) else {
            return;
        };
        let retry = self.memory.ops.failure(&Key::Report).map(|f| f.until);
        let due = retry.unwrap_or_else(|| match self.pod.is_deleting() {
            true => report::due_of_deleted(&plan.status, now),
            false => report::due(sent, &plan.status, self.memory.first_seen, now),
        });
        if due > now {
            plan.wake_at(due, now);
            return;
        }
        let future = self.context().report(patch, self.last_status.clone());
        self.spawn(Key::Report, future);
    }

    fn context(&self) -> Context {
        let facts = actions::facts(&self.shared, &self.pod, &self.observed);
        Context {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            facts,
            ending: self.ending.clone(),
        }
    }

    fn spawn(&mut self, key: Key, future: impl Future<Output = Result<Effect, Failed>> + Send + 'static) {
        self.memory.ops.begin(key.clone());
        self.tasks
            .push(async move { Done::Action(key, Box::new(future.await)) }.boxed());
    }

    fn begin(&mut self, action: Action, now: Timestamp) {
        tracing::debug!(pod = %self.pod.key(), ?action, "acting");
        let (key, context) = (action.key(), self.context());
        match action {
            Action::MountVolumes => {
                if self.memory.volumes == Volumes::Stale {
                    self.memory.volumes = Volumes::Ready;
                }
                let needed = volumes::needs(&self.pod);
                let held = self
                    .held
                    .iter()
                    .filter(|(id, _)| needed.contains(id))
                    .cloned()
                    .collect();
                self.spawn(key, context.mount(held, self.tokens.clone(), self.claims.clone()));
            }
            Action::UnmountVolumes => self.spawn(key, context.unmount()),
            Action::Pull { name } => self.spawn(key, context.pull(name)),
            Action::RunSandbox { attempt, content } => self.spawn(key, context.run_sandbox(attempt, content)),
            Action::Start {
                name,
                attempt,
                sandbox,
                crash,
            } => {
                if crash.is_some() {
                    self.memory.containers.entry(name.clone()).or_default().crash = crash;
                }
                let resolved = self.memory.images.get_mut(&name);
                let start = Start {
                    image: resolved.and_then(|resolved| resolved.image.take()),
                    claims: self.claims.clone(),
                    target: self.target(&name),
                    shared: context.shared,
                    pod: context.pod,
                    name,
                    attempt,
                    sandbox,
                    facts: context.facts,
                    held: self.held.clone(),
                    ending: context.ending,
                };
                self.spawn(key, start.run().map(|done| done.map(|()| Effect::None)));
            }
            Action::Stop {
                name, id, grace, why, ..
            } => {
                let until = now
                    .saturating_add(SignedDuration::from_secs(grace))
                    .unwrap_or(Timestamp::MAX);
                self.memory.health_mut(&name, &id).stopping_until = Some(until);
                self.spawn(key, context.stop(name, id, grace, why));
            }
            Action::Resize { name, id, limits } => self.spawn(key, context.resize(name, id, limits)),
            Action::StopSandbox { id } => self.spawn(key, context.stop_sandbox(id)),
            Action::RemoveContainer { id, name, attempt } => {
                self.spawn(key, context.remove_container(id, name, attempt))
            }
            Action::RemoveSandbox { id } => self.spawn(key, context.remove_sandbox(id)),
            Action::Finish => self.spawn(key, context.finish()),
            Action::Purge => self.spawn(key, context.purge()),
        }
    }

    /// The running container that an ephemeral one joins.
    fn target(&self, name: &str) -> Option<cri::ContainerId> {
        let (_, spec) = self.pod.container(name)?;
        let target = self.observed.latest(&spec.target_container_name)?;
        target.is_running().then(|| target.id.clone())
    }

    /// Takes the end of an action or probe into memory.
    fn settle(&mut self, done: Done) {
        let now = self.shared.clock.now();
        let (key, result) = match done {
            Done::Action(key, result) => (key, *result),
            Done::Probe(run) => return self.probes.settle(run, &mut self.memory, &self.pod, &self.shared, now),
        };
        match result {
            Ok(effect) => {
                self.memory.ops.succeeded(&key);
                self.apply(effect);
            }
            Err(Failed { reason, message }) => {
                tracing::debug!(pod = %self.pod.key(), ?key, ?reason, message, "action failed");
                if let Key::Stop(id, _) = &key {
                    let health = self.memory.containers.values_mut().find(|h| h.id.as_ref() == Some(id));
                    health.into_iter().for_each(|h| h.stopping_until = None);
                }
                self.memory.ops.failed(&key, reason, message, now);
            }
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Pulled { name, image } => {
                let content = image.content;
                let image = Some(image);
                self.memory.images.insert(name, Resolved { content, image });
            }
            Effect::Mounted { tokens, claims } => {
                let again = claims.values().any(|claim| claim.again || claim.expands).then(|| {
                    let now = self.shared.clock.now();
                    now.saturating_add(REPUBLISH).unwrap_or(now)
                });
                self.memory.renew_at = tokens.renew_at().into_iter().chain(again).min();
                self.tokens = tokens;
                self.claims = Arc::new(claims);
                if self.memory.volumes == Volumes::Absent {
                    self.memory.volumes = Volumes::Ready;
                }
            }
            Effect::Resized { name, id, limits } => self.memory.health_mut(&name, &id).limits = Some(limits),
            Effect::Unmounted => self.memory.volumes = Volumes::Removed,
            Effect::SandboxStopped(id) => {
                self.memory.stopped.insert(id);
            }
            Effect::Finished => self.memory.finished = true,
            Effect::Purged => self.memory.purged = true,
            Effect::Reported(mut reported) => {
                if report::is_contradicted(&reported.sent, &reported.stored) {
                    reported.sent = reported.stored.clone(); // so that the difference is sent
                }
                self.reported = *reported;
            }
        }
    }

    /// A ConfigMap or Secret that the pod names has changed: volumes are brought up to date, failures tried again.
    fn objects_changed(&mut self) {
        self.memory.ops.retry_configuration();
        if self.memory.volumes == Volumes::Ready {
            self.memory.volumes = Volumes::Stale;
        }
    }
}

/// The objects that a pod names.
fn needs(pod: &Pod) -> Vec<Id> {
    let mut ids = volumes::needs(pod);
    ids.extend(pod.all_containers().flat_map(|(_, c)| env::needs(pod, c)));
    ids.sort();
    ids.dedup();
    ids
}

/// What a container that ended left to be told. Blocking.
fn last_words(pod: &Pod, data_dir: &Path, ended: &observed::Container) -> String {
    let path = lastwords::path(data_dir, &pod.metadata.uid, &ended.name, ended.attempt);
    let words = lastwords::of_file(&path);
    let from_log = pod
        .container(&ended.name)
        .is_some_and(|(_, c)| c.termination_message_policy == MessagePolicy::FallbackToLogsOnError);
    if !words.is_empty() || !from_log || ended.exit_code() == 0 {
        return words;
    }
    let log = make::log_directory(data_dir, pod).join(make::log_path(&ended.name, ended.attempt));
    lastwords::of_log(&log)
}

/// How long from `now` until `at`.
fn until(at: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
