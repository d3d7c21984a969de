//! Amounts of resources, and what a pod asks for.

use std::collections::BTreeMap;

use api::Quantity;
use serde::{Deserialize, Deserializer};

/// Amounts as a node has them or a pod asks for them: milli-CPU, bytes, counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceList {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral_storage: i64,
    pub(crate) pods: i64,
    /// Extended resources and huge pages, by name.
    pub(crate) extended: BTreeMap<Box<str>, i64>,
}

impl ResourceList {
    fn set(&mut self, name: &str, amount: &Quantity) {
        match name {
            "cpu" => self.milli_cpu = amount.milli(),
            "memory" => self.memory = amount.value(),
            "ephemeral-storage" => self.ephemeral_storage = amount.value(),
            "pods" => self.pods = amount.value(),
            _ => {
                self.extended.insert(name.into(), amount.value());
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger of each.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let held = self.extended.entry(name.clone()).or_default();
            *held = with(*held, *amount);
        }
    }
}

impl<'de> Deserialize<'de> for ResourceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Self::default();
        for (name, amount) in Option::<BTreeMap<String, Quantity>>::deserialize(deserializer)?.unwrap_or_default() {
            list.set(&name, &amount);
        }
        Ok(list)
    }
}

/// CPU and memory that scoring assumes of a container which asks for none: 0.1 CPU and 200 MB.
const ASSUMED_MILLI_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 * 1024 * 1024;

/// What a pod asks for, as filters count it, and as scores count it (with assumed amounts where it says nothing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) exact: ResourceList,
    pub(crate) scored_milli_cpu: i64,
    pub(crate) scored_memory: i64,
}

/// A container's part in the sum.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerResources {
    pub(crate) restart_policy: Box<str>,
    pub(crate) resources: ResourceRequirements,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResourceRequirements {
    pub(crate) requests: Option<ResourceList>,
}

impl Requests {
    /// The effective request of a pod (KEP-753, sidecar containers): the containers and all sidecars together, or the
    /// largest moment of initialisation if that is more, plus the overhead. `pod` are pod-level requests (KEP-2837),
    /// which take the containers' place for what they name.
    pub(crate) fn of_pod(
        init: &[ContainerResources],
        containers: &[ContainerResources],
        overhead: Option<&ResourceList>,
        pod: Option<&ResourceList>,
    ) -> Self {
        let exact = effective(init, containers, |c| c.resources.requests.clone().unwrap_or_default());
        let scored = effective(init, containers, assumed);
        let (mut exact, mut scored) = (exact, scored);
        if let Some(pod) = pod {
            for list in [&mut exact, &mut scored] {
                override_by(list, pod);
            }
        }
        if let Some(overhead) = overhead {
            exact.add(overhead);
            scored.add(overhead);
        }
        Self {
            exact,
            scored_milli_cpu: scored.milli_cpu,
            scored_memory: scored.memory,
        }
    }
}

fn assumed(container: &ContainerResources) -> ResourceList {
    let mut list = container.resources.requests.clone().unwrap_or_default();
    if list.milli_cpu == 0 {
        list.milli_cpu = ASSUMED_MILLI_CPU;
    }
    if list.memory == 0 {
        list.memory = ASSUMED_MEMORY;
    }
    list
}

fn override_by(list: &mut ResourceList, pod: &ResourceList) {
    if pod.milli_cpu > 0 {
        list.milli_cpu = pod.milli_cpu;
    }
    if pod.memory > 0 {
        list.memory = pod.memory;
    }
    for (name, amount) in pod.extended.iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        list.extended.insert(name.clone(), *amount);
    }
}

fn effective(
    init: &[ContainerResources],
    containers: &[ContainerResources],
    of: impl Fn(&ContainerResources) -> ResourceList,
) -> ResourceList {
    let (mut sidecars, mut most) = (ResourceList::default(), ResourceList::default());
    for container in init {
        let request = of(container);
        if &*container.restart_policy == "Always" {
            sidecars.add(&request);
            most.raise_to(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&request);
            most.raise_to(&moment);
        }
    }
    let mut running = sidecars;
    containers.iter().for_each(|container| running.add(&of(container)));
    running.raise_to(&most);
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: serde_json::Value) -> ContainerResources {
        serde_json::from_value(json).unwrap()
    }

    fn cpu(amount: &str) -> ContainerResources {
        container(serde_json::json!({"resources": {"requests": {"cpu": amount}}}))
    }

    fn sidecar(amount: &str) -> ContainerResources {
        container(serde_json::json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": amount}}}))
    }

    #[test]
    fn effective_requests() {
        for (init, containers, milli) in [
            (vec![], vec![cpu("1"), cpu("500m")], 1500),
            (vec![cpu("2")], vec![cpu("1")], 2000),
            (vec![cpu("1"), cpu("3")], vec![cpu("1")], 3000),
            (vec![sidecar("1")], vec![cpu("1")], 2000),
            (vec![sidecar("1"), cpu("3")], vec![cpu("1")], 4000),
            (vec![cpu("3"), sidecar("1")], vec![cpu("1")], 3000),
        ] {
            assert_eq!(Requests::of_pod(&init, &containers, None, None).exact.milli_cpu, milli);
        }
    }

    #[test]
    fn pod_level_requests_and_overhead() {
        let list = |json: serde_json::Value| serde_json::from_value::<ResourceList>(json).unwrap();
        let overhead = list(serde_json::json!({"cpu": "250m", "memory": "1Ki"}));
        let pod = list(serde_json::json!({"cpu": "4"}));
        let requests = Requests::of_pod(&[], &[cpu("1")], Some(&overhead), Some(&pod));
        assert_eq!((requests.exact.milli_cpu, requests.exact.memory), (4250, 1024));
    }

    #[test]
    fn scoring_assumes_something_of_a_container_that_asks_for_nothing() {
        let requests = Requests::of_pod(&[], &[ContainerResources::default()], None, None);
        assert_eq!(
            (requests.exact.milli_cpu, requests.scored_milli_cpu),
            (0, ASSUMED_MILLI_CPU)
        );
        assert_eq!(requests.scored_memory, ASSUMED_MEMORY);
    }
}
