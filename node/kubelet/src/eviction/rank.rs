//! Whom a node in need ends first. Pure; the order of Kubernetes' documentation, "Node-pressure Eviction": who uses more
//! than it asked for, then who is less important, then who is further above what it asked for.

use std::cmp::Reverse;

use crate::{
    pod::{Pod, Role},
    resources,
};

/// What a node runs out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Memory,
    Disk,
    Pids,
}

/// A pod and what it uses, bytes.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) pod: &'a Pod,
    pub(super) memory: i64,
    pub(super) disk: i64,
}

/// From here on a pod is critical to the cluster, and is not ended for its node's sake.
const CRITICAL: i32 = 2_000_000_000;

impl Candidate<'_> {
    fn used_and_requested(&self, signal: Signal) -> (i64, i64) {
        let (used, name) = match signal {
            Signal::Memory => (self.memory, "memory"),
            Signal::Disk => (self.disk, "ephemeral-storage"),
            Signal::Pids => return (0, 0),
        };
        let beside = self.pod.lasting_containers().filter(|(role, _)| *role != Role::Init);
        let requested = beside.map(|(_, c)| resources::request_milli(c, name) / 1000).sum();
        (used, requested)
    }
}

/// The pod that goes first, if any may go.
pub(super) fn first<'a>(signal: Signal, candidates: Vec<Candidate<'a>>) -> Option<Candidate<'a>> {
    let may_go = |c: &Candidate<'_>| c.pod.spec.priority < CRITICAL && !c.pod.is_static() && !c.pod.is_deleting();
    candidates.into_iter().filter(may_go).min_by_key(|candidate| {
        let (used, requested) = candidate.used_and_requested(signal);
        let above = used.saturating_sub(requested);
        (
            above <= 0,
            candidate.pod.spec.priority,
            Reverse(above),
            candidate.pod.key(),
        )
    })
}

/// What the chosen pod's containers did to deserve it, as upstream's messages end.
pub(super) fn blame(signal: Signal, chosen: &Candidate<'_>) -> String {
    let (used, requested) = chosen.used_and_requested(signal);
    let resource = match signal {
        Signal::Memory => "memory",
        Signal::Disk => "ephemeral-storage",
        Signal::Pids => return String::new(),
    };
    if used <= requested {
        return String::new();
    }
    let text = |bytes: i64| match bytes {
        0 => "0".to_owned(),
        bytes => api::Quantity::from_bytes(bytes / 1024 * 1024).to_string(),
    };
    let name = chosen.pod.spec.containers.first().map_or("", |c| &c.name);
    format!(
        "Container {name} was using {}, request is {}, has larger consumption of {resource}. ",
        text(used),
        text(requested)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32, memory: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"memory": memory}}});
        let spec = json!({"priority": priority, "containers": [container]});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec})).expect("pod")
    }

    #[test]
    fn who_takes_more_than_it_asked_for_goes_first() {
        let pods = [
            pod("modest", 0, "100"),
            pod("greedy", 0, "10"),
            pod("greediest", 0, "10"),
            pod("important", 100, "1"),
            pod("critical", CRITICAL, "1"),
        ];
        let used = [90, 50, 60, 900, 9000];
        let mut left: Vec<_> = pods
            .iter()
            .zip(used)
            .map(|(pod, memory)| Candidate { pod, memory, disk: 0 })
            .collect();
        let mut order = Vec::new();
        while let Some(chosen) = first(Signal::Memory, left.clone()) {
            order.push(chosen.pod.metadata.name.to_string());
            left.retain(|c| c.pod.metadata.name != chosen.pod.metadata.name);
        }
        assert_eq!(order, ["greediest", "greedy", "important", "modest"]);
    }

    #[test]
    fn the_message_says_what_it_used() {
        let pod = pod("p", 0, "1Mi");
        let chosen = Candidate {
            pod: &pod,
            memory: 3 << 20,
            disk: 0,
        };
        assert_eq!(
            blame(Signal::Memory, &chosen),
            "Container c was using 3Mi, request is 1Mi, has larger consumption of memory. "
        );
        assert_eq!(blame(Signal::Pids, &chosen), "");
    }
}
