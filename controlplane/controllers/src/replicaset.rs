//! ReplicaSets: keeps as many pods as asked for.
//!
//! The plan is made from the informers and carried out against the API; then the loop waits until the informer shows what
//! was done, so that the next plan for the same ReplicaSet counts right. Pods are created in batches that double, so that
//! a quota or an admission that refuses is met by one request, not by hundreds.

mod plan;
mod rank;

use std::sync::Arc;

use api::{NamespacedName, Object};
use client::{
    Delta, Error, Informer, Meta, Patch, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use self::plan::Plan;
use crate::{Context, RESYNC, pods, view};

const WORKERS: usize = 16;

pub(crate) async fn run(context: Context) {
    let shell = Shell {
        sets: context.informers.get(&kinds::REPLICA_SET, Scope::All),
        pods: context.informers.get(&kinds::POD, Scope::All),
        context,
    };
    shell.sets.synced().await;
    shell.pods.synced().await;
    let sets = shell.sets.clone();
    let triggers = vec![
        reconcile::on_change(&shell.sets),
        reconcile::mapped(&shell.pods, move |delta| concerned(delta, &sets)),
        reconcile::every(RESYNC, &shell.sets),
    ];
    match reconcile::keyed("replicaset", WORKERS, triggers, |key| shell.reconcile(key)).await {}
}

/// The ReplicaSets that a change of a pod concerns: its controllers before and after, or those that may adopt it.
fn concerned(delta: &Delta<view::Pod>, sets: &Informer<view::ReplicaSet>) -> Vec<NamespacedName> {
    let mut keys = Vec::new();
    for pod in delta.states() {
        match pod.metadata.controller() {
            Some(_) => keys.extend(pods::controller_key(&pod.metadata, "ReplicaSet")),
            None => {
                let snapshot = sets.snapshot();
                let same_namespace = snapshot.in_namespace(&pod.metadata.namespace);
                let matching = same_namespace.filter(|(_, set)| set.spec.selector.matches(&pod.metadata.labels));
                keys.extend(matching.map(|(key, _)| key.clone()));
            }
        }
    }
    keys.dedup();
    keys
}

struct Shell {
    context: Context,
    sets: Informer<view::ReplicaSet>,
    pods: Informer<view::Pod>,
}

impl Shell {
    async fn reconcile(&self, key: NamespacedName) -> Result<Action, Error> {
        let Some(set) = self.sets.get(&key) else {
            return Ok(Action::Done);
        };
        let snapshot = self.pods.snapshot();
        let pods: Vec<Arc<view::Pod>> = snapshot
            .in_namespace(&set.metadata.namespace)
            .map(|(_, pod)| pod.clone())
            .collect();
        let siblings = |pod: &view::Pod| self.is_sibling(&set, pod);
        let plan = plan::plan(&set, &pods, siblings, self.context.config.clock.now());
        drop(snapshot);
        let failure = self.carry_out(&set, &plan).await;
        let reason = failure
            .as_ref()
            .err()
            .map(|failure| (failure.reason, failure.error.to_string()));
        self.update_status(&set, plan.status(&set, reason, self.context.config.clock.now()))
            .await?;
        match failure {
            Ok(()) => Ok(plan.again.map_or(Action::Done, Action::After)),
            Err(failure) if failure.error.is_namespace_terminating() => Ok(Action::Done),
            Err(failure) => Err(failure.error),
        }
    }

    /// Whether another ReplicaSet of the same owner controls the pod.
    fn is_sibling(&self, set: &view::ReplicaSet, pod: &view::Pod) -> bool {
        let Some(key) = pods::controller_key(&pod.metadata, "ReplicaSet") else {
            return false;
        };
        let of_same_owner = |other: &view::ReplicaSet| {
            set.metadata.controller().is_some() && client::same_controller(&set.metadata, &other.metadata)
        };
        self.sets
            .get(&key)
            .is_some_and(|other| other.metadata.uid == set.metadata.uid || of_same_owner(&other))
    }

    async fn carry_out(&self, set: &view::ReplicaSet, plan: &Plan) -> Result<(), Failure> {
        for pod in &plan.adopt {
            self.change_owner(
                &pod.metadata,
                pods::adopt(&kinds::REPLICA_SET, &set.metadata, &pod.metadata),
            )
            .await?;
        }
        for pod in &plan.release {
            self.change_owner(&pod.metadata, pods::release(&set.metadata.uid, &pod.metadata))
                .await?;
        }
        if plan.create > 0 {
            self.create(set, plan.create).await?;
        }
        let deletions: Vec<_> = plan.delete.iter().map(|pod| self.delete(set, &pod.metadata)).collect();
        let results: Vec<_> = stream::iter(deletions).buffer_unordered(16).collect().await;
        results.into_iter().collect()
    }

    async fn change_owner(&self, pod: &Meta, patch: Value) -> Result<(), Failure> {
        let patched = self
            .context
            .client
            .patch(&kinds::POD, &pod.key(), None, Patch::Merge(patch))
            .await;
        match patched {
            Ok(pod) => {
                self.pods.wait_written(&pod).await;
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(Failure {
                reason: "FailedCreate",
                error,
            }),
        }
    }

    /// Creates pods, one, then two, then four at a time, until one fails.
    async fn create(&self, set: &view::ReplicaSet, count: usize) -> Result<(), Failure> {
        let failed = |error| Failure {
            reason: "FailedCreate",
            error,
        };
        let live: Option<Object> = self
            .context
            .client
            .get_opt(&kinds::REPLICA_SET, &set.metadata.key())
            .await
            .map_err(failed)?;
        let Some(live) = live.filter(|live| live.uid() == &*set.metadata.uid && !live.is_deleting()) else {
            return Ok(());
        };
        let pod = pod_of(&live, &set.metadata);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let now = batch.min(left);
            let created = futures::future::join_all((0..now).map(|_| self.create_one(set, &pod))).await;
            let mut newest = 0u64;
            let mut result = Ok(());
            for one in created {
                match one {
                    Ok(revision) => newest = newest.max(revision),
                    Err(error) => result = Err(failed(error)),
                }
            }
            self.pods.wait_seen(&newest.to_string()).await;
            result?;
            (left, batch) = (left - now, batch * 2);
        }
        Ok(())
    }

    async fn create_one(&self, set: &view::ReplicaSet, pod: &Object) -> Result<u64, Error> {
        let reference = ObjectRef::of(&kinds::REPLICA_SET, &set.metadata);
        let recorder = &self.context.recorder;
        match self
            .context
            .client
            .create(&kinds::POD, Some(&set.metadata.namespace), pod)
            .await
        {
            Ok(created) => {
                let note = format!("Created pod: {}", created.name());
                recorder.event(&reference, Type::Normal, "SuccessfulCreate", "", note);
                Ok(created
                    .resource_version()
                    .and_then(|revision| revision.parse().ok())
                    .unwrap_or(0))
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    recorder.event(
                        &reference,
                        Type::Warning,
                        "FailedCreate",
                        "",
                        format!("Error creating: {error}"),
                    );
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &view::ReplicaSet, pod: &Meta) -> Result<(), Failure> {
        let reference = ObjectRef::of(&kinds::REPLICA_SET, &set.metadata);
        match pods::delete(&self.context.client, pod).await {
            Ok(()) => {
                let note = format!("Deleted pod: {}", pod.name);
                self.context
                    .recorder
                    .event(&reference, Type::Normal, "SuccessfulDelete", "", note);
                pods::wait_deleted(&self.pods, pod).await;
                Ok(())
            }
            Err(error) => {
                let note = format!("Error deleting: {error}");
                self.context
                    .recorder
                    .event(&reference, Type::Warning, "FailedDelete", "", note);
                Err(Failure {
                    reason: "FailedDelete",
                    error,
                })
            }
        }
    }

    async fn update_status(&self, set: &view::ReplicaSet, status: Option<Value>) -> Result<(), Error> {
        let Some(status) = status else { return Ok(()) };
        let (meta, change) = (&set.metadata, json!({"status": status}));
        let client = &self.context.client;
        let updated = client
            .update(&kinds::REPLICA_SET, &meta.key(), Some("status"), &meta.uid, &change)
            .await?;
        if let Some(updated) = updated {
            self.sets.wait_written(&updated).await;
        }
        Ok(())
    }
}

struct Failure {
    /// Of the condition ReplicaFailure.
    reason: &'static str,
    error: Error,
}

/// A pod as the live ReplicaSet's template says, owned by it.
fn pod_of(live: &Object, set: &Meta) -> Object {
    let mut pod = Object::new("v1", "Pod");
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = live.at(&format!("spec.template.metadata.{field}")) {
            pod.set(&format!("metadata.{field}"), value.clone());
        }
    }
    pod.set("metadata.generateName", format!("{}-", set.name));
    pod.set("metadata.namespace", set.namespace.to_string());
    pod.set(
        "metadata.ownerReferences",
        json!([pods::controller_reference(&kinds::REPLICA_SET, set)]),
    );
    pod.set("spec", live.at("spec.template.spec").cloned().unwrap_or_default());
    pod
}
