//! Resizing pods in place (KEP-1287): what a pod is allocated of what its spec asks for, and whether the node has room. Pure.
//!
//! What was allocated last stands in the status, so a restart of the agent forgets nothing: a spec that asks for something
//! else is a resize. One that does not fit leaves the pod as it is allocated, and the pod's condition says so.

use api::Quantity;

use crate::{
    pod::{Amounts, Container, Pod, QuantityText, Role},
    resources::{self, Capacity},
    status::PodStatus,
};

/// Why a resize is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// The node has no room for it now.
    Deferred(String),
    /// The node will never have.
    Infeasible(String),
}

impl Pending {
    /// The condition's reason and message.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Deferred(why) => ("Deferred", why),
            Self::Infeasible(why) => ("Infeasible", why),
        }
    }
}

const RESIZED: [&str; 2] = ["cpu", "memory"];

/// Whether the spec asks for something else than was allocated.
pub(crate) fn is_wanted(pod: &Pod, reported: &PodStatus) -> bool {
    resized(pod, reported).next().is_some()
}

/// Containers whose requests or limits are not those allocated.
fn resized<'a>(pod: &'a Pod, reported: &'a PodStatus) -> impl Iterator<Item = &'a Container> {
    let lasting = pod.lasting_containers().filter(|(role, _)| *role != Role::Init);
    lasting.map(|(_, container)| container).filter(|container| {
        let allocated = reported.container(&container.name).and_then(|s| s.resources.as_deref());
        allocated.is_some_and(|allocated| {
            let differ = |a: &Amounts, b: &Amounts| RESIZED.iter().any(|n| !equal(a.get(n), b.get(n)));
            differ(&container.resources.requests, &allocated.requests)
                || differ(&container.resources.limits, &allocated.limits)
        })
    })
}

fn equal(a: Option<&QuantityText>, b: Option<&QuantityText>) -> bool {
    let amount = |text: Option<&QuantityText>| text.and_then(|t| t.0.parse::<Quantity>().ok());
    match (amount(a), amount(b)) {
        (Some(a), Some(b)) => a.milli() == b.milli(),
        (a, b) => a.is_none() == b.is_none(),
    }
}

/// The pod as it is allocated, and why, if that is not what it asks for. `used`: what the node's other pods request.
pub(crate) fn allocate(pod: &Pod, reported: &PodStatus, node: Capacity, used: Capacity) -> (Pod, Option<Pending>) {
    let wanted = requested(pod);
    let refusal = [
        ("cpu", wanted.cpu_milli, used.cpu_milli, node.cpu_milli),
        ("memory", wanted.memory_bytes, used.memory_bytes, node.memory_bytes),
    ]
    .into_iter()
    .find_map(|(name, wanted, used, all)| {
        if wanted > all {
            let why = format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {all}");
            return Some(Pending::Infeasible(why));
        }
        (wanted.saturating_add(used) > all).then(|| {
            Pending::Deferred(format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {all}"
            ))
        })
    });
    let mut allocated = pod.clone();
    if refusal.is_some() {
        let lists = [&mut allocated.spec.init_containers, &mut allocated.spec.containers];
        for container in lists.into_iter().flatten() {
            if let Some(known) = reported.container(&container.name).and_then(|s| s.resources.as_deref()) {
                container.resources = known.clone();
            }
        }
    }
    (allocated, refusal)
}

/// What a pod requests of processor and memory while it runs.
pub(crate) fn requested(pod: &Pod) -> Capacity {
    let beside = pod.lasting_containers().filter(|(role, _)| *role != Role::Init);
    let mut sum = Capacity::default();
    for (_, container) in beside {
        sum.cpu_milli = sum.cpu_milli.saturating_add(resources::request_milli(container, "cpu"));
        let memory = resources::request_milli(container, "memory") / 1000;
        sum.memory_bytes = sum.memory_bytes.saturating_add(memory);
    }
    sum
}

/// Whether going from one to the other restarts the container.
pub(crate) fn restarts(container: &Container, from: &cri::Resources, to: &cri::Resources) -> bool {
    let policy = |name: &str| {
        let own = container.resize_policy.iter().find(|p| p.resource_name == name);
        own.is_some_and(|p| p.restart_policy == "RestartContainer")
    };
    let cpu = (from.cpu_shares, from.cpu_quota) != (to.cpu_shares, to.cpu_quota);
    let memory = from.memory_limit != to.memory_limit;
    (cpu && policy("cpu")) || (memory && policy("memory"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(resources: Value) -> Pod {
        let container = json!({"name": "c", "resources": resources, "resizePolicy": [
            {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        ]});
        serde_json::from_value(json!({"spec": {"containers": [container]}})).expect("pod")
    }

    fn reported(resources: Value) -> PodStatus {
        serde_json::from_value(json!({"containerStatuses": [{"name": "c", "resources": resources}]})).expect("status")
    }

    #[test]
    fn a_spec_that_differs_from_what_is_allocated_is_a_resize() {
        let old = json!({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}});
        assert!(!is_wanted(&pod(old.clone()), &reported(old.clone())));
        let same = json!({"requests": {"cpu": "0.5"}, "limits": {"memory": "1024Mi"}});
        assert!(!is_wanted(&pod(same), &reported(old.clone())), "written otherwise");
        assert!(
            !is_wanted(&pod(old.clone()), &PodStatus::default()),
            "nothing is allocated yet"
        );
        for new in [
            json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}),
            json!({"requests": {"cpu": "500m"}}),
            json!({"requests": {"cpu": "500m", "memory": "1"}, "limits": {"memory": "1Gi"}}),
        ] {
            assert!(is_wanted(&pod(new.clone()), &reported(old.clone())), "{new}");
        }
    }

    #[test]
    fn what_does_not_fit_stays_as_it_is_allocated() {
        let old = json!({"requests": {"cpu": "500m"}});
        let node = Capacity {
            cpu_milli: 2000,
            memory_bytes: 1 << 30,
            ..Capacity::default()
        };
        let used = Capacity {
            cpu_milli: 1200,
            ..Capacity::default()
        };
        let allocated = |cpu: &str| {
            let (pod, pending) = allocate(
                &pod(json!({"requests": {"cpu": cpu}})),
                &reported(old.clone()),
                node,
                used,
            );
            (requested(&pod).cpu_milli, pending.map(|p| p.parts().0))
        };
        assert_eq!(allocated("800m"), (800, None));
        assert_eq!(allocated("900m"), (500, Some("Deferred")));
        assert_eq!(allocated("3"), (500, Some("Infeasible")));
    }

    #[test]
    fn the_policy_says_what_restarts() {
        let pod = pod(json!({}));
        let limits = |cpu_quota, memory_limit| cri::Resources {
            cpu_quota,
            memory_limit,
            ..cri::Resources::default()
        };
        let container = &pod.spec.containers[0];
        assert!(!restarts(container, &limits(1, 1), &limits(2, 1)));
        assert!(restarts(container, &limits(1, 1), &limits(1, 2)));
    }
}
