//! Deployments: rolls from one ReplicaSet to the next.
//!
//! One reconcile makes one plan ([`plan`]) and carries out its steps; what follows from them (pods become ready) comes
//! back as changes of ReplicaSets, and the next reconcile goes on from there. After its own writes the loop waits for the
//! informers, so that no plan is made from the state before.

mod annotations;
mod plan;
mod rolling;
mod scale;
mod status;

use std::{sync::Arc, time::Duration};

use api::{NamespacedName, Object};
use client::{
    Delta, Error, Informer, OptionalExt, Patch, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use serde_json::{Value, json};

use self::plan::{Plan, Step};
use crate::{
    Context, RESYNC, pods,
    view::{self, Template},
};

const WORKERS: usize = 8;
/// When the informer turned out to lag behind, it will not for long.
const SOON: Duration = Duration::from_millis(10);

pub(crate) async fn run(context: Context) {
    let shell = Shell {
        deployments: context.informers.get(&kinds::DEPLOYMENT, Scope::All),
        sets: context.informers.get(&kinds::REPLICA_SET, Scope::All),
        pods: context.informers.get(&kinds::POD, Scope::All),
        context,
    };
    shell.deployments.synced().await;
    shell.sets.synced().await;
    shell.pods.synced().await;
    let (deployments, sets) = (shell.deployments.clone(), shell.sets.clone());
    let triggers = vec![
        reconcile::on_change(&shell.deployments),
        reconcile::mapped(&shell.sets, move |delta| concerned(delta, &deployments)),
        reconcile::mapped(&shell.pods, move |delta| concerned_by_end(delta, &sets)),
        reconcile::every(RESYNC, &shell.deployments),
    ];
    match reconcile::keyed("deployment", WORKERS, triggers, |key| shell.reconcile(key)).await {}
}

/// The Deployments that a change of a ReplicaSet concerns.
fn concerned(delta: &Delta<view::ReplicaSet>, deployments: &Informer<view::Deployment>) -> Vec<NamespacedName> {
    let mut keys = Vec::new();
    for set in delta.states() {
        match set.metadata.controller() {
            Some(_) => keys.extend(pods::controller_key(&set.metadata, "Deployment")),
            None => {
                let snapshot = deployments.snapshot();
                let matching = snapshot
                    .in_namespace(&set.metadata.namespace)
                    .filter(|(_, deployment)| deployment.spec.selector.matches(&set.metadata.labels));
                keys.extend(matching.map(|(key, _)| key.clone()));
            }
        }
    }
    keys.dedup();
    keys
}

/// The Deployment that waits for its old pods to end before it creates new ones.
fn concerned_by_end(delta: &Delta<view::Pod>, sets: &Informer<view::ReplicaSet>) -> Option<NamespacedName> {
    let ended = delta.new.as_ref().is_none_or(|pod| pod.is_finished());
    let pod = delta.old.as_ref().filter(|_| ended)?;
    let set = sets.get(&pods::controller_key(&pod.metadata, "ReplicaSet")?)?;
    pods::controller_key(&set.metadata, "Deployment")
}

struct Shell {
    context: Context,
    deployments: Informer<view::Deployment>,
    sets: Informer<view::ReplicaSet>,
    pods: Informer<view::Pod>,
}

impl Shell {
    async fn reconcile(&self, key: NamespacedName) -> Result<Action, Error> {
        let Some(deployment) = self.deployments.get(&key) else {
            return Ok(Action::Done);
        };
        let snapshot = self.sets.snapshot();
        let sets: Vec<Arc<view::ReplicaSet>> = snapshot
            .in_namespace(&deployment.metadata.namespace)
            .map(|(_, set)| set.clone())
            .collect();
        drop(snapshot);
        let runs_old_pods = |old: &[&view::ReplicaSet]| self.any_running(&deployment, old);
        let plan = plan::plan(&deployment, &sets, runs_old_pods, self.context.config.clock.now());
        self.carry_out(&deployment, plan).await
    }

    /// Whether any pod of these ReplicaSets has not ended yet.
    fn any_running(&self, deployment: &view::Deployment, sets: &[&view::ReplicaSet]) -> bool {
        let snapshot = self.pods.snapshot();
        let owned = |pod: &view::Pod| {
            pod.metadata
                .controller()
                .is_some_and(|owner| sets.iter().any(|set| set.metadata.uid == owner.uid))
        };
        snapshot
            .in_namespace(&deployment.metadata.namespace)
            .any(|(_, pod)| !pod.is_finished() && owned(pod))
    }

    async fn carry_out(&self, deployment: &view::Deployment, plan: Plan) -> Result<Action, Error> {
        for step in &plan.steps {
            match self.step(deployment, step).await? {
                Then::GoOn => {}
                Then::StartOver => return Ok(Action::After(SOON)),
            }
        }
        if let Some(status) = plan.status {
            self.write_status(deployment, serde_json::to_value(status).unwrap_or_default())
                .await?;
        }
        Ok(plan.again.map_or(Action::Done, Action::After))
    }

    async fn step(&self, deployment: &view::Deployment, step: &Step) -> Result<Then, Error> {
        match step {
            Step::Adopt(set) => {
                let patch = pods::adopt(&kinds::DEPLOYMENT, &deployment.metadata, &set.metadata);
                self.patch_set(&set.metadata.key(), patch).await?;
            }
            Step::Release(set) => {
                let patch = pods::release(&deployment.metadata.uid, &set.metadata);
                self.patch_set(&set.metadata.key(), patch).await?;
            }
            Step::Create {
                name,
                hash,
                replicas,
                annotations,
            } => {
                return self.create(deployment, name, hash, *replicas, annotations).await;
            }
            Step::Change {
                set,
                replicas,
                annotations,
                min_ready_seconds,
            } => {
                let mut spec = serde_json::Map::new();
                spec.extend(replicas.map(|replicas| ("replicas".to_owned(), replicas.into())));
                spec.extend(min_ready_seconds.map(|seconds| ("minReadySeconds".to_owned(), seconds.into())));
                let patch = json!({"metadata": {"uid": set.metadata.uid, "annotations": annotations}, "spec": spec});
                self.patch_set(&set.metadata.key(), patch).await?;
                if let Some(to) = replicas {
                    self.say_scaled(deployment, &set.metadata.name, set.spec.replicas, *to);
                }
            }
            Step::Delete(set) => {
                let options = client::DeleteOptions::of_uid(&set.metadata.uid);
                self.context
                    .client
                    .delete(&kinds::REPLICA_SET, &set.metadata.key(), &options)
                    .await
                    .optional()?;
                let gone = |now: Option<&view::ReplicaSet>| {
                    now.is_none_or(|now| now.metadata.uid != set.metadata.uid || now.metadata.is_deleting())
                };
                self.sets.wait_until(&set.metadata.key(), gone).await;
            }
            Step::SetRevision(revision) => {
                let annotations = json!({annotations::REVISION: revision.to_string()});
                let change = json!({"metadata": {"annotations": annotations}});
                // by way of the status, so that it counts as no generation: another means that somebody has changed the spec
                let updated = self.update(deployment, Some("status"), &change).await?;
                let as_planned = |updated: &Object| updated.generation() == deployment.metadata.generation;
                if !updated.as_ref().is_some_and(as_planned) {
                    return Ok(Then::StartOver);
                }
            }
        }
        Ok(Then::GoOn)
    }

    async fn patch_set(&self, at: &NamespacedName, patch: Value) -> Result<(), Error> {
        let patched = self
            .context
            .client
            .patch(&kinds::REPLICA_SET, at, None, Patch::Merge(patch))
            .await?;
        self.sets.wait_written(&patched).await;
        Ok(())
    }

    async fn create(
        &self,
        deployment: &view::Deployment,
        name: &str,
        hash: &str,
        replicas: i64,
        annotations: &annotations::Annotations,
    ) -> Result<Then, Error> {
        let meta = &deployment.metadata;
        let live: Option<Object> = self.context.client.get_opt(&kinds::DEPLOYMENT, &meta.key()).await?;
        let same = |live: &Object| {
            live.uid() == &*meta.uid
                && !live.is_deleting()
                && live
                    .at("spec.template")
                    .is_some_and(|template| Template::of(template) == deployment.spec.template)
        };
        let Some(live) = live.filter(same) else {
            return Ok(Then::StartOver);
        }; // the informer will say so soon
        let set = plan::new_set(&live, meta, name, hash, replicas, annotations);
        match self
            .context
            .client
            .create(&kinds::REPLICA_SET, Some(&meta.namespace), &set)
            .await
        {
            Ok(created) => {
                self.say_scaled(deployment, name, 0, replicas);
                self.sets.wait_written(&created).await;
                Ok(Then::GoOn)
            }
            Err(error) if error.is_already_exists() => self.resolve_clash(deployment, name).await,
            Err(error) => {
                let note = format!("Failed to create new replica set {name:?}: {error}");
                self.event(deployment, Type::Warning, "ReplicaSetCreateError", note);
                if !error.is_namespace_terminating() {
                    let status = status::create_failed(deployment, &error.to_string(), self.context.config.clock.now());
                    self.write_status(deployment, serde_json::to_value(status).unwrap_or_default())
                        .await?;
                    return Err(error);
                }
                Ok(Then::GoOn)
            }
        }
    }

    /// A ReplicaSet of the name exists. If it is ours with the same template, a write got lost on its way back; if not,
    /// two templates have the same hash: raise the collision count, which is part of it.
    async fn resolve_clash(&self, deployment: &view::Deployment, name: &str) -> Result<Then, Error> {
        let at = NamespacedName::new(&deployment.metadata.namespace, name);
        let Some(set): Option<view::ReplicaSet> = self.context.client.get_opt(&kinds::REPLICA_SET, &at).await? else {
            return Ok(Then::StartOver);
        };
        let ours = set
            .metadata
            .controller()
            .is_some_and(|owner| owner.uid == deployment.metadata.uid);
        if ours && set.spec.template.digest == deployment.spec.template.digest {
            self.sets.wait_seen(&set.metadata.resource_version).await;
            return Ok(Then::StartOver);
        }
        let count = deployment.status.collision_count.unwrap_or(0) + 1;
        self.write_status(deployment, json!({"collisionCount": count})).await?;
        Ok(Then::StartOver)
    }

    async fn write_status(&self, deployment: &view::Deployment, status: Value) -> Result<(), Error> {
        self.update(deployment, Some("status"), &json!({"status": status}))
            .await
            .map(drop)
    }

    async fn update(
        &self,
        deployment: &view::Deployment,
        subresource: Option<&str>,
        change: &Value,
    ) -> Result<Option<Object>, Error> {
        let meta = &deployment.metadata;
        let client = &self.context.client;
        let updated = client
            .update(&kinds::DEPLOYMENT, &meta.key(), subresource, &meta.uid, change)
            .await?;
        if let Some(updated) = &updated {
            self.deployments.wait_written(updated).await;
        }
        Ok(updated)
    }

    fn say_scaled(&self, deployment: &view::Deployment, set: &str, from: i64, to: i64) {
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let note = format!("Scaled {direction} replica set {set} from {from} to {to}");
            self.event(deployment, Type::Normal, "ScalingReplicaSet", note);
        }
    }

    fn event(&self, deployment: &view::Deployment, type_: Type, reason: &str, note: String) {
        let reference = ObjectRef::of(&kinds::DEPLOYMENT, &deployment.metadata);
        self.context.recorder.event(&reference, type_, reason, "", note);
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    StartOver,
}
