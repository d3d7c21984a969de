//! What to do about a ReplicaSet, and what to say of it. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::rank;
use crate::view::{Condition, Pod, ReplicaSet};

/// Pods created or deleted in one go.
const BURST: usize = 500;

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Pods that match and have no controller.
    pub(super) adopt: Vec<Arc<Pod>>,
    /// Pods of ours that match no longer.
    pub(super) release: Vec<Arc<Pod>>,
    pub(super) create: usize,
    pub(super) delete: Vec<Arc<Pod>>,
    /// When a pod that is ready may become available.
    pub(super) again: Option<Duration>,
    /// Our pods that are neither finished nor being deleted.
    active: Vec<Arc<Pod>>,
    terminating: usize,
}

/// `pods` are all of the namespace; `is_sibling` says whether one belongs to a ReplicaSet of the same owner.
pub(super) fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], is_sibling: impl Fn(&Pod) -> bool, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let deleting = set.metadata.is_deleting();
    for pod in pods {
        let matches = set.spec.selector.matches(&pod.metadata.labels);
        match pod.metadata.controller() {
            Some(owner) if owner.uid != set.metadata.uid => {}
            Some(_) if pod.metadata.is_deleting() => plan.terminating += usize::from(!pod.is_finished()),
            Some(_) if !matches && !deleting => plan.release.push(pod.clone()),
            Some(_) if pod.is_active() => plan.active.push(pod.clone()),
            Some(_) => {}
            None if matches && pod.is_active() && !deleting => {
                plan.adopt.push(pod.clone());
                plan.active.push(pod.clone());
            }
            None => {}
        }
    }
    if deleting {
        return plan;
    }
    let wanted = usize::try_from(set.spec.replicas).unwrap_or(0);
    plan.create = wanted.saturating_sub(plan.active.len()).min(BURST);
    let surplus = plan.active.len().saturating_sub(wanted).min(BURST);
    if surplus > 0 {
        let neighbours: Vec<Arc<Pod>> = pods
            .iter()
            .filter(|pod| pod.is_active() && is_sibling(pod))
            .cloned()
            .collect();
        plan.delete = rank::first_to_go(&plan.active, &neighbours, now)
            .into_iter()
            .take(surplus)
            .collect();
    }
    plan.again = next_available(&plan.active, set.spec.min_ready_seconds, now);
    plan
}

/// When the next ready pod will have been ready for long enough.
fn next_available(active: &[Arc<Pod>], min_ready: i64, now: Timestamp) -> Option<Duration> {
    let waiting = active
        .iter()
        .filter(|pod| pod.is_ready() && !pod.is_available(min_ready, now));
    let left = waiting.filter_map(|pod| Some(pod.ready_since()?.as_second() + min_ready - now.as_second()));
    left.min()
        .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)))
}

impl Plan {
    /// The status to write, `None` if it is as it stands. `failure` is the reason and message of what went wrong.
    pub(super) fn status(&self, set: &ReplicaSet, failure: Option<(&str, String)>, now: Timestamp) -> Option<Value> {
        let count = |wanted: &dyn Fn(&Pod) -> bool| {
            i64::try_from(self.active.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i64::MAX)
        };
        let template = &set.spec.template.labels;
        let has_all_labels = |pod: &Pod| {
            template
                .iter()
                .all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
        };
        let mut status = set.status.clone();
        status.replicas = count(&|_| true);
        status.fully_labeled_replicas = count(&has_all_labels);
        status.ready_replicas = count(&Pod::is_ready);
        status.available_replicas = count(&|pod| pod.is_available(set.spec.min_ready_seconds, now));
        status.terminating_replicas = i64::try_from(self.terminating).unwrap_or(i64::MAX);
        status.observed_generation = set.metadata.generation;
        set_failure(&mut status.conditions, failure, now);
        if status == set.status {
            None
        } else {
            serde_json::to_value(status).ok()
        }
    }
}

fn set_failure(conditions: &mut Vec<Condition>, failure: Option<(&str, String)>, now: Timestamp) {
    let Some((reason, message)) = failure else {
        conditions.retain(|condition| &*condition.r#type != "ReplicaFailure");
        return;
    };
    if conditions
        .iter()
        .any(|condition| &*condition.r#type == "ReplicaFailure" && &*condition.reason == reason)
    {
        return;
    }
    conditions.retain(|condition| &*condition.r#type != "ReplicaFailure");
    conditions.push(Condition {
        r#type: "ReplicaFailure".into(),
        status: "True".into(),
        last_update_time: None,
        last_transition_time: Some(now),
        reason: reason.into(),
        message: message.into(),
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(replicas: i64, more: Value) -> ReplicaSet {
        let mut value = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "rs", "generation": 2},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}}},
        });
        for (key, value_of) in more.as_object().unwrap() {
            value["spec"][key] = value_of.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn pod(name: &str, owner: Option<&str>, app: &str, status: Value) -> Arc<Pod> {
        let owners: Vec<Value> = owner
            .iter()
            .map(|uid| json!({"uid": uid, "controller": true}))
            .collect();
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "labels": {"app": app}, "ownerReferences": owners},
                "status": status,
            }))
            .unwrap(),
        )
    }

    fn ready(since: i64) -> Value {
        let since = api::time::rfc3339(Timestamp::from_second(since).unwrap());
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]})
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| &*pod.metadata.name).collect()
    }

    #[test]
    fn claims_orphans_that_match_and_releases_what_does_not() {
        let pods = [
            pod("mine", Some("rs"), "web", json!({})),
            pod("orphan", None, "web", json!({})),
            pod("strayed", Some("rs"), "db", json!({})),
            pod("other", Some("other"), "web", json!({})),
            pod("finished", Some("rs"), "web", json!({"phase": "Failed"})),
        ];
        let plan = plan(&set(3, json!({})), &pods, |_| false, at(0));
        assert_eq!(
            (names(&plan.adopt), names(&plan.release), plan.create),
            (vec!["orphan"], vec!["strayed"], 1)
        );
    }

    #[test]
    fn the_status_counts_and_is_written_only_when_it_changes() {
        let mut set = set(2, json!({"minReadySeconds": 10}));
        let pods = [
            pod("a", Some("rs"), "web", ready(0)),
            pod("b", Some("rs"), "web", ready(95)),
        ];
        let plan = plan(&set, &pods, |_| false, at(100));
        let status = plan.status(&set, None, at(100)).unwrap();
        assert_eq!(
            status,
            json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 1,
            "terminatingReplicas": 0, "observedGeneration": 2, "conditions": []})
        );
        assert_eq!(plan.again, Some(Duration::from_secs(5)));
        set.status = serde_json::from_value(status).unwrap();
        assert_eq!(plan.status(&set, None, at(100)), None);
        let failed = plan
            .status(&set, Some(("FailedCreate", "quota".into())), at(100))
            .unwrap();
        assert_eq!(failed["conditions"][0]["reason"], "FailedCreate");
    }

    #[test]
    fn a_set_that_is_deleted_touches_nothing() {
        let mut set = set(3, json!({}));
        set.metadata.deletion_timestamp = Some(at(1));
        let plan = plan(&set, &[pod("orphan", None, "web", json!({}))], |_| false, at(2));
        assert_eq!((plan.create, plan.adopt.len(), plan.delete.len()), (0, 0, 0));
    }

    proptest! {
        /// Carrying out the plan gives exactly the replicas asked for, and a second plan has nothing to do.
        #[test]
        fn one_plan_is_enough(replicas in 0i64..8, pods in prop::collection::vec((any::<bool>(), 0i64..50), 0..12)) {
            let set = set(replicas, json!({}));
            let mut pods: Vec<Arc<Pod>> = pods.iter().enumerate()
                .map(|(n, (owned, since))| pod(&format!("p{n}"), owned.then_some("rs"), "web", ready(*since))).collect();
            let first = plan(&set, &pods, |_| false, at(100));
            prop_assert!(first.create == 0 || first.delete.is_empty());
            pods.retain(|pod| !first.delete.iter().any(|gone| gone.metadata.uid == pod.metadata.uid));
            for adopted in &first.adopt {
                if let Some(at) = pods.iter().position(|pod| pod.metadata.uid == adopted.metadata.uid) {
                    pods[at] = pod(&adopted.metadata.name, Some("rs"), "web", ready(0));
                }
            }
            pods.extend((0..first.create).map(|n| pod(&format!("new{n}"), Some("rs"), "web", json!({}))));
            let second = plan(&set, &pods, |_| false, at(100));
            prop_assert_eq!(i64::try_from(second.active.len()).unwrap(), replicas);
            prop_assert_eq!((second.create, second.delete.len(), second.adopt.len()), (0, 0, 0));
        }
    }
}
