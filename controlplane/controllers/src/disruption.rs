//! Disruption budgets: keeps the status of each PodDisruptionBudget, from which the `eviction` endpoint takes.
//!
//! The API server takes from `disruptionsAllowed` when it evicts and notes the pod in `disruptedPods`; here both are
//! counted anew from the pods. Every write is by resourceVersion: one that is not seen yet is never overwritten.

mod plan;

use std::{collections::BTreeSet, sync::Arc};

use api::NamespacedName;
use client::{
    Delta, Error, Informer, Scope,
    events::{ObjectRef, Type},
    kinds,
    reconcile::{self, Action},
};
use serde_json::json;

use self::plan::{Plan, Scale, plan};
use crate::{
    Context, RESYNC, pods,
    view::{Deployment, Pod, PodDisruptionBudget, ReplicaSet},
};

const WORKERS: usize = 4;

pub(crate) async fn run(context: Context) {
    let shell = Shell {
        budgets: context.informers.get(&kinds::POD_DISRUPTION_BUDGET, Scope::All),
        pods: context.informers.get(&kinds::POD, Scope::All),
        sets: context.informers.get(&kinds::REPLICA_SET, Scope::All),
        deployments: context.informers.get(&kinds::DEPLOYMENT, Scope::All),
        context,
    };
    shell.budgets.synced().await;
    shell.pods.synced().await;
    shell.sets.synced().await;
    shell.deployments.synced().await;
    let (by_pod, by_set, by_deployment) = (shell.budgets.clone(), shell.budgets.clone(), shell.budgets.clone());
    let triggers = vec![
        reconcile::on_change(&shell.budgets),
        reconcile::mapped(&shell.pods, move |delta| concerned(delta, &by_pod)),
        // Scales change seldom: whoever is in the namespace is counted anew.
        reconcile::mapped(&shell.sets, move |delta| in_namespace(&delta.key, &by_set)),
        reconcile::mapped(&shell.deployments, move |delta| {
            in_namespace(&delta.key, &by_deployment)
        }),
        reconcile::every(RESYNC, &shell.budgets),
    ];
    match reconcile::keyed("disruption", WORKERS, triggers, |key| shell.reconcile(key)).await {}
}

/// The budgets that select a pod, as it was or as it is.
fn concerned(delta: &Delta<Pod>, budgets: &Informer<PodDisruptionBudget>) -> Vec<NamespacedName> {
    let snapshot = budgets.snapshot();
    if snapshot.is_empty() {
        return Vec::new();
    }
    let namespace = delta.key.namespace.as_deref().unwrap_or_default();
    let selects = |budget: &PodDisruptionBudget| {
        delta
            .states()
            .any(|pod| budget.spec.selector.matches(&pod.metadata.labels))
    };
    let found = snapshot.in_namespace(namespace).filter(|(_, budget)| selects(budget));
    found.map(|(key, _)| key.clone()).collect()
}

fn in_namespace(key: &NamespacedName, budgets: &Informer<PodDisruptionBudget>) -> Vec<NamespacedName> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let snapshot = budgets.snapshot();
    snapshot.in_namespace(namespace).map(|(key, _)| key.clone()).collect()
}

struct Shell {
    context: Context,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
}

impl Shell {
    async fn reconcile(&self, key: NamespacedName) -> Result<Action, Error> {
        let Some(budget) = self.budgets.get(&key) else {
            return Ok(Action::Done);
        };
        let pods: Vec<Arc<Pod>> = {
            let snapshot = self.pods.snapshot();
            let selected = snapshot
                .in_namespace(&budget.metadata.namespace)
                .filter(|(_, pod)| budget.spec.selector.matches(&pod.metadata.labels));
            selected.map(|(_, pod)| pod.clone()).collect()
        };
        let pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).collect();
        let scale = self.scale(&pods);
        self.tell_counts(&budget, &pods, scale.as_ref().map_err(String::as_str));
        let planned = plan(
            &budget,
            &pods,
            scale.as_ref().map_err(String::as_str),
            self.context.config.clock.now(),
        );
        self.tell_not_deleted(&budget, &pods, &planned);
        self.write(&budget, &planned).await?;
        Ok(planned.again.map_or(Action::Done, Action::After))
    }

    /// How many pods the controllers of `pods` want; a controller that is not known makes that unknown.
    fn scale(&self, pods: &[&Pod]) -> Result<Scale, String> {
        let (mut scale, mut counted) = (Scale::default(), BTreeSet::new());
        for pod in pods {
            if pod.metadata.controller().is_none() {
                scale.unmanaged.push(pod.metadata.name.clone());
                continue;
            }
            let found = self.controller(pod);
            let (uid, wanted) = found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.metadata.name))?;
            if counted.insert(uid) {
                scale.pods += wanted;
            }
        }
        Ok(scale)
    }

    /// The controller of a pod with the number of pods it wants: for a ReplicaSet of a Deployment, the Deployment.
    fn controller(&self, pod: &Pod) -> Option<(Box<str>, i64)> {
        let owner = pod.metadata.controller()?;
        let set = self.sets.get(&pods::controller_key(&pod.metadata, "ReplicaSet")?)?;
        if set.metadata.uid != owner.uid {
            return None;
        }
        let Some(above) = set.metadata.controller() else {
            return Some((set.metadata.uid.clone(), set.spec.replicas));
        };
        let deployment = self
            .deployments
            .get(&pods::controller_key(&set.metadata, "Deployment")?)?;
        (deployment.metadata.uid == above.uid).then(|| (deployment.metadata.uid.clone(), deployment.spec.replicas))
    }

    fn tell_counts(&self, budget: &PodDisruptionBudget, pods: &[&Pod], scale: Result<&Scale, &str>) {
        let by_share = !matches!(budget.spec.min_available, Some(crate::view::IntOrString::Int(_)))
            || budget.spec.max_unavailable.is_some();
        match scale {
            _ if pods.is_empty() => self.event(budget, Type::Normal, "NoPods", "No matching pods found".to_owned()),
            Err(why) if by_share => {
                let note = format!("Failed to calculate the number of expected pods: {why}");
                self.event(budget, Type::Warning, "CalculateExpectedPodCountFailed", note);
            }
            Ok(scale) if by_share && !scale.unmanaged.is_empty() => {
                let note = format!(
                    "Pods selected by this PodDisruptionBudget were found to be unmanaged: {}. As a result, the status of the \
                     PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
                     please set \".spec.minAvailable\" field of the PDB to an integer value.",
                    scale.unmanaged.join(", ")
                );
                self.event(budget, Type::Warning, "UnmanagedPods", note);
            }
            _ => {}
        }
    }

    fn tell_not_deleted(&self, budget: &PodDisruptionBudget, pods: &[&Pod], plan: &Plan) {
        for pod in pods.iter().filter(|pod| plan.not_deleted.contains(&pod.metadata.name)) {
            let note = format!(
                "Pod was expected by PDB {} to be deleted but it wasn't",
                budget.metadata.key()
            );
            let regarding = ObjectRef::of(&kinds::POD, &pod.metadata);
            self.context
                .recorder
                .event(&regarding, Type::Warning, "NotDeleted", "", note);
        }
    }

    fn event(&self, budget: &PodDisruptionBudget, type_: Type, reason: &str, note: String) {
        let regarding = ObjectRef::of(&kinds::POD_DISRUPTION_BUDGET, &budget.metadata);
        self.context.recorder.event(&regarding, type_, reason, "", note);
    }

    async fn write(&self, budget: &PodDisruptionBudget, plan: &Plan) -> Result<(), Error> {
        if plan.status == budget.status {
            return Ok(());
        }
        let key = budget.metadata.key();
        let mut whole = self
            .context
            .client
            .get::<api::Object>(&kinds::POD_DISRUPTION_BUDGET, &key)
            .await?;
        if whole.resource_version() != Some(&*budget.metadata.resource_version) {
            // Somebody took from it: the informer will show it, and it is counted anew.
            return Ok(());
        }
        whole.set("status", json!(plan.status));
        let written = self
            .context
            .client
            .replace(&kinds::POD_DISRUPTION_BUDGET, &whole, Some("status"))
            .await;
        match written {
            Ok(written) => self.budgets.wait_written(&written).await,
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
