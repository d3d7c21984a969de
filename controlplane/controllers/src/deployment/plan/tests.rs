//! Rollouts simulated in memory: a Deployment, its ReplicaSets and their pods, in random order of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::view::Template;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A little cluster: sizes asked for by the plan, and pods that follow.
struct World {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    second: i64,
    log: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut value = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}},
        });
        for (key, part) in spec.as_object().unwrap() {
            value["spec"][key] = part.clone();
        }
        let mut world = Self {
            deployment: serde_json::from_value(value).unwrap(),
            sets: BTreeMap::new(),
            second: 0,
            log: vec![],
        };
        world.set_image("v1");
        world
    }

    fn set_image(&mut self, image: &str) {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}});
        self.deployment.spec.template = Template::of(&template);
        self.deployment.metadata.generation += 1;
    }

    fn plan(&self) -> Plan {
        let sets: Vec<_> = self.sets.values().cloned().map(Arc::new).collect();
        let runs = |sets: &[&ReplicaSet]| sets.iter().any(|set| set.status.replicas > 0);
        plan(&self.deployment, &sets, runs, at(self.second))
    }

    /// One reconcile; whether it changed anything.
    fn reconcile(&mut self) -> bool {
        self.second += 1;
        let plan = self.plan();
        let acts = !plan.steps.is_empty() || plan.status.is_some();
        plan.steps.into_iter().for_each(|step| self.obey(step));
        if let Some(status) = plan.status {
            self.deployment.status = status;
        }
        acts
    }

    fn obey(&mut self, step: Step) {
        match step {
            Step::Create {
                name,
                replicas,
                annotations,
                ..
            } => {
                self.log.push(format!("create {replicas}"));
                let metadata = json!({
                    "name": name, "namespace": "ns", "uid": name, "generation": 1, "labels": {"app": "web"},
                    "creationTimestamp": at(self.second).to_string(), "annotations": annotations,
                    "ownerReferences": [{"uid": "d", "kind": "Deployment", "name": "web", "controller": true}],
                });
                let mut set: ReplicaSet = serde_json::from_value(json!({"metadata": metadata})).unwrap();
                set.spec.replicas = replicas;
                set.spec.template = self.deployment.spec.template.clone();
                set.spec.selector = self.deployment.spec.selector.clone();
                assert!(self.sets.insert(name, set).is_none());
            }
            Step::Change {
                set,
                replicas,
                annotations,
                min_ready_seconds,
            } => {
                let live = self.sets.get_mut(&*set.metadata.name).unwrap();
                let mut all: BTreeMap<String, String> = live
                    .metadata
                    .annotations
                    .iter()
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect();
                all.extend(annotations);
                live.metadata.annotations = all.into_iter().collect();
                if let Some(replicas) = replicas {
                    self.log.push(format!("{} to {replicas}", live.spec.replicas));
                    live.spec.replicas = replicas;
                    live.metadata.generation += 1;
                }
                live.spec.min_ready_seconds = min_ready_seconds.unwrap_or(live.spec.min_ready_seconds);
            }
            Step::Delete(set) => {
                self.sets.remove(&*set.metadata.name);
            }
            Step::SetRevision(revision) => {
                self.deployment.metadata.annotations =
                    [(annotations::REVISION, revision.to_string())].into_iter().collect();
            }
            Step::Adopt(_) | Step::Release(_) => unreachable!(),
        }
    }

    /// The ReplicaSet controller and the kubelet do something about the n-th set: pods come, go, or become available.
    fn pods_move(&mut self, n: usize, works: impl Fn(&ReplicaSet) -> bool) {
        let count = self.sets.len();
        let Some(set) = self.sets.values_mut().nth(n % count.max(1)) else {
            return;
        };
        let works = works(set);
        let (wanted, status) = (set.spec.replicas, &mut set.status);
        status.observed_generation = set.metadata.generation;
        if status.replicas < wanted {
            status.replicas = wanted;
        } else if status.replicas > wanted {
            // pods that are not ready go first
            status.replicas = wanted;
            status.available_replicas = status.available_replicas.min(wanted);
        } else if works && status.available_replicas < wanted {
            status.available_replicas += 1;
        }
        status.ready_replicas = status.available_replicas;
        status.fully_labeled_replicas = status.replicas;
    }

    fn settle(&mut self) {
        for _ in 0..500 {
            let mut quiet = !self.reconcile();
            for n in 0..self.sets.len() {
                let before: Vec<_> = self.sets.values().map(|set| set.status.clone()).collect();
                self.pods_move(n, |_| true);
                quiet &= self.sets.values().map(|set| set.status.clone()).eq(before);
            }
            if quiet {
                return;
            }
        }
        panic!("never settles: {:?}", self.log);
    }

    fn sizes(&self) -> Vec<i64> {
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|set| annotations::revision(&set.metadata.annotations));
        sets.iter().map(|set| set.spec.replicas).collect()
    }

    fn condition(&self, name: &str) -> (String, String) {
        let found = self.deployment.status.conditions.iter().find(|c| &*c.r#type == name);
        found
            .map(|c| (c.status.to_string(), c.reason.to_string()))
            .unwrap_or_default()
    }
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_first_rollout_completes_and_says_so() {
    let mut world = World::new(json!({}));
    world.reconcile();
    assert_eq!(world.log, ["create 3"]);
    assert_eq!(world.condition("Progressing"), pair("True", "NewReplicaSetCreated"));
    assert_eq!(
        world.condition("Available"),
        pair("False", "MinimumReplicasUnavailable")
    );
    world.settle();
    assert_eq!(world.condition("Progressing"), pair("True", "NewReplicaSetAvailable"));
    assert_eq!(world.condition("Available"), pair("True", "MinimumReplicasAvailable"));
    let status = &world.deployment.status;
    assert_eq!(
        (status.replicas, status.updated_replicas, status.available_replicas),
        (3, 3, 3)
    );
    assert_eq!(status.observed_generation, world.deployment.metadata.generation);
    assert!(!world.reconcile(), "nothing is left to do");
}

#[test]
fn an_update_rolls_and_an_undo_makes_the_old_set_new_again() {
    let mut world = World::new(json!({}));
    world.settle();
    world.set_image("v2");
    world.settle();
    assert_eq!(world.sizes(), [0, 3]);
    world.set_image("v1");
    world.settle();
    assert_eq!((world.sets.len(), world.sizes()), (2, vec![0, 3]));
    let newest = world
        .sets
        .values()
        .max_by_key(|set| annotations::revision(&set.metadata.annotations))
        .unwrap();
    assert_eq!(newest.metadata.annotations.get(annotations::REVISION), Some("3"));
    assert_eq!(
        newest.metadata.annotations.get(annotations::REVISION_HISTORY),
        Some("1")
    );
    assert_eq!(
        world.deployment.metadata.annotations.get(annotations::REVISION),
        Some("3")
    );
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate"}}));
    world.settle();
    world.set_image("v2");
    world.reconcile();
    assert_eq!(world.sizes(), [0]);
    world.reconcile();
    assert_eq!(world.sets.len(), 1, "old pods still run");
    world.settle();
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(json!({}));
    world.settle();
    world.deployment.spec.paused = true;
    world.set_image("v2");
    world.deployment.spec.replicas = 5;
    world.settle();
    assert_eq!((world.sets.len(), world.sizes()), (1, vec![5]));
    assert_eq!(world.condition("Progressing"), pair("Unknown", "DeploymentPaused"));
    world.deployment.spec.paused = false;
    world.reconcile();
    assert_ne!(world.condition("Progressing"), pair("Unknown", "DeploymentPaused"));
    world.settle();
    assert_eq!(world.sizes(), [0, 5]);
}

#[test]
fn a_rollout_that_does_not_get_on_times_out_and_recovers() {
    let mut world = World::new(json!({}));
    world.settle();
    world.set_image("broken");
    let broken = world.deployment.spec.template.digest;
    for round in 0..40 {
        world.reconcile();
        world.pods_move(round, |set| set.spec.template.digest != broken);
    }
    let again = world.plan().again.unwrap();
    world.second += i64::try_from(again.as_secs()).unwrap();
    world.reconcile();
    assert_eq!(
        world.condition("Progressing"),
        pair("False", "ProgressDeadlineExceeded")
    );
    assert_eq!(world.condition("Available"), pair("True", "MinimumReplicasAvailable"));
    world.set_image("v1");
    world.settle();
    assert_eq!(world.condition("Progressing"), pair("True", "NewReplicaSetAvailable"));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared() {
    let mut world = World::new(json!({"replicas": 10, "strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    world.settle();
    world.set_image("broken");
    for _ in 0..10 {
        world.reconcile();
        for n in 0..2 {
            world.pods_move(n, |set| set.spec.replicas >= 8);
        }
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.deployment.spec.replicas = 15;
    world.reconcile();
    assert_eq!(
        world.sizes(),
        [11, 7],
        "3 and 2 of the 5 more, as Kubernetes' documentation works it out"
    );
}

#[test]
fn history_is_kept_up_to_its_limit() {
    let mut world = World::new(json!({"revisionHistoryLimit": 2}));
    for version in 0..6 {
        world.set_image(&format!("v{version}"));
        world.settle();
    }
    assert_eq!(world.sets.len(), 3);
    let mut revisions: Vec<_> = world
        .sets
        .values()
        .map(|s| annotations::revision(&s.metadata.annotations))
        .collect();
    revisions.sort();
    assert_eq!(revisions, [4, 5, 6]);
}

#[test]
fn a_collision_changes_the_name() {
    let world = World::new(json!({}));
    let first = template_hash(&world.deployment);
    let mut counted = world.deployment.clone();
    counted.status.collision_count = Some(1);
    assert_ne!(first, template_hash(&counted));
    assert_eq!(first, template_hash(&world.deployment));
}

#[test]
fn the_new_set_carries_the_hash_everywhere() {
    let live = Object::from_value(
        json!({"spec": {"minReadySeconds": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web", "a.b/c": "d"}}, "spec": {"containers": []}}}}),
    )
    .unwrap();
    let world = World::new(json!({}));
    let set = new_set(&live, &world.deployment.metadata, "web-h", "h", 2, &Annotations::new()).into_value();
    assert_eq!(
        set["metadata"]["labels"],
        json!({"app": "web", "a.b/c": "d", "pod-template-hash": "h"})
    );
    assert_eq!(
        set["spec"]["selector"]["matchLabels"],
        json!({"app": "web", "pod-template-hash": "h"})
    );
    assert_eq!(set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"], "h");
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "d");
}

#[derive(Clone, Debug)]
enum Event {
    Reconcile,
    Pods(usize),
    Image(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Reconcile),
        8 => (0usize..6).prop_map(Event::Pods),
        1 => (0u8..4).prop_map(Event::Image),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens in whatever order: no plan asks for more pods than the surge allows, none takes away more than
    /// may be unavailable, and in the end there is one ReplicaSet of the right size.
    #[test]
    fn a_rolling_update_keeps_its_promises(
        replicas in 1i64..9, surge in 0i64..4, unavailable in 0i64..4, events in prop::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(json!({"replicas": replicas, "strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}));
        world.settle();
        let (surge, unavailable) = bounds(&world.deployment);
        for event in events {
            match event {
                Event::Image(n) => world.set_image(&format!("v{n}")),
                Event::Pods(n) => world.pods_move(n, |_| true),
                Event::Reconcile => {
                    world.reconcile();
                }
            }
            let asked: i64 = world.sets.values().map(|set| set.spec.replicas).sum();
            prop_assert!(asked <= replicas + surge, "{asked} pods: {:?}", world.log);
            // what stays available if every surplus pod that works is removed
            let available: i64 = world.sets.values().map(|s| s.status.available_replicas.min(s.spec.replicas)).sum();
            prop_assert!(available >= replicas - unavailable, "{available} available: {:?}", world.log);
        }
        world.settle();
        let active: Vec<_> = world.sets.values().filter(|set| set.spec.replicas > 0).collect();
        prop_assert_eq!(active.len(), 1);
        prop_assert_eq!(active[0].spec.replicas, replicas);
        prop_assert_eq!(active[0].spec.template.digest, world.deployment.spec.template.digest);
    }

    /// Scaling up and down in the middle of rollouts ends at the size asked for.
    #[test]
    fn scaling_converges(sizes in prop::collection::vec((0i64..12, 0u8..3, 0usize..12), 1..8)) {
        let mut world = World::new(json!({"strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}));
        world.settle();
        for (replicas, image, rounds) in sizes {
            world.deployment.spec.replicas = replicas;
            world.set_image(&format!("v{image}"));
            for round in 0..rounds {
                world.reconcile();
                world.pods_move(round, |_| true);
            }
        }
        world.settle();
        prop_assert_eq!(world.sizes().iter().sum::<i64>(), world.deployment.spec.replicas);
        prop_assert_eq!(world.deployment.status.available_replicas, world.deployment.spec.replicas);
    }
}
