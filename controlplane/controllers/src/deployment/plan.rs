//! From a Deployment and its ReplicaSets to the next steps. Pure: the whole of a rollout can be simulated in memory.

use std::{sync::Arc, time::Duration};

use api::Object;
use client::{Meta, kinds};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    annotations::{self, Annotations},
    rolling, scale, status,
};
use crate::{
    pods,
    view::{Deployment, DeploymentStatus, IntOrString, ReplicaSet},
};

/// What to do, in this order, then the status to write if it changed, then when to look again if nothing happens.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) status: Option<DeploymentStatus>,
    pub(super) again: Option<Duration>,
}

/// One write.
#[derive(Debug)]
pub(super) enum Step {
    Adopt(Arc<ReplicaSet>),
    Release(Arc<ReplicaSet>),
    Create {
        name: String,
        hash: String,
        replicas: i64,
        annotations: Annotations,
    },
    Change {
        set: Arc<ReplicaSet>,
        replicas: Option<i64>,
        annotations: Annotations,
        min_ready_seconds: Option<i64>,
    },
    Delete(Arc<ReplicaSet>),
    /// Annotate the Deployment.
    SetRevision(i64),
}

/// A ReplicaSet and what is to become of it.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) now: Arc<ReplicaSet>,
    pub(super) replicas: i64,
    annotations: Annotations,
    min_ready_seconds: Option<i64>,
}

impl Set {
    fn new(now: Arc<ReplicaSet>) -> Self {
        let replicas = now.spec.replicas;
        Self {
            now,
            replicas,
            annotations: Annotations::new(),
            min_ready_seconds: None,
        }
    }

    /// Pods that are available and will stay: those that the ReplicaSet still counts but is about to remove do not.
    pub(super) fn available(&self) -> i64 {
        self.now.status.available_replicas.min(self.now.spec.replicas)
    }

    fn step(&self) -> Option<Step> {
        let replicas = (self.replicas != self.now.spec.replicas).then_some(self.replicas);
        let changes = replicas.is_some() || !self.annotations.is_empty() || self.min_ready_seconds.is_some();
        changes.then(|| Step::Change {
            set: self.now.clone(),
            replicas,
            annotations: self.annotations.clone(),
            min_ready_seconds: self.min_ready_seconds,
        })
    }
}

/// A rollout as it stands and as it is planned.
#[derive(Clone, Debug)]
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    /// The one whose template is the Deployment's.
    pub(super) new: Option<Set>,
    /// The others, oldest first.
    pub(super) old: Vec<Set>,
    /// The new one is still to be created.
    creates: bool,
    pub(super) max_surge: i64,
    pub(super) max_unavailable: i64,
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Deployment, mut sets: Vec<Arc<ReplicaSet>>) -> Self {
        sets.sort_by_key(|set| (set.metadata.creation_timestamp, set.metadata.name.clone()));
        let is_new = |set: &&Arc<ReplicaSet>| set.spec.template.digest == deployment.spec.template.digest;
        let new = sets.iter().find(is_new).cloned();
        let is_old = |set: &Arc<ReplicaSet>| new.as_ref().is_none_or(|new| new.metadata.uid != set.metadata.uid);
        let old = sets.iter().filter(|set| is_old(set)).cloned().map(Set::new).collect();
        let (max_surge, max_unavailable) = bounds(deployment);
        Self {
            deployment,
            new: new.map(Set::new),
            old,
            creates: false,
            max_surge,
            max_unavailable,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.new.iter().chain(&self.old)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        self.new.iter_mut().chain(&mut self.old)
    }

    pub(super) fn desired(&self) -> i64 {
        self.deployment.spec.replicas
    }

    /// Plans a size; whether it is another one than now.
    pub(super) fn resize(set: &mut Set, replicas: i64, desired: i64, max_surge: i64) -> bool {
        set.annotations.extend(annotations::of_sizes(
            &set.now.metadata.annotations,
            desired,
            desired + max_surge,
        ));
        set.replicas = replicas;
        replicas != set.now.spec.replicas
    }

    /// Plans to create the new ReplicaSet, or to bring its annotations up to date; gives the rollout's revision.
    fn settle_new(&mut self, create: bool) -> Option<i64> {
        let next = self
            .old
            .iter()
            .map(|set| annotations::revision(&set.now.metadata.annotations))
            .max()
            .unwrap_or(0)
            + 1;
        let deployment = self.deployment;
        let wanted = &deployment.metadata.annotations;
        if let Some(new) = &mut self.new {
            new.annotations
                .extend(annotations::of_new_set(wanted, &new.now.metadata.annotations, next));
            let seconds = deployment.spec.min_ready_seconds;
            new.min_ready_seconds = (new.now.spec.min_ready_seconds != seconds).then_some(seconds);
            return Some(annotations::revision(&new.now.metadata.annotations).max(next));
        }
        if !create {
            return None;
        }
        let hash = template_hash(deployment);
        let mut now = ReplicaSet::default();
        now.metadata.name = format!("{}-{hash}", deployment.metadata.name).into();
        now.spec.template = deployment.spec.template.clone();
        let mut set = Set::new(Arc::new(now));
        set.annotations = annotations::of_new_set(wanted, &client::Labels::default(), next);
        self.new = Some(set);
        self.creates = true;
        let replicas = rolling::new_size(self);
        let (desired, surge) = (self.desired(), self.max_surge);
        if let Some(new) = &mut self.new {
            Self::resize(new, replicas, desired, surge);
        }
        Some(next)
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match &self.new {
            Some(new) if self.creates => steps.push(Step::Create {
                name: new.now.metadata.name.to_string(),
                hash: template_hash(self.deployment),
                replicas: new.replicas,
                annotations: new.annotations.clone(),
            }),
            Some(new) => steps.extend(new.step()),
            None => {}
        }
        steps.extend(self.old.iter().filter_map(Set::step));
        steps
    }

    /// Whether a new ReplicaSet is going to be created.
    pub(super) fn creates(&self) -> bool {
        self.creates
    }
}

/// maxSurge rounded up and maxUnavailable rounded down; not both can be nothing.
fn bounds(deployment: &Deployment) -> (i64, i64) {
    let spec = &deployment.spec;
    if &*spec.strategy.r#type == "Recreate" {
        return (0, 0);
    }
    let quarter = IntOrString::String("25%".into());
    let rolling = &spec.strategy.rolling_update;
    let surge = rolling
        .max_surge
        .as_ref()
        .unwrap_or(&quarter)
        .of(spec.replicas, true)
        .max(0);
    let unavailable = rolling
        .max_unavailable
        .as_ref()
        .unwrap_or(&quarter)
        .of(spec.replicas, false)
        .max(0);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, unavailable.min(spec.replicas))
}

/// Plans the next steps. `sets` are all of the namespace; `runs_pods` says whether any pod of some of them still runs.
pub(super) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    runs_pods: impl Fn(&[&ReplicaSet]) -> bool,
    now: Timestamp,
) -> Plan {
    let (mut steps, owned) = claim(deployment, sets);
    let mut rollout = Rollout::new(deployment, owned);
    let mut conditions = deployment.status.conditions.clone();
    status::note_pause(deployment, &mut conditions, now);
    let recreate = &*deployment.spec.strategy.r#type == "Recreate";
    let mut deletions = Vec::new();
    let (status, again) = if deployment.metadata.is_deleting() {
        (status::counted(&rollout, conditions, now), None)
    } else if deployment.spec.paused || scale::is_due(&rollout) {
        let revision = rollout.settle_new(false);
        scale::scale(&mut rollout);
        if deployment.spec.paused {
            deletions = superfluous(&rollout);
        }
        steps.extend(rollout.steps());
        steps.extend(set_revision(deployment, revision));
        (status::counted(&rollout, conditions, now), None)
    } else {
        let old_runs = recreate && {
            let old: Vec<&ReplicaSet> = rollout.old.iter().map(|set| &*set.now).collect();
            runs_pods(&old)
        };
        let revision = if recreate {
            recreate_all(&mut rollout, old_runs)
        } else {
            roll(&mut rollout)
        };
        status::note_new_set(&rollout, &mut conditions, now);
        if status::is_complete(deployment, &status::counted(&rollout, vec![], now)) {
            deletions = superfluous(&rollout);
        }
        steps.extend(rollout.steps());
        steps.extend(set_revision(deployment, revision));
        status::progressed(&rollout, conditions, now)
    };
    steps.extend(deletions.into_iter().map(Step::Delete));
    Plan {
        steps,
        status: (status != deployment.status).then_some(status),
        again,
    }
}

/// Who belongs to the Deployment, and what has to be written for that.
fn claim(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> (Vec<Step>, Vec<Arc<ReplicaSet>>) {
    let (mut steps, mut owned) = (Vec::new(), Vec::new());
    let deleting = deployment.metadata.is_deleting();
    for set in sets {
        let matches = deployment.spec.selector.matches(&set.metadata.labels);
        match set.metadata.controller() {
            Some(owner) if owner.uid != deployment.metadata.uid => {}
            Some(_) if matches || deleting => owned.push(set.clone()),
            Some(_) => steps.push(Step::Release(set.clone())),
            None if matches && !deleting && !set.metadata.is_deleting() => {
                steps.push(Step::Adopt(set.clone()));
                owned.push(set.clone());
            }
            None => {}
        }
    }
    (steps, owned)
}

fn roll(rollout: &mut Rollout<'_>) -> Option<i64> {
    let revision = rollout.settle_new(true);
    if !rollout.creates() {
        rolling::roll(rollout);
    }
    revision
}

/// All old pods have to end before the new ReplicaSet is filled.
fn recreate_all(rollout: &mut Rollout<'_>, old_runs: bool) -> Option<i64> {
    let desired = rollout.desired();
    let mut scaled = false;
    for set in rollout.old.iter_mut().filter(|set| set.replicas > 0) {
        scaled |= Rollout::resize(set, 0, desired, 0);
    }
    if scaled || old_runs {
        return rollout.settle_new(false);
    }
    let revision = rollout.settle_new(true);
    if let Some(new) = &mut rollout.new {
        Rollout::resize(new, desired, desired, 0);
    }
    revision
}

fn set_revision(deployment: &Deployment, revision: Option<i64>) -> Option<Step> {
    let revision = revision?;
    let current = annotations::number(&deployment.metadata.annotations, annotations::REVISION);
    (current != Some(revision)).then_some(Step::SetRevision(revision))
}

/// Old ReplicaSets beyond the revision history limit, the oldest revisions first; only those that are empty and settled.
fn superfluous(rollout: &Rollout<'_>) -> Vec<Arc<ReplicaSet>> {
    let limit = rollout.deployment.spec.revision_history_limit.unwrap_or(10);
    let mut alive: Vec<&Set> = rollout
        .old
        .iter()
        .filter(|set| !set.now.metadata.is_deleting())
        .collect();
    let Ok(limit) = usize::try_from(limit) else {
        return vec![];
    };
    let surplus = alive.len().saturating_sub(limit);
    alive.sort_by_key(|set| {
        (
            annotations::revision(&set.now.metadata.annotations),
            set.now.metadata.creation_timestamp,
        )
    });
    let settled = |set: &&Set| {
        let ReplicaSet { metadata, status, .. } = &*set.now;
        set.replicas == 0
            && set.now.spec.replicas == 0
            && status.replicas == 0
            && metadata.generation <= status.observed_generation
    };
    alive
        .into_iter()
        .take(surplus)
        .filter(settled)
        .map(|set| set.now.clone())
        .collect()
}

/// The value of the label `pod-template-hash`: a digest of the template and the collision count, in letters and digits
/// that spell no words.
pub(super) fn template_hash(deployment: &Deployment) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut digest = Sha256::new();
    digest.update(deployment.spec.template.digest);
    if let Some(count) = deployment.status.collision_count {
        digest.update(count.to_le_bytes());
    }
    let digest = digest.finalize();
    let number = digest
        .iter()
        .take(4)
        .fold(0u32, |number, byte| (number << 8) | u32::from(*byte));
    let letter = |digit: u8| {
        ALPHABET
            .get(usize::from(digit) % ALPHABET.len())
            .copied()
            .map_or('b', char::from)
    };
    number.to_string().bytes().map(letter).collect()
}

/// The ReplicaSet to create, from the live Deployment.
pub(super) fn new_set(
    live: &Object,
    deployment: &Meta,
    name: &str,
    hash: &str,
    replicas: i64,
    annotations: &Annotations,
) -> Object {
    let mut set = Object::new("apps/v1", "ReplicaSet");
    set.set("metadata.name", name);
    set.set("metadata.namespace", deployment.namespace.to_string());
    set.set(
        "metadata.ownerReferences",
        json!([pods::controller_reference(&kinds::DEPLOYMENT, deployment)]),
    );
    set.set("metadata.annotations", json!(annotations));
    set.set("spec", json!({"replicas": replicas}));
    set.set(
        "spec.minReadySeconds",
        live.at("spec.minReadySeconds").cloned().unwrap_or(json!(0)),
    );
    set.set("spec.selector", live.at("spec.selector").cloned().unwrap_or_default());
    set.set("spec.template", live.at("spec.template").cloned().unwrap_or_default());
    set.set(
        "metadata.labels",
        live.at("spec.template.metadata.labels")
            .cloned()
            .unwrap_or_else(|| json!({})),
    );
    // keys with dots and slashes are no paths
    for map in [
        "metadata.labels",
        "spec.template.metadata.labels",
        "spec.selector.matchLabels",
    ] {
        if set.at(map).and_then(serde_json::Value::as_object).is_none() {
            set.set(map, json!({}));
        }
        if let Some(map) = set.at_mut(map).and_then(serde_json::Value::as_object_mut) {
            map.insert(crate::view::POD_TEMPLATE_HASH.into(), hash.into());
        }
    }
    set
}

#[cfg(test)]
mod tests;
